"""Windows that differ, of those that are uncertain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.labelling.suggest import select_diverse


def chosen(embeddings, weights, k, seed=0):
    return select_diverse(
        np.asarray(embeddings, np.float32), np.asarray(weights, float), k, np.random.default_rng(seed)
    )


def clump(rng, centre, n, spread=0.01):
    return np.asarray(centre) + spread * rng.standard_normal((n, len(centre)))


@given(
    st.integers(0, 60), st.integers(1, 70), st.integers(1, 8), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 10**9])
)
def test_as_many_as_are_asked_for_each_once(n, k, d, seed, distinct):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))[rng.integers(0, min(distinct, max(n, 1)), n)]
    rows = chosen(points, rng.random(n) * rng.integers(0, 2, n), k)
    assert len(rows) == min(n, k) and (np.diff(rows) > 0).all() and set(rows) <= set(range(n))


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_each_of_some_tight_clusters_is_represented(seed, k):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 40, k)
    points = np.concatenate([clump(rng, row, size) for row, size in zip(np.eye(k), sizes, strict=True)])
    cluster = np.repeat(np.arange(k), sizes)
    rows = chosen(points, rng.uniform(0.2, 1, len(points)), k)
    assert sorted(cluster[rows]) == list(range(k))


def test_the_most_uncertain_alone_would_be_one_sound_many_times():
    rng = np.random.default_rng(0)
    points = np.concatenate([clump(rng, [1, 0, 0], 90), clump(rng, [0, 1, 0], 5), clump(rng, [0, 0, 1], 5)])
    weights = np.concatenate([np.full(90, 0.99), np.full(10, 0.8)])
    rows = chosen(points, weights, 3)
    assert sum(rows < 90) == 1 and sum(rows >= 95) == 1


def test_the_heavier_pull_the_choice_towards_them():
    angle = np.linspace(0, np.pi / 2, 51)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    (light,), (heavy,) = chosen(points, np.ones(51), 1), chosen(points, np.linspace(0, 1, 51) ** 4, 1)
    assert light == 25 and heavy > 35


def test_how_loud_a_sound_is_does_not_matter():
    rng = np.random.default_rng(1)
    points, weights = rng.standard_normal((40, 6)), rng.random(40)
    louder = points * rng.uniform(0.1, 100, (40, 1))
    assert chosen(points, weights, 7).tolist() == chosen(louder, weights, 7).tolist()


def test_the_same_seed_chooses_the_same():
    rng = np.random.default_rng(2)
    points, weights = rng.standard_normal((300, 6)), rng.random(300)
    first, again = (chosen(points, weights, 20, seed=3).tolist() for _ in range(2))
    assert first == again
    assert any(chosen(points, weights, 20, seed=seed).tolist() != first for seed in (4, 5, 6))


@pytest.mark.parametrize("points", [np.zeros((9, 3)), np.full((9, 3), 1e15), np.full((9, 3), 1e-15)])
def test_points_that_are_the_same_are_taken_by_weight(points):
    rows = chosen(points, np.arange(9), 4)
    assert len(rows) == 4 and set(rows) >= {6, 7, 8}
