"""Random numbers: the documented sequence, distributions, seeds and streams."""

import math

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import DtypeError, ShapeError, ops, random, tensor
from tenzoo.core.primitives import random_bits as random_bits_module
from tenzoo.core.primitives.random_bits import philox, random_bits

# The "philox4x32 10" lines of tests/kat_vectors in Random123 1.14 (github.com/DEShawResearch/random123):
# counter, key, expected words.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, expected):
    assert tuple(int(word) for word in philox(list(counter), key)) == expected


class TestSequence:
    def test_words_of_a_draw(self):
        """Word i of a draw of n words is output i // q of block i % q, with q = ceil(n / 4) blocks."""
        state = np.array([0xA4093822, 0x299F31D0, 5, 6], np.uint32)
        for n in (1, 4, 6, 13):
            q = -(-n // 4)
            words = random_bits(tensor(state), shape=(n,)).tolist()
            for i, word in enumerate(words):
                assert word == int(philox([i % q, 0, 5, 6], (0xA4093822, 0x299F31D0))[i // q])

    def test_words_of_a_long_draw(self):
        """It is made in parts, which does not show."""
        blocks = 2 * random_bits_module._PART + 3
        words = random_bits(tensor(np.array([8, 9, 5, 6, 7], np.uint32)), shape=(4 * blocks - 2,)).numpy()
        for block in (0, *(k * random_bits_module._PART + i for k in (1, 2) for i in (-1, 0)), blocks - 3):
            expected = [int(word) for word in philox([7 + block, 0, 5, 6], (8, 9))]
            assert words[block::blocks].tolist() == expected

    def test_seeds_fill_the_key_and_draws_count(self):
        seed = 0x123456789ABCDEF0
        generator = random.SeedGenerator(seed)
        assert generator.state.tolist() == [0x9ABCDEF0, 0x12345678, 0, 0]
        first = random.bits((4,), generator)
        assert generator.state.tolist() == [0x9ABCDEF0, 0x12345678, 1, 0]
        assert first.tolist() == [int(w) for w in philox([0, 0, 0, 0], (0x9ABCDEF0, 0x12345678))]
        assert first.tolist() == random.bits((4,), seed).tolist()

    def test_draw_counter_carries(self):
        generator = random.SeedGenerator(1)
        generator.state.assign(np.array([1, 0, 0xFFFFFFFF, 7], np.uint32))
        random.bits((1,), generator)
        assert generator.state.tolist() == [1, 0, 0, 8]

    def test_pinned_numbers(self):
        """These never change: results published with a seed stay reproducible."""
        words = random.bits((3,), 42)
        assert words.tolist() == [int(philox([0, 0, 0, 0], (42, 0))[i]) for i in range(3)]
        uniform = random.uniform((3,), seed=42).numpy()
        np.testing.assert_array_equal(uniform, (np.array(words.tolist()) >> 8) * np.float32(2**-24))
        double = random.uniform((2,), dtype="float64", seed=42).numpy()
        a = random.bits((2, 2), 42).numpy().astype(np.uint64)
        np.testing.assert_array_equal(double, ((a[0] >> 5) * 2.0**26 + (a[1] >> 6)) * 2.0**-53)
        assert random.randint((3,), -5, 5, seed=42).tolist() == [w % 10 - 5 for w in words.tolist()]


class TestStreams:
    def test_global_stream(self):
        random.seed(3)
        first, second = random.uniform((4,)), random.uniform((4,))
        random.seed(3)
        np.testing.assert_array_equal(random.uniform((4,)), first)
        np.testing.assert_array_equal(random.uniform((4,)), second)
        assert first.tolist() != second.tolist()
        random.seed(4)
        assert random.uniform((4,)).tolist() != first.tolist()

    def test_integer_seed_repeats_and_leaves_the_stream_alone(self):
        random.seed(3)
        expected = random.uniform((2,)).tolist()
        random.seed(3)
        assert random.normal((2,), seed=9).tolist() == random.normal((2,), seed=np.int64(9)).tolist()
        assert random.uniform((2,)).tolist() == expected

    def test_generators_without_a_seed_follow_the_global_one(self):
        random.seed(3)
        a, b = random.SeedGenerator(), random.SeedGenerator()
        random.seed(3)
        assert random.SeedGenerator().seed == a.seed != b.seed
        assert random.SeedGenerator(**a.get_config()).state.tolist() == a.state.tolist()

    def test_negative_and_large_seeds(self):
        assert random.SeedGenerator(-1).state.tolist() == [0xFFFFFFFF, 0xFFFFFFFF, 0, 0]
        random.uniform((1,), seed=2**70)

    def test_resume(self):
        generator = random.SeedGenerator(1)
        random.uniform((3,), seed=generator)
        saved = generator.state.numpy().copy()
        expected = random.uniform((3,), seed=generator).tolist()
        other = random.SeedGenerator(99)
        other.state.assign(saved)
        assert random.uniform((3,), seed=other).tolist() == expected

    def test_traced_draws_equal_eager_ones(self):
        def draws(x):
            return [
                random.uniform((3,)),
                random.normal((2, 2), 1.0, 2.0),
                random.truncated_normal((5,)),
                random.randint((4,), 0, 10),
                random.bernoulli((6,), 0.3),
                random.categorical(x, 4),
                random.permutation(6),
                random.dropout(x, 0.5),
                random.gamma((3,), 2.0),
                random.beta((3,), 2.0, 3.0),
                random.binomial((3,), 5, 0.5),
            ]

        x = ops.ones((2, 3))
        random.seed(1)
        graph = core.trace(draws, x)
        traced = [graph(x) for _ in range(3)]
        random.seed(1)
        for step in traced:
            for a, b in zip(step, draws(x), strict=True):
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def moments_are(sample, mean, variance, tolerance=5.0):
    """Mean and variance within some standard errors."""
    sample = np.asarray(sample, np.float64).ravel()
    assert np.isfinite(sample).all()
    assert abs(sample.mean() - mean) < tolerance * math.sqrt(variance / sample.size)
    fourth = np.mean((sample - sample.mean()) ** 4)
    assert abs(sample.var() - variance) < tolerance * math.sqrt((fourth - variance**2) / sample.size) + 1e-12


N = 40_000


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 17 * (1 << 16) + 7, (257, 3, 99)])
@pytest.mark.parametrize(
    "draw",
    [
        lambda shape, seed: random.uniform(shape, -0.3, 0.5, seed=seed),
        lambda shape, seed: random.normal(shape, 1.0, 0.1, seed=seed),
        lambda shape, seed: random.truncated_normal(shape, 0.0, 2.0, seed=seed),
        lambda shape, seed: random.normal(shape, dtype="float16", seed=seed),
    ],
)
def test_a_large_draw_is_made_in_parts_with_the_same_numbers(draw, size):
    generator = random.SeedGenerator(5)
    generator.state.assign(np.array([5, 0, 0xFFFFFFFF, 7], np.uint32))
    state = generator.state.numpy().copy()
    large = draw(size, generator)
    assert generator.state.numpy().tolist() == [5, 0, 0, 8]
    generator.state.assign(state)
    traced = core.trace(lambda: draw(size, generator))()  # op by op, all at once
    assert large.shape == traced.shape and large.dtype == traced.dtype
    np.testing.assert_allclose(large, traced, rtol=2e-3 if large.dtype == np.float16 else 1e-5, atol=1e-6)
    generator.state.assign(state)
    np.testing.assert_array_equal(draw(size, generator), large)


class TestDistributions:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_uniform(self, dtype):
        sample = random.uniform((N,), -1.0, 3.0, dtype, seed=1)
        assert sample.dtype == np.dtype(dtype)
        moments_are(sample, 1.0, 16 / 12)
        assert sample.min().item() >= -1 and sample.max().item() < 3
        assert random.uniform((N,), dtype=dtype, seed=1).max().item() < 1

    def test_the_largest_uniform_number_stays_below_the_maximum(self, monkeypatch):
        monkeypatch.setattr(random, "bits", lambda shape, seed=None: ops.full(shape, 0xFFFFFFFF, "uint32"))
        for dtype in ("float16", "float32", "float64"):
            assert random.uniform((1,), 1.0, 2.0, dtype).item() < 2
            assert random.uniform((1,), 0.0, 1.0, dtype).item() < 1

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("word", [0, 0xFFFFFFFF])
    def test_extreme_draws_are_finite(self, monkeypatch, dtype, word):
        monkeypatch.setattr(random, "bits", lambda shape, seed=None: ops.full(shape, word, "uint32"))
        for draw in (random.normal, random.truncated_normal, random.gumbel, random.exponential):
            assert np.isfinite(draw((1,), dtype=dtype).item())

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_normal(self, dtype):
        sample = random.normal((N,), 2.0, 3.0, dtype, seed=2)
        assert sample.dtype == np.dtype(dtype)
        moments_are(sample, 2.0, 9.0)
        standard = np.sort((sample.numpy().astype(float) - 2) / 3)
        distribution = 0.5 * (1 + np.vectorize(math.erf)(standard / math.sqrt(2)))
        assert np.abs(distribution - np.arange(N) / N).max() < 2.0 / math.sqrt(N)  # Kolmogorov-Smirnov

    def test_truncated_normal(self):
        sample = random.truncated_normal((N,), seed=3)
        moments_are(sample, 0.0, 0.7737413)
        assert np.abs(sample.numpy()).max() <= 2

    def test_randint(self):
        sample = random.randint((N,), -3, 4, seed=4)
        assert sample.dtype == np.int32 and set(sample.tolist()) == set(range(-3, 4))
        moments_are(sample, 0.0, 4.0)
        assert random.randint((2,), 0, 2**32, "int64", seed=4).dtype == np.int64
        for low, high in ((3, 3), (4, 3), (0, 2**33)):
            with pytest.raises(ValueError, match="minval < maxval"):
                random.randint((1,), low, high)

    def test_bernoulli_gumbel_exponential(self):
        moments_are(random.bernoulli((N,), 0.3, seed=5), 0.3, 0.21)
        moments_are(random.gumbel((N,), seed=6), 0.5772157, math.pi**2 / 6)
        moments_are(random.exponential((N,), 2.0, seed=7), 2.0, 4.0)

    def test_categorical(self):
        chances = np.array([0.1, 0.6, 0.3])
        sample = random.categorical(np.log([chances, chances[::-1]]), N, seed=8).numpy()
        assert sample.shape == (2, N) and sample.dtype == np.int32
        for row, expected in zip(sample, (chances, chances[::-1]), strict=True):
            assert np.abs(np.bincount(row, minlength=3) / N - expected).max() < 0.015
        with pytest.raises(ShapeError, match="categorical"):
            random.categorical([1.0, 2.0], 3)

    def test_permutation(self):
        assert sorted(random.permutation(50, seed=9).tolist()) == list(range(50))
        x = np.arange(12).reshape(3, 4)
        shuffled = random.shuffle(x, axis=1, seed=9).numpy()
        assert sorted(map(tuple, shuffled.T)) == sorted(map(tuple, x.T))
        places = np.array([random.permutation(4, seed=i).tolist() for i in range(4000)])
        for column in places.T:
            assert np.abs(np.bincount(column) / 4000 - 0.25).max() < 0.04

    def test_dropout(self):
        x = ops.ones((200, 200))
        y = random.dropout(x, 0.25, seed=10)
        assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
        assert abs(y.mean().item() - 1) < 0.02
        rows = random.dropout(x, 0.5, noise_shape=(None, 1), seed=10).numpy()
        assert (rows == rows[:, :1]).all()
        np.testing.assert_array_equal(random.dropout(x, 0.0, seed=1), x)
        gradient = core.grad(lambda x: random.dropout(x, 0.25, seed=10).sum())(x)
        np.testing.assert_array_equal(gradient, y)
        with pytest.raises(ValueError, match="rate"):
            random.dropout(x, 1.0)

    @pytest.mark.parametrize("alpha", [0.3, 1.0, 4.5])
    def test_gamma(self, alpha):
        moments_are(random.gamma((N,), alpha, seed=11), alpha, alpha, 6)

    def test_beta_and_binomial(self):
        a, b = 2.0, 3.0
        moments_are(random.beta((N,), a, b, seed=12), a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1)))
        moments_are(random.binomial((N,), 7, 0.2, seed=13), 1.4, 1.12)
        counts = random.binomial((1000, 2), np.array([0, 3]), 0.5, seed=13).numpy()
        assert counts[:, 0].max() == 0 and counts[:, 1].max() == 3

    def test_dtypes(self):
        with pytest.raises(DtypeError, match="randint"):
            random.uniform((2,), dtype="int32")
        assert random.bernoulli((2,), dtype="int32", seed=1).dtype == np.int32

    def test_shapes(self):
        assert random.uniform(3, seed=1).shape == (3,)
        assert random.normal((), seed=1).shape == ()
        assert random.normal((0, 2), seed=1).shape == (0, 2)
