"""Gradients: the transforms, the tape, recomputation, custom rules, any order."""

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import DtypeError, GradientTape, ShapeError, Variable, ops, tensor
from tenzoo.core.primitives.reduction import cumprod


def finite_difference(function, point, step=1e-6):
    point = np.asarray(point, np.float64)
    result = np.zeros(point.shape)
    for place in np.ndindex(point.shape):
        ahead, behind = point.copy(), point.copy()
        ahead[place] += step
        behind[place] -= step
        result[place] = (float(function(tensor(ahead))) - float(function(tensor(behind)))) / (2 * step)
    return result


def close(a, b, tolerance=1e-6):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), tolerance, tolerance)


POINT = np.array([0.3, -1.2, 2.0])


class TestTransforms:
    def test_grad_and_value(self):
        value, gradient = core.value_and_grad(lambda x: ops.sum(ops.sin(x) * x))(tensor(POINT))
        close(value, np.sum(np.sin(POINT) * POINT))
        close(gradient, np.cos(POINT) * POINT + np.sin(POINT))

    def test_argnums_and_trees(self):
        def loss(parameters, x, scale):
            return ops.sum(parameters["w"] * x + parameters["b"][0]) * scale

        parameters = {"w": tensor([1.0, 2.0]), "b": [tensor(3.0), None]}
        x = tensor([4.0, 5.0])
        by_tree, by_scale = core.grad(loss, (0, 2))(parameters, x, 2.0)
        assert by_tree["w"].tolist() == [8, 10] and float(by_tree["b"][0]) == 4 and by_tree["b"][1] is None
        assert float(by_scale) == 20
        assert core.grad(loss, argnums=1)(parameters, x, scale=1.0).tolist() == [1, 2]

    def test_has_aux(self):
        def loss(x):
            return ops.sum(x * x), {"twice": x * 2}

        (value, aux), gradient = core.value_and_grad(loss, has_aux=True)(tensor([3.0]))
        assert float(value) == 9 and aux["twice"].tolist() == [6] and gradient.tolist() == [6]
        gradient, aux = core.grad(loss, has_aux=True)(tensor([3.0]))
        assert gradient.tolist() == [6] and aux["twice"].tolist() == [6]

    def test_arrays_and_variables_as_arguments(self):
        assert core.grad(lambda x: ops.sum(x * x))(np.array([2.0])).tolist() == [4]
        assert core.grad(lambda x: ops.sum(x * x))(Variable([2.0])).tolist() == [4]

    def test_unconnected_is_zero(self):
        assert core.grad(lambda x, y: ops.sum(y))(tensor([1.0, 2.0]), tensor([3.0])).tolist() == [0, 0]

    def test_errors(self):
        with pytest.raises(ShapeError, match=r"shape \(3,\).*mean\(\)"):
            core.grad(lambda x: x * 2)(tensor(POINT))
        with pytest.raises(DtypeError, match="dtype int32"):
            core.grad(lambda x: ops.sum(ops.cast(x, "int32")))(tensor(POINT))
        with pytest.raises(DtypeError, match="exists for floats only"):
            core.grad(lambda x: x * x)(3)

    def test_vjp(self):
        (y, z), pullback = core.vjp(lambda a, b: (a * b, ops.sum(a)), tensor([1.0, 2.0]), tensor([3.0, 4.0]))
        assert y.tolist() == [3, 8] and float(z) == 3
        by_a, by_b = pullback((tensor([1.0, 10.0]), 100.0))
        assert by_a.tolist() == [103, 140] and by_b.tolist() == [1, 20]
        with pytest.raises(ValueError, match="expected 2 cotangents"):
            pullback(tensor([1.0, 1.0]))
        with pytest.raises(ShapeError, match=r"cotangent of shape \(3,\)"):
            pullback((tensor(POINT), 1.0))

    def test_integer_results_carry_no_gradient(self):
        _, pullback = core.vjp(lambda x: (x * 2, ops.cast(x, "int32")), tensor([1.5]))
        assert pullback((tensor([1.0]), tensor([1])))[0].tolist() == [2]
        (_, tangent) = core.jvp(lambda x: (x * 2, ops.cast(x, "int32")), (tensor([1.5]),), (tensor([1.0]),))
        assert [t.tolist() for t in tangent] == [[2], [0]]

    def test_jvp(self):
        direction = np.array([1.0, 0.0, -2.0])
        value, pushed = core.jvp(lambda x: ops.sum(ops.exp(x) * x), (POINT,), (direction,))
        close(value, np.sum(np.exp(POINT) * POINT))
        close(pushed, np.sum(np.exp(POINT) * (1 + POINT) * direction))
        _, pushed = core.jvp(lambda x: tensor([1.0]), (POINT,), (direction,))
        assert pushed.tolist() == [0]
        with pytest.raises(ValueError, match="one tangent per primal"):
            core.jvp(lambda x: x, (1.0,), ())

    def test_nested_orders(self):
        derivatives = [lambda x: x**5]
        for _ in range(5):
            derivatives.append(core.grad(derivatives[-1]))
        received = [float(f(tensor(2.0, "float64"))) for f in derivatives]
        close(received, [32, 80, 160, 240, 240, 120])

    def test_hessian_vector_products(self):
        def function(x):
            return ops.sum(ops.tanh(x) * ops.roll(x, 1) ** 2)

        vector = np.array([0.5, -1.0, 0.25])
        gradient = core.grad(function)
        expected = finite_difference(lambda t: ops.sum(gradient(POINT + vector * t)), 0.0)
        forward_over_reverse = core.jvp(gradient, (POINT,), (vector,))[1]
        reverse_over_reverse = core.grad(lambda x: ops.sum(gradient(x) * vector))(POINT)
        reverse_over_forward = core.grad(lambda x: core.jvp(function, (x,), (vector,))[1])(tensor(POINT))
        close(ops.sum(forward_over_reverse), expected)
        close(reverse_over_reverse, forward_over_reverse)
        close(reverse_over_forward, forward_over_reverse)

    def test_perturbations_are_not_confused(self):
        inner = core.grad(lambda x: x * core.grad(lambda y: x + y)(1.0))
        assert float(inner(1.0)) == 1

    def test_stop_gradient(self):
        x = tensor([1.0, 2.0])
        assert core.grad(lambda x: ops.sum(core.stop_gradient(x) * x))(x).tolist() == [1, 2]
        tree = core.stop_gradient({"a": x, "b": (x,)})
        assert tree["b"][0].tolist() == [1, 2]

    def test_same_gradient_traced(self):
        def function(x):
            return core.grad(lambda x: ops.sum(ops.softmax(x) ** 3))(x)

        graph = core.trace(function, tensor(POINT))
        np.testing.assert_array_equal(np.asarray(graph(tensor(POINT))), np.asarray(function(tensor(POINT))))


