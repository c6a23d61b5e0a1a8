"""How each framework takes the steps of a workload; it is imported in the constructor of its class only."""

from __future__ import annotations

import importlib
import os
import platform
import time
from typing import Any

import numpy as np

from . import keras_models
from .workloads import BATCHES, Workload

LEARNING_RATE = 1e-3


class Framework:
    """One workload in one framework: the constructor builds it, :meth:`step` does the work once.

    Attributes:
        packages: whose versions the report names.
        caches: whether compiled code is kept on disk, so that a second process starts faster.
        backend: that of Keras.
    """

    packages: tuple[str, ...] = ()
    caches = False
    backend: str | None = None

    def __init__(self, workload: Workload, threads: int):
        raise NotImplementedError

    def step(self, index: int) -> Any:
        """Do one step on batch ``index`` and wait for its end; the loss, or for inference the outputs."""
        raise NotImplementedError

    def times(self, start: int, count: int) -> list[float]:
        """Seconds of each of ``count`` steps."""
        found = []
        for index in range(start, start + count):
            before = time.perf_counter()
            self.step(index % BATCHES)
            found.append(time.perf_counter() - before)
        return found

    def parameters(self) -> int:
        """Number of trainable parameters."""
        raise NotImplementedError

    def get_weights(self) -> list[np.ndarray]:
        """The trainable weights; for the frameworks with Keras' layout."""
        raise NotImplementedError

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Take over weights in Keras' layout and order."""
        raise NotImplementedError


class KerasLike(Framework):
    """What tenzoo and Keras share: the model, the optimizer and the loss."""

    def _build(self, library: Any, workload: Workload) -> None:
        self.workload = workload
        self.data = workload.batches()
        self.model = keras_models.build(library, workload)
        if workload.loss:
            self.loss = keras_models.loss(library, workload)
            self.optimizer = library.optimizers.Adam(LEARNING_RATE)

    def _variables(self) -> list:
        return self.model.trainable_variables

    def parameters(self):
        return sum(int(np.prod(variable.shape)) for variable in self._variables())

    def get_weights(self):
        return [np.array(variable) for variable in self._variables()]

    def set_weights(self, weights):
        for variable, weight in zip(self._variables(), weights, strict=True):
            variable.assign(weight.reshape(variable.shape))


class Tenzoo(KerasLike):
    """tenzoo: a step compiled by jit, as one writes it for a loop of one's own."""

    packages = ("tenzoo", "numpy", "llvmlite")
    caches = True

    def __init__(self, workload, threads):
        import tenzoo as tz
        from tenzoo.core import jit

        self._build(tz, workload)
        model = self.model
        if not workload.loss:
            self.function = jit(lambda x: model(x, training=False))
            return
        loss_of, optimizer, variables = self.loss, self.optimizer, model.trainable_variables
        optimizer.build(variables)

        def train_step(x, y):
            with tz.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        self.function = jit(train_step)

    def arguments(self, index: int) -> tuple:
        """What the compiled function takes for a batch."""
        return self.data[index] if self.workload.loss else self.data[index][:1]

    def step(self, index):
        result = self.function(*self.arguments(index))
        return float(result) if self.workload.loss else result


class TenzooFit(KerasLike):
    """tenzoo: ``fit`` without shuffling; for inference ``predict``.

    The times are those of a whole call, shared out evenly.
    """

    packages = Tenzoo.packages
    caches = True

    def __init__(self, workload, threads):
        import tenzoo as tz

        self._build(tz, workload)
        if workload.loss:
            self.model.compile(optimizer=self.optimizer, loss=self.loss)

    def times(self, start, count):
        order = [index % BATCHES for index in range(start, start + count)]
        x = np.concatenate([self.data[index][0] for index in order])
        y = np.concatenate([self.data[index][1] for index in order])
        before = time.perf_counter()
        self._run(x, y)
        return [(time.perf_counter() - before) / count] * count

    def step(self, index):
        return self._run(*self.data[index])

    def _run(self, x, y):
        size = self.workload.batch
        if not self.workload.loss:
            return self.model.predict(x, batch_size=size, verbose=0)
        history = self.model.fit(x, y, batch_size=size, shuffle=False, verbose=0)
        return history.history["loss"][-1]


class Keras(KerasLike):
    """Keras: ``train_on_batch`` and ``predict_on_batch``, which it compiles where its backend can."""

    def __init__(self, workload, threads):
        if self.backend == "torch":
            import torch

            torch.set_num_threads(threads)
        elif self.backend == "tensorflow":
            import tensorflow

            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        import keras

        self._build(keras, workload)
        if workload.loss:
            self.model.compile(optimizer=self.optimizer, loss=self.loss)

    def step(self, index):
        x, y = self.data[index]
        if not self.workload.loss:
            return self.model.predict_on_batch(x)
        self.model.reset_metrics()  # the loss that comes back is a mean over the steps since
        return float(self.model.train_on_batch(x, y))


class KerasJax(Keras):
    backend = "jax"
    packages = ("keras", "jax")


class KerasTensorflow(Keras):
    backend = "tensorflow"
    packages = ("keras", "tensorflow")


