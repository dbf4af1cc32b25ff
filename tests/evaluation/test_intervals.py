import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from birdclf.evaluation.intervals import bootstrap_macro_f1, wilson
from birdclf.evaluation.metrics import confusion_matrix, summarise


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_wilson_is_scipys(trial, confidence):
    hits, n = trial
    ours = wilson(hits, n, confidence)
    theirs = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9) and ours.high == pytest.approx(theirs.high, abs=1e-9)
    assert 0 <= ours.low <= hits / n + 1e-12 and hits / n - 1e-12 <= ours.high <= 1


def test_wilson_at_the_published_size():
    low, high = wilson(710, 1662)  # 42.72 %
    assert (high - low) / 2 == pytest.approx(0.024, abs=5e-4)


def example(n: int = 400, classes: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, n)
    return target, np.where(rng.random(n) < 0.6, target, rng.integers(0, classes, n))


def macro_f1(target: np.ndarray, prediction: np.ndarray, classes: int) -> float:
    return summarise(confusion_matrix(target, prediction, classes))["macro_f1"]


@given(st.integers(0, 10**6))
def test_the_bootstrap_contains_the_point_estimate(seed):
    target, prediction = example(seed=seed)
    low, high = bootstrap_macro_f1(target, prediction, np.arange(400), 8, draws=300)
    assert 0 <= low < macro_f1(target, prediction, 8) < high <= 1
    assert 0.03 < high - low < 0.2


@pytest.mark.parametrize("accuracy", [0.4, 0.8, 1.0])
def test_the_bootstrap_contains_the_point_estimate_under_a_long_tail(accuracy):
    """Species with a single test clip are missing from a third of the draws, which must not bias the interval."""
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(60), [1] * 30 + [3] * 15 + [40] * 15)
    prediction = np.where(rng.random(len(target)) < accuracy, target, rng.integers(0, 60, len(target)))
    low, high = bootstrap_macro_f1(target, prediction, np.arange(len(target)), 60)
    assert low <= macro_f1(target, prediction, 60) <= high


def test_the_bootstrap_covers_as_it_says():
    """Of 60 samples of one population about 57 intervals hold its macro F1; fewer than 50 has a chance below 1e-3."""
    population = macro_f1(*example(n=200_000, seed=1), 8)
    held = 0
    for seed in range(60):
        low, high = bootstrap_macro_f1(*example(seed=seed), np.arange(400), 8, draws=300)
        held += low <= population <= high
    assert held >= 50


def test_the_class_list_is_fixed():
    target = prediction = np.repeat(np.arange(4), 100)
    low, high = bootstrap_macro_f1(target, prediction, np.arange(400), 8)
    assert low == high == 0.5  # four of eight classes never occur


def test_clusters_widen_the_interval():
    """Recordings of one recordist are right or wrong together."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(40), 10)
    target = rng.integers(0, 4, 400)
    right = np.repeat(rng.random(40) < 0.6, 10)
    prediction = np.where(right, target, (target + 1) % 4)
    alone = bootstrap_macro_f1(target, prediction, np.arange(400), 4)
    clustered = bootstrap_macro_f1(target, prediction, group, 4)
    assert clustered.high - clustered.low > 1.8 * (alone.high - alone.low)


def test_the_bootstrap_repeats_and_follows_its_settings():
    target, prediction = example()
    names = np.array([f"r{i % 200}" for i in range(400)], dtype=object)
    usual = bootstrap_macro_f1(target, prediction, names, 8)
    assert bootstrap_macro_f1(target, prediction, names, 8) == usual
    assert bootstrap_macro_f1(target, prediction, names, 8, seed=1) != usual
    narrow = bootstrap_macro_f1(target, prediction, names, 8, confidence=0.5)
    assert usual.low < narrow.low < narrow.high < usual.high


def test_one_cluster_has_no_width():
    target, prediction = example(n=30)
    low, high = bootstrap_macro_f1(target, prediction, np.zeros(30), 8)
    assert low == high == pytest.approx(macro_f1(target, prediction, 8))
