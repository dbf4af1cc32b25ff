"""Two runs, or two configurations over seeds: is the difference more than chance?"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from birdclf.metrics.figures import Evaluation, Vector
from birdclf.metrics.intervals import ClusterCounts, Counts, Ratio, blocks, critical_values, standard_error
from birdclf.metrics.label_intervals import influence
from birdclf.metrics.over_seeds import Influence, OverSeeds
from birdclf.random import stream

if TYPE_CHECKING:
    from birdclf.metrics.label_predictions import AnyPredictions, LabelPredictions


Statistic = Literal["macro_f1", "accuracy", "balanced_accuracy"]


class McNemar(NamedTuple):
    """Clips that one of two runs alone got right, and the probability of so uneven a split by chance."""

    only_a: int
    only_b: int
    p_value: float


class Difference(NamedTuple):
    """A figure of a minus that of b, with its interval and p-value."""

    value: float
    low: float
    high: float
    p_value: float


def mcnemar(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> McNemar:
    """Return the exact test of equal accuracy on the same clips (McNemar, 1947, with the binomial distribution).

    Args:
        correct_a: ``(N,)`` whether run a is right.
        correct_b: ``(N,)`` the same of run b, clips in the same order.
    """
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    n = only_a + only_b
    return McNemar(only_a, only_b, float(stats.binomtest(only_a, n).pvalue) if n else 1.0)


def paired_bootstrap(
    target: NDArray[np.int64],
    prediction_a: NDArray[np.int64],
    prediction_b: NDArray[np.int64],
    cluster: NDArray[np.generic],
    classes: int,
    settings: Evaluation,
    statistic: Statistic = "macro_f1",
    seed: int = 0,
) -> Difference:
    """Return a figure of run a minus that of run b, on the same clips.

    The interval is studentised, from the jackknife's error of the difference and draws of whole clusters, both runs
    together (Efron and Tibshirani, 1993, section 12.5). The p-value is that of a permutation test: if the runs differ
    by chance alone, swapping their answers in whole clusters changes nothing (Good, 2005, chapter 3). The observed
    order counts as one of the draws (Phipson and Smyth, 2010), so the test holds its level however rare a class.

    Args:
        target: ``(N,)`` true classes.
        prediction_a: ``(N,)`` predicted classes of run a.
        prediction_b: ``(N,)`` those of run b.
        cluster: ``(N,)`` name of each clip's cluster.
        classes: K.
        settings: Draws and confidence.
        statistic: What is compared.
        seed: Seed of the draws.
    """
    a, b = (ClusterCounts.of(target, p, cluster, classes) for p in (prediction_a, prediction_b))
    support = a.total.support
    seen = support > 0
    kind: Ratio = "f1" if statistic == "macro_f1" else "recall"
    weight = {
        "macro_f1": np.full(classes, 1 / classes),
        "accuracy": support / support.sum(),
        "balanced_accuracy": seen / seen.sum(),
    }[statistic]
    table = _differences(a, b, kind, weight[:, None], settings, seed)
    return Difference(*(float(column[0]) for column in table))


def class_differences(
    target: NDArray[np.int64],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    cluster: NDArray[np.generic],
    classes: int,
    settings: Evaluation,
    seed: int = 0,
) -> pd.DataFrame:
    """Return F1 of run a minus run b for each class with a clip, tested as in :func:`paired_bootstrap`.

    ``q_value`` is the least false discovery rate at which a class is called different (Benjamini and Hochberg, 1995).

    Returns:
        Columns class_index, difference, low, high, p_value, q_value.
    """
    counts_a, counts_b = (ClusterCounts.of(target, p, cluster, classes) for p in (a, b))
    seen = np.flatnonzero(np.bincount(target, minlength=classes))
    value, low, high, p = _differences(counts_a, counts_b, "f1", np.eye(classes)[:, seen], settings, seed)
    columns = {"class_index": seen, "difference": value, "low": low, "high": high, "p_value": p}
    return pd.DataFrame({**columns, "q_value": stats.false_discovery_control(p)})


def set_class_differences(a: "LabelPredictions", b: "LabelPredictions", settings: Evaluation) -> pd.DataFrame:
    """Return average precision of run a minus run b for each class with a positive, on the same clips.

    Intervals and p-values are of the jackknife over clusters, both runs together. Columns as of
    :func:`class_differences`.
    """
    (one, other), cluster = (p.by_class(settings)["ap"] for p in (a, b)), np.unique(a.cluster)
    value, loss = one.value - other.value, influence(one) - influence(other)
    seen = np.flatnonzero(a.heard)
    rows = []
    for k in seen:
        over = OverSeeds.of([value[k]], [Influence(cluster, loss[:, k])])
        low, high = over.interval(settings.confidence)
        rows.append((k, over.value, max(low, -1.0), min(high, 1.0), over.p_value()))
    table = pd.DataFrame(rows, columns=["class_index", "difference", "low", "high", "p_value"])
    return table.assign(q_value=stats.false_discovery_control(table.p_value) if rows else [])


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several, in their order (Holm, 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def why_not_comparable(
    a: "AnyPredictions", b: "AnyPredictions", classes_a: tuple[str, ...], classes_b: tuple[str, ...]
) -> str:
    """Return why two runs must not be compared, "" if they may: same task, class list, recordings and true species."""
    if a.target.ndim != b.target.ndim:
        return (
            "One gives each recording one species, the other a set of species: they are judged by other figures. "
            "birdclf evaluate RUN --soundscapes DIR judges both alike."
        )
    if classes_a != classes_b:
        common = len(set(classes_a) & set(classes_b))
        if set(classes_a) == set(classes_b):
            return f"The class lists hold the same {common} species in another order."
        return f"The class lists differ: {len(classes_a)} and {len(classes_b)} species, {common} of them common."
    truth_a, truth_b = (dict(zip(p.recording_id, p.target.tolist(), strict=True)) for p in (a, b))
    common_ids = truth_a.keys() & truth_b.keys()
    if not len(common_ids) == len(truth_a) == len(truth_b):
        return f"The recordings differ: {len(truth_a)} and {len(truth_b)}, {len(common_ids)} of them common."
    if sorted(a.recording_id) != sorted(b.recording_id):
        return f"The recordings are the same {len(common_ids)}, but not as often: {len(a.target)} and {len(b.target)}."
    changed = sum(truth_a[name] != truth_b[name] for name in common_ids)
    return f"The species of {changed} of {len(common_ids)} recordings differ." if changed else ""


def _differences(
    a: ClusterCounts, b: ClusterCounts, kind: Ratio, weight: Vector, settings: Evaluation, seed: int
) -> tuple[Vector, Vector, Vector, Vector]:
    """Return value, low, high and p-value ``(S,)`` of differences of ratios with weights ``(K, S)``."""
    value = (a.total.ratio(kind) - b.total.ratio(kind)) @ weight
    moved = (a.influence(kind) - b.influence(kind)) @ weight
    critical = critical_values(moved, settings.draws, settings.confidence, stream(seed, "paired bootstrap"))
    half = critical * standard_error(moved)
    extreme = np.zeros(len(value))
    for swapped in _swapped(a, b, kind, settings.draws, stream(seed, "swaps")):
        extreme += (np.abs(swapped @ weight) >= np.abs(value) - 1e-12).sum(axis=0)
    p = (extreme + 1) / (settings.draws + 1)
    return value, np.maximum(value - half, -1), np.minimum(value + half, 1), p


def _swapped(a: ClusterCounts, b: ClusterCounts, kind: Ratio, draws: int, rng: np.random.Generator) -> Iterator[Vector]:
    """Yield blocks ``(n, K)`` of ratio differences with the runs swapped in a random half of the clusters."""
    for size in blocks(draws, len(a.hits)):
        swap = rng.integers(0, 2, (size, len(a.hits))).astype(np.float64)
        hits, predicted = swap @ (b.hits - a.hits), swap @ (b.predicted - a.predicted)
        support = a.total.support
        first = Counts(a.total.hits + hits, support, a.total.predicted + predicted)
        second = Counts(b.total.hits - hits, support, b.total.predicted - predicted)
        yield first.ratio(kind) - second.ratio(kind)