class KerasTorch(Keras):
    backend = "torch"
    packages = ("keras", "torch")


class Jax(KerasLike):
    """JAX: the step as one jitted pure function with donated buffers, of the layers and the Adam of Keras."""

    backend = "jax"
    packages = ("keras", "jax")

    def __init__(self, workload, threads):
        import jax
        import keras

        self._build(keras, workload)
        self.jax, model = jax, self.model
        self.data = [(jax.numpy.asarray(x), jax.numpy.asarray(y)) for x, y in self.data]
        self.state = None
        if not workload.loss:
            self.function = jax.jit(lambda state, x: model.stateless_call(*state, x, training=False)[0])
            return
        loss_of, optimizer = self.loss, self.optimizer
        optimizer.build(model.trainable_variables)

        def compute(trainable, fixed, x, y):
            outputs, fixed = model.stateless_call(trainable, fixed, x, training=True)
            return loss_of(y, outputs), fixed

        def train_step(state, x, y):
            trainable, fixed, slots = state
            gradient = jax.value_and_grad(compute, has_aux=True)
            (loss, fixed), gradients = gradient(trainable, fixed, x, y)
            trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
            return (trainable, fixed, slots), loss

        self.function = jax.jit(train_step, donate_argnums=0)

    def _initial_state(self) -> tuple:
        groups = [self.model.trainable_variables, self.model.non_trainable_variables]
        if self.workload.loss:
            groups.append(self.optimizer.variables)
        return tuple([variable.value for variable in group] for group in groups)

    def step(self, index):
        x, y = self.data[index]
        self.state = self._initial_state() if self.state is None else self.state
        if not self.workload.loss:
            return self.jax.block_until_ready(self.function(self.state, x))
        self.state, loss = self.function(self.state, x, y)
        self.jax.block_until_ready(self.state)
        return float(loss)


class Torch(Framework):
    """PyTorch, eager."""

    packages = ("torch",)
    fused: bool | None = None  # PyTorch's own choice: on a CPU, one kernel for every operation of the optimizer

    def __init__(self, workload, threads):
        import torch

        from . import torch_models

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch, self.workload = torch, workload
        self.model = self.network = torch_models.build(workload)
        self.model.train(workload.loss is not None)
        self.load = torch_models.load_keras_weights
        self.data = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in workload.batches()]
        if workload.loss == "classes":
            self.data = [(x, y.long()) for x, y in self.data]  # what its cross-entropy takes
        if workload.loss:
            parameters = self.model.parameters()
            self.optimizer = torch.optim.Adam(parameters, LEARNING_RATE, eps=1e-7, fused=self.fused)  # the eps of Keras

    def step(self, index):
        x, y = self.data[index]
        if not self.workload.loss:
            with self.torch.inference_mode():
                return self.network(x)
        functional = self.torch.nn.functional
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self.network(x)
        if self.workload.loss == "binary":
            loss = functional.binary_cross_entropy_with_logits(outputs, y)
        else:
            loss = functional.cross_entropy(outputs.flatten(0, -2), y.flatten())
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def parameters(self):
        return sum(parameter.numel() for parameter in self.model.parameters())

    def set_weights(self, weights):
        self.load(self.model, weights)


class TorchFused(Torch):
    """PyTorch with its fused optimizer, which one has to ask for."""

    fused = True


class OnnxRuntime(Torch):
    """PyTorch's model exported to ONNX; inference only."""

    packages = ("torch", "onnxruntime")

    def __init__(self, workload, threads):
        import io

        import onnxruntime

        super().__init__(workload, threads)
        if workload.loss:
            raise ValueError("ONNX Runtime is timed at inference.")
        program = self.torch.onnx.export(self.model, (self.data[0][0],), dynamo=True, verbose=False)
        stream = io.BytesIO()
        program.save(stream)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(stream.getvalue(), options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def step(self, index):
        return self.session.run(None, {self.name: self.data[index][0].numpy()})


class TorchCompile(Torch):
    """PyTorch with torch.compile."""

    caches = True

    def __init__(self, workload, threads):
        super().__init__(workload, threads)
        self.network = self.torch.compile(self.model)


FRAMEWORKS: dict[str, type[Framework]] = {
    "tenzoo": Tenzoo,
    "tenzoo-fit": TenzooFit,
    "torch": Torch,
    "torch-fused": TorchFused,
    "torch-compile": TorchCompile,
    "onnxruntime": OnnxRuntime,
    "keras-jax": KerasJax,
    "keras-tf": KerasTensorflow,
    "keras-torch": KerasTorch,
    "jax": Jax,
}


def framework(name: str) -> type[Framework]:
    """The class of a framework, with the environment as it needs it."""
    kind = FRAMEWORKS[name]
    if kind.backend:
        os.environ["KERAS_BACKEND"] = kind.backend
    return kind


def versions(name: str) -> dict[str, str]:
    """Versions of Python and of a framework's packages, all of which are imported: raises ImportError."""
    from importlib.metadata import version

    packages = framework(name).packages
    for package in packages:
        importlib.import_module(package)
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}