class TestTape:
    def test_variables_are_watched_and_others_on_request(self):
        w, frozen, x = Variable([2.0, 3.0]), Variable([1.0, 1.0], trainable=False), tensor([4.0, 5.0])
        with GradientTape() as tape:
            y = ops.sum(w * x * frozen)
        by_w, by_x, by_frozen = tape.gradient(y, [w, x, frozen])
        assert by_w.tolist() == [4, 5] and by_x is None and by_frozen is None
        with GradientTape() as tape:
            tape.watch([x, frozen])
            y = ops.sum(w * x * frozen)
        by = tape.gradient(y, {"x": x, "frozen": frozen})
        assert by["x"].tolist() == [2, 3] and by["frozen"].tolist() == [8, 15]

    def test_eager_and_traced_agree_about_what_is_unconnected(self):
        w, frozen, other = Variable(2.0), Variable(3.0, trainable=False), Variable(4.0)
        found = []

        def step(x):
            with GradientTape() as tape:
                y = w * frozen * x
            found.append(tape.gradient(y, [w, frozen, other]))
            return y

        step(tensor(1.0))
        core.trace(step, tensor(1.0))
        assert [[g is None for g in gradients] for gradients in found] == [[False, True, True]] * 2

    def test_answers_once_unless_persistent(self):
        v = Variable(3.0)
        with GradientTape() as tape:
            y = v * v
        tape.gradient(y, v)
        with pytest.raises(RuntimeError, match="persistent=True"):
            tape.gradient(y, v)
        with GradientTape(persistent=True) as tape:
            y = v * v
            z = y * y
        assert [float(tape.gradient(t, v)) for t in (y, z)] == [6, 108]
        with pytest.raises(RuntimeError, match="recorded nothing"):
            GradientTape().gradient(y, v)

    def test_nested_tapes(self):
        v = Variable(3.0)
        with GradientTape() as outer:
            with GradientTape() as inner:
                y = v**3
            first = inner.gradient(y, v)
        assert (float(first), float(outer.gradient(first, v))) == (27, 18)

    def test_several_targets_and_output_gradients(self):
        v = Variable([1.0, 2.0])
        with GradientTape(persistent=True) as tape:
            y, z = v * 3, v * v
        assert tape.gradient([y, z], v).tolist() == [5, 7]
        assert tape.gradient(y, v, output_gradients=tensor([1.0, 10.0])).tolist() == [3, 30]
        with pytest.raises(ShapeError):
            tape.gradient(y, v, output_gradients=tensor(1.0))

    def test_intermediate_values_are_sources(self):
        v = Variable(2.0)
        with GradientTape(persistent=True) as tape:
            hidden = v * v
            y = hidden * hidden
        assert [float(g) for g in tape.gradient(y, [hidden, v])] == [8, 32]
        assert float(tape.gradient(y, y)) == 1

    def test_integer_target(self):
        v = Variable(2.0)
        with GradientTape() as tape:
            y = ops.cast(v, "int32")
        with pytest.raises(DtypeError, match="target of a gradient"):
            tape.gradient(y, v)

    def test_integer_path_is_unconnected(self):
        v = Variable([2.0, 3.0])
        with GradientTape() as tape:
            y = ops.sum(ops.cast(ops.argmax(v), "float32")) + ops.sum(ops.cast(ops.cast(v, "int32"), "float32"))
        assert tape.gradient(y, v) is None

    @pytest.mark.parametrize("traced", [False, True])
    def test_assignment_starts_anew(self, traced):
        """As in TensorFlow: gradients go to the values read, not through assignments."""
        v = Variable(3.0)

        def function():
            with GradientTape() as tape:
                y = v * 2
                v.assign(y)
                z = v * y
            return tape.gradient(z, v)

        gradient = core.trace(function)() if traced else function()
        assert float(gradient) == 6 * 2 + 6  # by the first read through y, and by the second

    def test_jacobian(self):
        v = Variable([1.0, 2.0])
        with GradientTape() as tape:
            y = ops.stack([v[0] * v[1], v[0], v[1] ** 2])
        assert tape.jacobian(y, v).tolist() == [[2, 1], [1, 0], [0, 4]]

    def test_nothing_is_recorded_outside(self):
        v = Variable(2.0)
        assert (v * v).node is None
        with GradientTape():
            assert (tensor(1.0) * 2).node is None
            assert (v * v).node is not None


