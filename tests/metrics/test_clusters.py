import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.metrics.intervals import STRATUM, ClusterCounts, standard_error


def example(seed: int, clusters: int, classes: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return target, prediction and cluster of 200 clips; two clips in three are of class 0, few of the last."""
    rng = np.random.default_rng(seed)
    target = np.minimum(rng.geometric(2 / 3, 200) - 1, classes - 1)
    return (
        target,
        np.where(rng.random(200) < 0.6, target, rng.integers(0, classes, 200)),
        rng.integers(0, clusters, 200),
    )


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_what_is_left_is_weighted_to_the_size_of_each_stratum(seed, clusters):
    target, prediction, cluster = example(seed, clusters)
    counts = ClusterCounts.of(target, prediction, cluster, 6)
    held = (counts.support > 0).sum(axis=0)
    stratum = np.where(held >= STRATUM, np.arange(6), -1)[target]  # the rare classes are one
    for row, name in enumerate(np.unique(cluster)):
        weight = np.zeros(200)
        for s in np.unique(stratum):
            left = (stratum == s) & (cluster != name)
            weight[left] = (stratum == s).sum() / max(left.sum(), 1)
        hit = target == prediction
        np.testing.assert_allclose(counts.without.hits[row], np.bincount(target[hit], weight[hit], 6))
        np.testing.assert_allclose(counts.without.support[row], np.bincount(target, weight, 6))
        np.testing.assert_allclose(counts.without.predicted[row], np.bincount(prediction, weight, 6), atol=1e-9)


@pytest.mark.parametrize("kind", ["f1", "recall", "precision"])
def test_a_model_that_answers_a_class_alike_has_no_spread(kind):
    """A stratified split holds as many clips of each class again, so every figure would come out the same."""
    target = np.repeat([0, 1, 2], [40, 20, 30])
    counts = ClusterCounts.of(target, np.array([0, 0, 2])[target], np.arange(90), 3)
    np.testing.assert_allclose(counts.influence(kind), 0, atol=1e-12)


@given(st.integers(0, 30))
def test_recall_of_a_class_has_the_unbiased_variance_of_a_proportion(hits):
    target, prediction = np.zeros(30, dtype=int), (np.arange(30) >= hits).astype(int)
    share = hits / 30
    loss = ClusterCounts.of(target, prediction, np.arange(30), 2).influence("recall")[:, 0]
    assert (loss**2).sum() == pytest.approx(share * (1 - share) / 29)


def test_classes_of_one_cluster_are_centred_on_their_mean():
    """Two of three such classes are right: each loses 1 - 2/3 or 0 - 2/3, times the root of 3/2."""
    counts = ClusterCounts.of(np.arange(3), np.array([0, 1, 0]), np.arange(3), 3)
    expected = np.array([1 / 3, 1 / 3, -2 / 3]) * 1.5**0.5
    np.testing.assert_allclose(np.diagonal(counts.influence("recall")), expected)


def test_one_cluster_has_no_standard_error():
    assert np.isinf(standard_error(np.ones((1, 2)))).all()
