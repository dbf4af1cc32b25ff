"""Figures of a judgement of several species at once, and what each loses without one cluster of recordings.

A target is 1 where a class is heard, 0 where not, and -1 where that is not known: such entries are left out of the
class's figures. A class without a positive is left out of means. Clips of equal score enter a ranking together.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata

from birdclf.metrics.figures import Evaluation, Vector, ratio
from birdclf.metrics.intervals import blocks

BLOCK: Final = 2_000_000  # numbers in one block of positives by clusters: 16 MB
CURVE: Final = 400  # thresholds of a precision-recall curve


class Estimate(NamedTuple):
    """Figures, and the same figures without each cluster; NaN where one is not defined.

    Attributes:
        value: ``(...)``.
        without: ``(C, ...)``.
        clips: ``(...)`` clips that would tell as much if they were independent; the positives, of a class.
    """

    value: Vector
    without: Vector
    clips: Vector

    def mean(self, members: NDArray[np.bool_]) -> "Estimate":
        """Return the mean over the classes ``(K,)`` of which the figure is defined."""
        value, without, clips = (each[..., members] for each in self)
        rest = clips[np.isfinite(value)]
        return Estimate(_mean(value), _mean(without), ratio(np.array(len(rest) ** 2), (1 / rest).sum()))


def _mean(values: Vector) -> Vector:
    """Return the mean over the last axis of what is not NaN; NaN where nothing is left."""
    known = np.isfinite(values)
    return _defined(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def _defined(above: NDArray[np.generic], below: NDArray[np.generic]) -> Vector:
    """Return ``above / below``, NaN where ``below`` is 0."""
    return np.where(np.asarray(below) != 0, ratio(above, below), np.nan)


def class_rankings(
    score: NDArray[np.floating], target: NDArray[np.int8], member: NDArray[np.int64], settings: Evaluation
) -> dict[str, Estimate]:
    """Return the figures of each class that follow from the ranking of its clips, ``(K,)`` each.

    - ``ap``: average precision ``sum_n (R_n - R_{n-1}) P_n``, without interpolation (Buckley and Voorhees, 2000);
    - ``auroc``: area under the ROC curve, the share of pairs of a positive and a negative that are ranked right;
    - ``recall_at_precision``: largest recall with a precision of ``settings.precision`` or more, 0 if there is none;
    - ``precision_at_recall``: largest precision with a recall of ``settings.recall`` or more.

    Args:
        score: ``(N, K)`` scores, of any scale.
        target: ``(N, K)`` of 1, 0 and -1.
        member: ``(N,)`` cluster of each clip, 0 to C - 1.
        settings: The fixed precision and recall.
    """
    clusters = int(member.max()) + 1
    rows = []
    for k in range(score.shape[1]):
        known = target[:, k] >= 0
        truth, group, own = target[known, k] == 1, member[known], score[known, k]
        rows.append([*_precision_recall(own, truth, group, clusters, settings), _roc(own, truth, group, clusters)])
    names = ("ap", "recall_at_precision", "precision_at_recall", "auroc")
    found = np.array(rows).reshape(score.shape[1], len(names), clusters + 1)
    clips = 2.0 * (target == 1).sum(axis=0)  # the precision at a positive varies less than a yes or no
    return {name: Estimate(found[:, i, 0], found[:, i, 1:].T, clips) for i, name in enumerate(names)}


def _precision_recall(
    score: NDArray[np.floating],
    truth: NDArray[np.bool_],
    group: NDArray[np.int64],
    clusters: int,
    settings: Evaluation,
) -> Vector:
    """Return average precision, recall at the precision and precision at the recall, ``(3, 1 + C)``.

    The first column is of all clips, the others without each cluster. Only thresholds at the score of a positive count:
    others have no larger precision and recall.
    """
    order = np.argsort(-score, kind="stable")
    score, truth, group = score[order], truth[order], group[order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    ends = last[np.diff(np.cumsum(truth)[last], prepend=0) > 0] if truth.any() else last[:0]
    positives = np.bincount(group[truth], minlength=clusters)
    every = _with_all(positives)
    average, recall, precision = np.zeros((3, clusters + 1))
    slot = np.searchsorted(ends, np.arange(len(score)))  # of the first threshold that a clip is above
    above = np.zeros((2, clusters), dtype=np.int64)  # positives, and clips, of each cluster above the last threshold
    size = max(1, BLOCK // clusters)
    for begin in range(0, len(ends), size):
        end = min(begin + size, len(ends))
        inside = slice(*np.searchsorted(slot, [begin, end]))
        cell = (slot[inside] - begin) * clusters + group[inside]
        cells = [np.bincount(each, minlength=(end - begin) * clusters) for each in (cell[truth[inside]], cell)]
        steps = np.reshape(cells, (2, end - begin, clusters))
        counts = steps.cumsum(axis=1) + above[:, None]
        above = counts[:, -1]
        found, called = (_with_all(each) for each in counts)
        p = ratio(found, called)
        average += (p * _with_all(steps[0])).sum(axis=0)
        recall = np.maximum(recall, np.where(p >= settings.precision, ratio(found, every), 0).max(axis=0))
        precision = np.maximum(precision, np.where(ratio(found, every) >= settings.recall, p, 0).max(axis=0))
    return np.where(every > 0, np.stack([ratio(average, every), recall, precision]), np.nan)


def _with_all(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return sums over clusters ``(..., C)``, of all and without each of them, ``(..., 1 + C)``."""
    total = counts.sum(axis=-1, keepdims=True)
    return np.concatenate([total, total - counts], axis=-1)