def dense_block(w, b, x):
    return ops.tanh(ops.matmul(x, w) + b)


class TestCheckpoint:
    """A checkpointed function has the gradients it has without."""

    def setup_method(self):
        generator = np.random.default_rng(0)
        self.w = Variable(generator.normal(size=(3, 3)))
        self.b = Variable(generator.normal(size=3))
        self.x = tensor(generator.normal(size=(4, 3)))
        self.y = tensor(generator.normal(size=(4, 3)))

    def both(self, function, *arguments):
        """Gradients by variables and arguments, plain and checkpointed, eager and traced."""

        def run(block):
            def gradients(*given):
                with GradientTape() as tape:
                    tape.watch(given)
                    loss = ops.sum(block(*given) ** 2)
                return loss, tape.gradient(loss, [self.w, self.b, *given])

            return gradients

        plain = run(function)(*arguments)
        again = run(core.checkpoint(function))(*arguments)
        traced = core.trace(run(core.checkpoint(function)), *arguments)(*arguments)
        for other in (again, traced):
            assert core.pytree.structure(other) == core.pytree.structure(plain)
            for a, b in zip(core.pytree.flatten(plain), core.pytree.flatten(other), strict=True):
                close(a, b, 1e-12)

    def test_variables(self):
        self.both(lambda x: dense_block(self.w, self.b, x), self.x)

    def test_variables_read_outside_too(self):
        inner = core.checkpoint(lambda x: dense_block(self.w, self.b, x))
        self.both(lambda x: inner(inner(x) @ self.w), self.x)

    def test_arguments_in_a_tree(self):
        def block(inputs):
            return ops.tanh(inputs["x"] @ inputs["w"]) + inputs["y"][0]

        def loss(x, w):
            return ops.sum(block({"x": x, "w": w, "y": [x]}) ** 2)

        def checkpointed(x, w):
            return ops.sum(core.checkpoint(block)({"x": x, "w": w, "y": [x]}) ** 2)

        for a, b in zip(
            core.grad(loss, (0, 1))(self.x, self.w),
            core.grad(checkpointed, (0, 1))(self.x, self.w),
            strict=True,
        ):
            close(a, b, 1e-12)

    def test_closures(self):
        self.both(lambda x, y: core.checkpoint(lambda z: ops.sin(z * y))(x) * y, self.x, self.y)

    def test_an_argument_that_is_also_closed_over(self):
        def function(x):
            return ops.sum(core.checkpoint(lambda z: ops.sin(z) * x)(x))

        def plain(x):
            return ops.sum(ops.sin(x) * x)

        close(core.grad(function)(self.x), core.grad(plain)(self.x))
        close(core.trace(core.grad(function), self.x)(self.x), core.grad(plain)(self.x))
        twice = core.grad(lambda x: ops.sum(core.grad(function)(x) ** 2))
        close(twice(self.x), core.grad(lambda x: ops.sum(core.grad(plain)(x) ** 2))(self.x))

    def test_random_draws_repeat(self):
        def block(x):
            return core.random.dropout(dense_block(self.w, self.b, x), 0.5)

        results = []
        for function in (block, core.checkpoint(block)):
            core.random.seed(3)
            value, gradient = core.value_and_grad(lambda x, f=function: ops.sum(f(x) ** 2))(self.x)
            results.append((value, gradient, core.random.uniform((2,))))
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    def test_assignments_happen_once(self):
        moving = Variable(np.zeros(3), trainable=False)
        calls = Variable(0, trainable=False)

        @core.checkpoint
        def block(x):
            mean = ops.mean(x, 0)
            moving.assign(moving * 0.9 + mean * 0.1)
            calls.assign_add(1)
            return (x - mean) * self.w[0]

        def step(x):
            return core.grad(lambda x: ops.sum(block(x) ** 2))(x)

        eager = step(self.x)
        assert int(calls) == 1
        close(moving, 0.1 * self.x.numpy().mean(0))
        graph = core.trace(step, self.x)
        close(graph(self.x), eager, 1e-12)
        assert int(calls) == 2

    @pytest.mark.parametrize("traced", [False, True])
    def test_second_order(self, traced):
        def penalty(block):
            def function(x):
                with GradientTape() as outer:
                    with GradientTape() as inner:
                        loss = ops.sum(block(x) ** 2)
                    gradients = inner.gradient(loss, [self.w, self.b])
                    total = ops.sum(gradients[0] ** 2) + ops.sum(gradients[1] ** 2)
                return outer.gradient(total, [self.w, self.b])

            return core.trace(function, self.x)(self.x) if traced else function(self.x)

        def block(x):
            return dense_block(self.w, self.b, x)

        for a, b in zip(penalty(block), penalty(core.checkpoint(block)), strict=True):
            close(a, b, 1e-10)

    def test_several_results_and_options(self):
        @core.checkpoint
        def block(x, scale=1.0):
            return {"a": x * scale, "b": [ops.exp(x)]}

        def loss(x):
            made = block(x, scale=3.0)
            return ops.sum(made["a"]) + ops.sum(made["b"][0])

        close(core.grad(loss)(self.x), 3 + np.exp(self.x.numpy()))
        close(core.grad(lambda x: ops.sum(block(x)["a"]))(self.x), np.ones(self.x.shape))

    def test_without_gradient_it_is_the_function(self):
        close(core.checkpoint(ops.exp)(self.x), np.exp(self.x.numpy()))

    def test_inner_values_are_freed(self):
        with GradientTape() as tape:
            tape.watch(self.x)
            y = core.checkpoint(lambda x: ops.exp(ops.sin(x)))(self.x)
            assert y.node.op.name == "custom_gradient"
            assert all(value.node is None for value in y.node.inputs)
            loss = ops.sum(y)
        close(tape.gradient(loss, self.x), np.exp(np.sin(self.x)) * np.cos(self.x))


