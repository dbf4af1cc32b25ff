"""Do 95 % intervals hold the truth 95 times in 100, and do equal runs come out as equal?"""

import time

import numpy as np
import pytest
from simulation import CLASSES, TARGET, TRAIN_COUNTS, splits

from birdclf.metrics.comparison import class_differences, paired_bootstrap
from birdclf.metrics.figures import Evaluation, bucket_table, confusion_matrix, summarise
from birdclf.metrics.intervals import ClusterCounts, figure_intervals

QUICK = Evaluation(draws=300)
FIGURES = ("macro_f1", "macro_f1_evaluable", "weighted_f1", "balanced_accuracy", "many_f1", "few_f1")


def figures(prediction: np.ndarray) -> dict[str, float]:
    confusion = confusion_matrix(TARGET, prediction, CLASSES)
    buckets = bucket_table(confusion, TRAIN_COUNTS)
    return summarise(confusion) | {f"{name}_f1": row["f1"] for name, row in buckets.items()}


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    """What the model reaches on average over splits drawn alike."""
    found = [figures(prediction) for _, prediction in splits(2_000, seed=1)]
    return {name: float(np.mean([row[name] for row in found])) for name in FIGURES}


def coverage(truth: dict[str, float], number: int) -> dict[str, float]:
    held = dict.fromkeys(FIGURES, 0)
    for cluster, prediction in splits(number, seed=2):
        found = figure_intervals(ClusterCounts.of(TARGET, prediction, cluster, CLASSES), TRAIN_COUNTS, QUICK)
        for name in FIGURES:
            held[name] += found[name].low <= truth[name] <= found[name].high
    return {name: count / number for name, count in held.items()}


def false_positives(number: int) -> dict[str, float]:
    statistics = ("macro_f1", "accuracy", "balanced_accuracy")
    called = dict.fromkeys(statistics, 0)
    for seed, (cluster, a, b) in enumerate(splits(number, seed=3, runs=2)):
        for name in statistics:
            called[name] += paired_bootstrap(TARGET, a, b, cluster, CLASSES, QUICK, name, seed).p_value <= 0.05
    return {name: count / number for name, count in called.items()}


def test_intervals_hold_the_truth(truth):
    """Of 150 intervals about 143 hold it; with a coverage of 93 %, fewer than 130 has a chance below 1e-2."""
    assert all(share >= 130 / 150 for share in coverage(truth, 150).values())


@pytest.fixture(scope="module")
def held(truth) -> dict[str, float]:
    return coverage(truth, 1_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_intervals_hold_the_truth_93_to_97_times_in_100(held, name):
    assert 0.93 <= held[name] <= 0.97


@pytest.mark.slow
def test_equal_runs_are_seldom_called_different():
    """At 5 % more than 18 of 150 has a chance below 1e-3."""
    assert all(share <= 18 / 150 for share in false_positives(150).values())


@pytest.mark.slow
def test_equal_runs_are_called_different_at_most_6_times_in_100():
    found = false_positives(1_000)
    assert all(share <= 0.06 for share in found.values()), found


@pytest.mark.slow
def test_equal_runs_seldom_differ_in_any_class():
    found = [
        class_differences(TARGET, a, b, cluster, CLASSES, QUICK, seed).q_value.min() <= 0.05
        for seed, (cluster, a, b) in enumerate(splits(1_000, seed=4, runs=2))
    ]
    assert np.mean(found) <= 0.06


@pytest.mark.parametrize("clusters", [400, pytest.param(1662, marks=pytest.mark.slow)])
def test_the_published_size_takes_seconds(clusters):
    rng = np.random.default_rng(0)
    target = rng.integers(0, 89, 1662)
    a, b = (np.where(rng.random(1662) < 0.5, target, rng.integers(0, 89, 1662)) for _ in range(2))
    group = rng.permutation(1662) % clusters
    began = time.process_time()
    figure_intervals(ClusterCounts.of(target, a, group, 89), np.arange(89) * 3, Evaluation())
    assert time.process_time() - began < 5
    began = time.process_time()
    paired_bootstrap(target, a, b, group, 89, Evaluation())
    class_differences(target, a, b, group, 89, Evaluation())
    assert time.process_time() - began < 10