def _roc(score: NDArray[np.floating], truth: NDArray[np.bool_], group: NDArray[np.int64], clusters: int) -> Vector:
    """Return the area under the ROC curve ``(1 + C,)``, of all clips and without each cluster.

    It is the Mann-Whitney statistic: of the pairs without a cluster are left those of all clips, less those with a
    positive or a negative of the cluster, plus those with both.
    """
    beaten = _beaten(score, truth)
    won = np.bincount(group[truth], weights=beaten[truth], minlength=clusters)  # pairs, of the cluster's positives
    lost = np.bincount(group[~truth], weights=truth.sum() - beaten[~truth], minlength=clusters)
    within = np.zeros(clusters)
    present = np.unique(group[truth])
    if len(present):
        inside = np.isin(group, present)
        dense = np.unique(score[inside], return_inverse=True)[1] + group[inside] * (len(score) + 1)
        own = truth[inside]
        # Clips of other clusters lie wholly above or below: only their number is taken off.
        less = _beaten(dense, own)[own]
        negatives = np.bincount(group[~truth], minlength=clusters) * np.isin(np.arange(clusters), present)
        before = np.cumsum(negatives) - negatives
        within += np.bincount(group[truth], weights=less - before[group[truth]], minlength=clusters)
    pairs = _with_all(np.bincount(group[truth], minlength=clusters))
    pairs = pairs * _with_all(np.bincount(group[~truth], minlength=clusters))
    total = won.sum()
    return _defined(np.concatenate([[total], total - won - lost + within]), pairs)


def _beaten(score: NDArray[np.generic], truth: NDArray[np.bool_]) -> Vector:
    """Return how many clips of the other kind each clip is ranked above, ``(N,)``; those of equal score are halves."""
    rank = np.asarray(rankdata(score), dtype=np.float64)
    for kind in (truth, ~truth):
        rank[kind] -= rankdata(score[kind])
    return rank


class ThresholdCounts(NamedTuple):
    """Counts at a threshold of probability, of each cluster and class ``(C, K)``."""

    hits: Vector
    support: Vector
    called: Vector

    @classmethod
    def of(cls, called: NDArray[np.bool_], target: NDArray[np.int8], member: NDArray[np.int64]) -> "ThresholdCounts":
        """Count the known entries of ``(N, K)``, called and heard."""
        heard = target == 1
        return cls(*(by_cluster(each, member) for each in (called & heard, heard, called & (target >= 0))))

    def f1(self) -> Estimate:
        """Return F1 of each class with a positive."""
        return self._ratio(2 * self.hits, self.support + self.called)

    def recall(self) -> Estimate:
        """Return the recall of each class with a positive."""
        return self._ratio(self.hits, self.support)

    def precision(self) -> Estimate:
        """Return the precision of each class with a positive, 0 where none was called."""
        return self._ratio(self.hits, self.called)

    def micro_f1(self) -> Estimate:
        """Return F1 over all entries, those of classes without a positive included."""
        return share(2 * self.hits.sum(axis=1), (self.support + self.called).sum(axis=1), self.support.sum())

    def _ratio(self, above: Vector, below: Vector) -> Estimate:
        sums = zip(*(_total_and_without(each) for each in (above, below, self.support)), strict=True)
        value, without = (np.where(heard > 0, ratio(a, b), np.nan) for a, b, heard in sums)
        return Estimate(value, without, self.support.sum(axis=0))