class TestCustomGradient:
    def test_two_arguments_and_results(self):
        @core.custom_gradient
        def function(a, b):
            return (a * b, a + b), lambda g, h: (g * 100, h * 10)

        def loss(a, b):
            product, total = function(a, b)
            return ops.sum(product) + 2 * ops.sum(total)

        by_a, by_b = core.grad(loss, (0, 1))(tensor([1.0]), tensor([2.0]))
        assert by_a.tolist() == [100] and by_b.tolist() == [20]
        assert function(tensor(2.0), tensor(3.0))[0].item() == 6

    def test_missing_cotangents_are_zeros(self):
        @core.custom_gradient
        def function(a):
            return (a, a * 2), lambda g, h: g + h * 7

        assert core.grad(lambda a: function(a)[1])(1.0).item() == 7

    def test_second_order_and_traced(self):
        @core.custom_gradient
        def cube(x):
            return x**3, lambda g: g * 3 * x**2

        assert core.grad(core.grad(cube))(tensor(2.0)).item() == 12
        graph = core.trace(core.grad(lambda x: cube(x) * x), tensor(2.0))
        assert graph(tensor(2.0)).item() == 32

    def test_wrong_number_of_gradients(self):
        @core.custom_gradient
        def function(a, b):
            return a * b, lambda g: g

        with pytest.raises(ValueError, match="1 gradients for 2 arguments"):
            core.grad(lambda a: function(a, 1.0))(2.0)


