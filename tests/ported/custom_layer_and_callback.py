"""Layers and callbacks of one's own, saved and loaded: a Keras script of which only the import was changed."""

import os
import tempfile

import numpy as np

import tenzoo as keras

ops = keras.ops
keras.utils.set_random_seed(11)


@keras.utils.register_keras_serializable(package="ported")
class Linear(keras.layers.Layer):
    def __init__(self, units=32, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True, name="w"
        )
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", trainable=True, name="b")

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b

    def get_config(self):
        config = super().get_config()
        config.update({"units": self.units})
        return config


@keras.utils.register_keras_serializable(package="ported")
class ActivityRegularizationLayer(keras.layers.Layer):
    def __init__(self, rate=1e-2, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

    def call(self, inputs, training=False):
        self.add_loss(self.rate * ops.mean(ops.square(inputs)))
        if training:
            self.seen.assign_add(1.0)
        return inputs

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


class EarlyStoppingAtMinLoss(keras.callbacks.Callback):
    """Stop training when the loss is at its min, i.e. the loss stops decreasing."""

    def __init__(self, patience=0):
        super().__init__()
        self.patience = patience
        self.best_weights = None
        self.events = []

    def on_train_begin(self, logs=None):
        self.wait = 0
        self.stopped_epoch = 0
        self.best = np.inf
        self.events.append("train")

    def on_train_batch_end(self, batch, logs=None):
        if batch % 4 == 0:
            self.events.append(f"batch {batch}")

    def on_epoch_end(self, epoch, logs=None):
        self.events.append(f"epoch {epoch}: {sorted(logs)}")
        current = logs.get("loss")
        if np.less(current, self.best):
            self.best = current
            self.wait = 0
            self.best_weights = self.model.get_weights()
        else:
            self.wait += 1
            if self.wait >= self.patience:
                self.stopped_epoch = epoch
                self.model.stop_training = True
                self.model.set_weights(self.best_weights)


def lr_schedule(epoch, lr):
    return 0.05 if epoch < 3 else lr * 0.7


model = keras.Sequential(
    [
        keras.Input(shape=(3,)),
        Linear(16),
        keras.layers.Activation("tanh"),
        ActivityRegularizationLayer(1e-3),
        Linear(1),
    ]
)
model.compile(optimizer="adam", loss="mse", metrics=["mae"])
x = np.random.default_rng(0).normal(size=(256, 3)).astype("float32")
y = (x[:, :1] * 2 - x[:, 1:2] + 0.5).astype("float32")

stopping = EarlyStoppingAtMinLoss(patience=2)
history = model.fit(
    x,
    y,
    batch_size=32,
    epochs=12,
    callbacks=[stopping, keras.callbacks.LearningRateScheduler(lr_schedule)],
    verbose=0,
)
path = os.path.join(tempfile.mkdtemp(), "model.keras")
model.save(path)
loaded = keras.models.load_model(path)
difference = np.abs(loaded.predict(x, verbose=0) - model.predict(x, verbose=0)).max()
