import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from birdclf.random import key_of, stream, uniform

KEYS = st.integers(0, 2**64 - 1)
DRAWS = st.lists(st.integers(0, 2**62), min_size=1, max_size=50)


@given(KEYS, DRAWS)
def test_numbers_lie_in_0_to_1(key, draws):
    out = uniform(key, np.array(draws))
    assert out.dtype == np.float64 and out.shape == (len(draws),)
    assert (out >= 0).all() and (out < 1).all()


@given(KEYS, DRAWS)
def test_a_number_depends_on_key_and_draw_only(key, draws):
    together = uniform(key, np.array(draws))
    assert together.tolist() == [uniform(key, np.array([d]))[0] for d in draws]
    assert uniform(key, np.array(draws[::-1])).tolist() == together[::-1].tolist()


def test_the_published_generator():
    # SplitMix64 seeded with 0: the first outputs of the reference implementation.
    words = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert uniform(0, np.arange(3)).tolist() == [(word >> 11) * 2.0**-53 for word in words]


def test_numbers_are_spread_evenly():
    for key in (0, 1, key_of(1, "windows")):
        numbers = uniform(key, np.arange(100_000))
        assert chisquare(np.bincount((numbers * 100).astype(int), minlength=100)).pvalue > 1e-4
        assert kstest(numbers, "uniform").pvalue > 1e-4


def test_neighbouring_draws_and_keys_are_unrelated():
    draws = np.arange(50_000)
    numbers = uniform(7, draws)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(numbers, uniform(8, draws))[0, 1]) < 0.02
    assert len(np.unique(numbers)) == len(numbers)


def test_keys_are_the_same_on_every_machine():
    assert key_of("a", 1) == key_of("a", "1")
    assert key_of(1, "windows") == 13402390997969859349
    assert 0 <= key_of() < 2**64


def test_keys_tell_parts_apart():
    keys = [key_of(*parts) for parts in [("ab",), ("a", "b"), ("a", "b", ""), ("b", "a"), (1, "order"), (2, "order")]]
    assert len(set(keys)) == len(keys)


def test_streams_repeat_and_differ():
    one, again, other = (stream(*parts).random(5) for parts in [(1, "x"), (1, "x"), (2, "x")])
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