def test_gradients_of_slices_are_joined():
    """A loop over the steps of a tensor: one concatenation, not a padded sum for every step."""

    def loss(x):
        state = x[:, 0] * 0
        for t in range(1, x.shape[1]):  # the first step is left out: a gap
            state = ops.tanh(state + x[:, t] * (t + 1.0))
        return (state * state).sum() + x[:, 2].sum() * 2

    x = np.random.default_rng(0).normal(size=(3, 5, 2))
    nodes = core.trace(core.grad(loss), core.tensor(x)).nodes()
    assert [node.op.name for node in nodes].count("pad") <= 6  # x[:, 2] is used twice: those slices overlap
    step = 1e-6
    gradient = core.grad(loss)(x).numpy()
    for place in np.ndindex(*x.shape):
        shift = np.zeros_like(x)
        shift[place] = step
        slope = (float(loss(core.tensor(x + shift))) - float(loss(core.tensor(x - shift)))) / (2 * step)
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-6, atol=1e-8)


def test_disjoint_slices_make_one_concatenation():
    def loss(x):
        return sum(((x[i] * (i + 1)) ** 2).sum() for i in range(1, 4))

    x = core.tensor(np.arange(10.0).reshape(5, 2))
    names = [node.op.name for node in core.trace(core.grad(loss), x).nodes()]
    assert names.count("pad") == 0
    assert names.count("concatenate") == 1
    expected = np.arange(10.0).reshape(5, 2) * 2 * np.array([0, 4, 9, 16, 0])[:, None]
    np.testing.assert_allclose(core.grad(loss)(x).numpy(), expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_cumprod_where_there_are_zeros(reverse):
    def loss(x):
        return (cumprod(x, axis=1, reverse=reverse) * weights).sum()

    x = np.array([[2.0, 0.0, 3.0, 0.5], [0.0, 4.0, 0.0, -1.0], [1.0, -2.0, 3.0, 0.5]])
    weights = np.arange(1.0, 13.0).reshape(3, 4)
    steps = np.eye(12).reshape(12, 3, 4)
    expected = [(float(loss(tensor(x + d))) - float(loss(tensor(x - d)))) / 2 for d in steps]  # linear in each element
    for gradient in (core.grad(loss), core.jit(core.grad(loss))):
        np.testing.assert_allclose(gradient(tensor(x)).numpy().ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 2e-15)])
def test_sinc_near_zero(dtype, tolerance):
    """Its gradient is -π² x / 3 and smaller terms, which no difference of larger numbers may swallow."""
    x = np.array([1e-12, -1e-8, 3e-9, 0.0], dtype)
    for gradient in (core.grad(lambda x: ops.sinc(x).sum()), core.jit(core.grad(lambda x: ops.sinc(x).sum()))):
        np.testing.assert_allclose(gradient(core.tensor(x)), -(np.pi**2) / 3 * x, rtol=tolerance)
    wide = np.linspace(-3, 3, 101, dtype=dtype)
    np.testing.assert_allclose(ops.sinc(wide), np.sinc(wide.astype("float64")), rtol=0, atol=tolerance)