def by_cluster(values: NDArray[np.generic], member: NDArray[np.int64]) -> Vector:
    """Return sums of ``(N, ...)`` values over the clips of each cluster, ``(C, ...)``."""
    order = np.argsort(member, kind="stable")
    begin = np.flatnonzero(np.diff(member[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[order], begin, axis=0, dtype=np.float64))


def share(above: Vector, below: Vector, clips: float) -> Estimate:
    """Return the ratio of two sums over clusters ``(C,)``, of so many clips."""
    total, without = zip(_total_and_without(above), _total_and_without(below), strict=True)
    return Estimate(_defined(*total), _defined(*without), np.array(float(clips)))


def _total_and_without(counts: Vector) -> tuple[Vector, Vector]:
    total = counts.sum(axis=0)
    return total, total - counts


def top_is_heard(score: NDArray[np.floating], target: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return of each clip whether the highest score of a known class ``(N,)`` is that of a class that is heard.

    Its mean over clips with a label is BirdSet's T1 accuracy (Rauch et al., 2024). Of equal scores the first counts.
    """
    top = np.where(target >= 0, score, -np.inf).argmax(axis=1)
    return np.asarray(target[np.arange(len(target)), top] == 1)


def class_calibration_errors(p: Vector, target: NDArray[np.int8], bins: int = 15) -> Vector:
    """Return the mean gap between probability and share of clips with the class, in bins, ``(K,)``.

    As the calibration error of Guo et al. (2017, equation 3), of one class against the rest (Nixon et al., 2019); NaN
    for a class without a known entry.
    """
    found = []
    for k in range(p.shape[1]):
        known = target[:, k] >= 0
        own = p[known, k].astype(np.float64)
        member = np.clip(np.ceil(own * bins).astype(np.int64) - 1, 0, bins - 1)
        gap = np.bincount(member, weights=own - (target[known, k] == 1), minlength=bins)
        found.append(np.abs(gap).sum() / len(own) if len(own) else np.nan)
    return np.array(found)


def cross_entropy(logits: NDArray[np.floating], target: NDArray[np.int8]) -> float:
    """Return the mean binary cross-entropy over known entries, in nats."""
    z = logits.astype(np.float64)
    known = target >= 0
    return float((np.logaddexp(0, z) - z * (target == 1))[known].mean()) if known.any() else float("nan")


def probabilities(logits: NDArray[np.floating]) -> Vector:
    """Return ``(N, K)`` probabilities in float64."""
    return np.asarray(expit(logits.astype(np.float64)))


class PrecisionRecall(NamedTuple):
    """A precision-recall curve and the band of its precision, at recalls from 0 to 1."""

    recall: Vector  # `(R,)`
    precision: Vector  # `(R,)`, NaN where no threshold reaches the recall
    low: Vector  # `(R,)`
    high: Vector  # `(R,)`


def precision_recall(
    score: NDArray[np.floating],
    target: NDArray[np.int8],
    member: NDArray[np.int64],
    settings: Evaluation,
    seed: int = 0,
) -> PrecisionRecall | None:
    """Return the micro-averaged curve of all known entries, with a band by the cluster bootstrap (percentiles).

    At each recall the precision is the largest at the thresholds that reach it, of ``CURVE`` scores that are spread
    over the ranks of the positives. None where no class is heard.

    Args:
        score: ``(N, K)`` scores, comparable between classes.
        target: ``(N, K)`` of 1, 0 and -1.
        member: ``(N,)`` cluster of each clip, 0 to C - 1.
        settings: Draws and confidence.
        seed: Of the draws.
    """
    heard, known = target == 1, target >= 0
    if not heard.any():
        return None
    clusters = int(member.max()) + 1
    thresholds = np.unique(np.quantile(score[heard], np.linspace(0, 1, CURVE), method="nearest"))
    slot = np.searchsorted(thresholds, score, side="right") - 1  # of the largest threshold that is reached, or -1
    cell = (slot + 1) * clusters + member[:, None]
    size = (len(thresholds) + 1) * clusters
    cells = [np.bincount(cell[of], minlength=size).reshape(-1, clusters) for of in (heard, known)]
    found, called = (np.cumsum(each[:0:-1], axis=0).astype(np.float64) for each in cells)  # from the largest on
    every = heard.sum(axis=1) @ (member[:, None] == np.arange(clusters))
    recall = np.linspace(0, 1, 101)

    def at_recalls(weight: Vector) -> Vector:
        """Precision ``(D, R)`` with the clusters weighted ``(D, C)``."""
        hits, all_called, positives = weight @ found.T, weight @ called.T, weight @ every
        best = np.maximum.accumulate(ratio(hits, all_called)[:, ::-1], axis=1)[:, ::-1]
        reached = ratio(hits, positives[:, None])
        out = np.full((len(weight), len(recall)), np.nan)
        for row, (x, y) in enumerate(zip(reached, best, strict=True)):
            index = np.searchsorted(x, recall - 1e-12)
            out[row, index < len(x)] = y[index[index < len(x)]]
        return out

    rng = np.random.default_rng(seed)
    draws = np.concatenate(
        [
            at_recalls(rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64))
            for size in blocks(settings.draws, clusters + 2 * CURVE)
        ]
    )
    beyond = (1 - settings.confidence) / 2
    low, high = np.nanquantile(draws, [beyond, 1 - beyond], axis=0)
    return PrecisionRecall(recall, at_recalls(np.ones((1, clusters)))[0], low, high)
