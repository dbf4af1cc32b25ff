"""How unsure a classifier is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.commands.suggest import UNCERTAINTIES
from birdclf.labelling.suggest import MEASURES, SET_MEASURES


@st.composite
def probabilities(draw):
    n, k, seed = draw(st.integers(1, 6)), draw(st.integers(2, 9)), draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).dirichlet(np.full(k, draw(st.sampled_from([0.05, 1.0, 20.0]))), n)


@pytest.mark.parametrize("name", MEASURES)
@given(probabilities())
def test_it_lies_between_being_sure_and_knowing_nothing(name, p):
    k = p.shape[1]
    measure = MEASURES[name]
    found = measure(p)
    assert found.shape == (len(p),) and (found > -1e-9).all() and (found < 1 + 1e-9).all()
    np.testing.assert_allclose(measure(np.eye(k)), 0, atol=1e-12)
    np.testing.assert_allclose(measure(np.full((1, k), 1 / k, np.float32)), 1, atol=1e-6)
    np.testing.assert_allclose(measure(p[:, ::-1]), found, atol=1e-12)


def test_by_hand():
    p = np.asarray([[0.5, 0.5, 0.0, 0.0], [0.7, 0.1, 0.1, 0.1]])
    np.testing.assert_allclose(MEASURES["entropy"](p), [0.5, 0.678390], atol=1e-6)
    np.testing.assert_allclose(MEASURES["margin"](p), [1.0, 0.4])
    np.testing.assert_allclose(MEASURES["least_confidence"](p), [2 / 3, 0.4])


@pytest.mark.parametrize("name", SET_MEASURES)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_of_sets_it_is_none_where_each_species_is_sure_and_one_where_none_is(name, n, k, seed):
    measure, rng = SET_MEASURES[name], np.random.default_rng(seed)
    found = measure(p := rng.random((n, k)))
    assert found.shape == (n,) and (found > -1e-9).all() and (found < 1 + 1e-9).all()
    np.testing.assert_allclose(measure(rng.integers(0, 2, (n, k)).astype(np.float32)), 0, atol=1e-12)
    np.testing.assert_allclose(measure(np.full((n, k), 0.5)), 1)
    np.testing.assert_allclose(measure(p[:, ::-1]), found, atol=1e-12)


def test_of_sets_by_hand():
    p = np.asarray([[0.5, 0.0, 1.0], [0.9, 0.1, 0.6]])
    np.testing.assert_allclose(SET_MEASURES["entropy"](p), [1 / 3, (2 * 0.468996 + 0.970951) / 3], atol=1e-6)
    np.testing.assert_allclose(SET_MEASURES["margin"](p), [1.0, 0.8])
    np.testing.assert_allclose(SET_MEASURES["least_confidence"](p), [0.0, 0.2])


def test_the_command_offers_all_of_them():
    assert set(UNCERTAINTIES) == set(MEASURES) == set(SET_MEASURES)
