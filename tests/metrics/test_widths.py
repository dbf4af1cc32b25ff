"""Are intervals as narrow as they can be, and no narrower, near 0 and 1 and from few clips?"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulate_widths import Cell, measure

from birdclf.metrics.figures import Evaluation, confusion_matrix, precision_recall_f1
from birdclf.metrics.intervals import ClusterCounts, Interval, figure_intervals, wilson

SUPPORT = np.array([300, 200, 150, 100, 80, 50, 30, 15, 10, 5, 2, 1, 1, 1])  # 945 clips
TARGET = np.repeat(np.arange(14), SUPPORT)


def nearly_perfect(errors: list[int]) -> np.ndarray:
    """Return predictions with so many errors of each class, called the next class."""
    answer = TARGET.copy()
    for k, number in enumerate(errors):
        answer[np.flatnonzero(k == TARGET)[:number]] = (k + 1) % 14
    return answer


ANSWER = nearly_perfect([1, 1, 1, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0])


def intervals(target, answer, cluster, classes: int = 14) -> dict[str, Interval]:
    counts = ClusterCounts.of(target, answer, cluster, classes)
    return figure_intervals(counts, np.full(classes, 50), Evaluation())


def limits(target: np.ndarray, answer: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return recall and its Wilson limits of each class with a clip."""
    n = np.bincount(target, minlength=classes)
    hits = np.bincount(target[target == answer], minlength=classes)
    found = np.array([wilson(int(h), int(m)) for h, m in zip(hits, n, strict=True) if m])
    return (hits / np.maximum(n, 1))[n > 0], found[:, 0], found[:, 1]


RECORDISTS = TARGET * 1_000 + np.arange(945) // 4


@pytest.mark.parametrize(("cluster", "least"), [(np.arange(945), 0.90), (RECORDISTS, 0.89)], ids=["alone", "clusters"])
def test_a_nearly_perfect_classifier_with_rare_classes(cluster, least):
    """6 errors in 945 clips, three classes of one clip, which is right: limits of 0.012 and 0.106 said nothing."""
    recall, low, _ = limits(TARGET, ANSWER, 14)
    assert (TARGET != ANSWER).sum() == 6 and recall.mean() == pytest.approx(0.989, abs=5e-4)
    found = intervals(TARGET, ANSWER, cluster)
    assert least < found["balanced_accuracy"].low < recall.mean() < found["balanced_accuracy"].high < 1
    assert least - 0.02 < found["macro_f1"].low < found["macro_f1"].high < 1
    # What the clips allow if each class's recall were independently at its own limit (Zou and Donner, 2008).
    assert found["balanced_accuracy"].low > recall.mean() - np.sqrt(((recall - low) ** 2).sum()) / 14


@given(st.integers(0, 10**6), st.booleans())
def test_no_interval_reaches_further_than_the_clips_allow(seed, perfect):
    """Near 1 it does not reach below all classes at their own lower limits at once; near 0 not above the upper ones.

    It may by a hundredth with fewer than 5 classes.
    """
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(5, 30))
    target = np.repeat(np.arange(classes), np.maximum(rng.pareto(0.7, classes) * 2, 1).clip(max=200).astype(int))
    answer = np.where((rng.random(len(target)) < 0.98) == perfect, target, (target + 1) % classes)
    recall, low, high = limits(target, answer, classes)
    found = intervals(target, answer, np.arange(len(target)), classes)["balanced_accuracy"]
    if perfect:
        assert low.mean() - 1e-9 <= found.low <= recall.mean() + 1e-9
    else:
        assert recall.mean() - 1e-9 <= found.high <= high.mean() + 1e-9


@given(st.integers(0, 10**6))
def test_intervals_hold_the_figure_whatever_the_clusters(seed):
    rng = np.random.default_rng(seed)
    answer = np.where(rng.random(945) < rng.choice([0.01, 0.5, 0.99]), TARGET, rng.integers(0, 14, 945))
    found = intervals(TARGET, answer, rng.integers(0, rng.integers(1, 945), 945))
    _, recall, f1 = precision_recall_f1(confusion_matrix(TARGET, answer, 14))
    for name, value in (("balanced_accuracy", recall.mean()), ("macro_f1", f1.mean())):
        low, high = found[name]
        assert 0 <= low <= value + 1e-9 and value - 1e-9 <= high <= 1 and low < high


def test_a_class_of_one_clip_counts_as_little_as_its_clip():
    """Whether the only clip of a class is right moves the interval, but never opens it to 0."""
    right, wrong = (intervals(TARGET, nearly_perfect([0] * 13 + [e]), np.arange(945)) for e in (0, 1))
    for name in ("macro_f1", "balanced_accuracy"):
        assert wrong[name].low < right[name].low and 0.7 < wrong[name].low < wrong[name].high < 1


def test_errors_of_one_recordist_widen_the_interval():
    """Four errors of one recordist say less than four of four recordists."""
    together = nearly_perfect([0, 4] + [0] * 12)
    apart = TARGET.copy()
    apart[np.flatnonzero(TARGET == 1)[::50]] = 0
    one, four = (intervals(TARGET, answer, RECORDISTS)["weighted_f1"] for answer in (together, apart))
    assert one.high - one.low > 1.2 * (four.high - four.low)


CELLS = [
    Cell(14, "tail", 0.99, True, True),
    Cell(14, "tail", 0.99, False, False),
    Cell(40, "3", 0.99, False, True),
    Cell(100, "1", 0.99, True, False),
    Cell(5, "10", 0.9, True, False),
    Cell(14, "tail", 0.9, True, False),
    Cell(40, "10", 0.9, True, True),
    Cell(100, "3", 0.9, False, False),
    Cell(14, "10", 0.6, True, True),
    Cell(40, "tail", 0.6, False, False),
    Cell(14, "10", 0.2, True, False),
    Cell(14, "tail", 0.2, False, True),
    Cell(14, "10", 0.02, False, True),
    Cell(40, "3", 0.02, True, False),
    Cell(100, "3", 0.02, True, True),
]
SIMULATIONS = 300


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.concat([measure(cell, SIMULATIONS) for cell in CELLS], ignore_index=True)


@pytest.mark.slow
def test_intervals_hold_the_truth(table):
    """Of 300 intervals with a coverage of 93 % fewer than 264 hold it with a chance of 1e-3.

    A figure of two or three values, such as that of a few clips that are nearly all right, has no such interval: what
    the oracle reaches is enough there.
    """
    least = np.minimum(264 / SIMULATIONS, table.oracle - 0.02)
    assert (table.coverage >= least).all(), table[table.coverage < least].to_string()
    whole = table[table.figure.isin(["macro_f1", "weighted_f1", "balanced_accuracy"])]
    assert 0.945 <= whole.coverage.mean() <= 0.98 and 0.945 <= table.coverage.mean() <= 0.98


@pytest.mark.slow
def test_the_median_width_is_at_most_one_and_a_half_of_the_oracles(table):
    """The few-shot classes of a long tail have some 10 clips: what is right or wrong there is hardly known."""
    tiny = (table.clips == "tail") & table.figure.str.startswith("few")
    most = np.where(tiny, 1.75, 1.5)
    assert (table.ratio <= most).all(), table[table.ratio > most].to_string()
    assert table.ratio.median() < 1.1 and (table.ratio > 0.75).all()


@pytest.mark.slow
def test_the_widest_in_a_hundred_is_at_most_three_times_as_wide_as_the_oracles(table):
    whole = table[table.figure.isin(["macro_f1", "weighted_f1", "balanced_accuracy"])]
    assert (whole.width_99 <= 3 * whole.oracle_width_99).all()
