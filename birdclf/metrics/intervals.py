"""Intervals for one run's figures.

Every interval is for what the same model would reach on average over test splits drawn alike: as many clips of each
class, from other clusters. Coverage of 95 % intervals, 1,000 simulations at a time:

                                  test design, 5 seeds    8 other designs
    macro F1                      93.7-95.0 %             92.9-97.2 %
    weighted F1                   95.6-96.8 %             95.2-97.5 %
    balanced accuracy             92.2-94.5 %             93.2-97.4 %
    many-shot F1                  95.3-96.6 %             94.5-96.6 %
    medium-shot F1                96.4-97.5 %             95.6-98.1 %
    few-shot F1                   94.9-96.8 %             94.2-98.9 %
    precision of a bucket         95.5-98.1 %             95.5-99.0 %
    recall of a bucket            93.5-97.0 %             94.4-98.2 %

The test design is that of tests/evaluation/test_coverage.py: 30 classes of 60 clips down to 1, clusters of recordists.
The others have 12 to 89 classes, 110 to 1,762 clips, clusters or none, and an accuracy of 0.95 down to 0.02 by class.
No seed of this table served to choose the method. Balanced accuracy falls short where all classes with a single clip
are wrong, since then they show no spread.

Percentile, basic and BCa intervals were given up: in an earlier study, of other designs, they held macro F1 in 25-92 %.
A class with one clip varies too little in draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from birdclf.metrics.figures import Evaluation, Vector, confusion_matrix, ratio
from birdclf.random import stream

Ratio = Literal["f1", "recall", "precision"]
STRATUM: Final = 10  # clusters of a class that is a post-stratum of its own; with fewer the weights would vary too much
BLOCK: Final = 4_000_000  # numbers in one block of draws: 32 MB


@dataclass(frozen=True)
class Counts:
    """Sufficient statistics of a classification."""

    hits: Vector  # `(..., K)` clips of each class that were recognised
    support: Vector  # `(..., K)` clips of each true class
    predicted: Vector  # `(..., K)` clips that were called each class

    def ratio(self, kind: Ratio) -> Vector:
        """Return F1, recall or precision of each entry, 0 where it is not defined."""
        if kind == "f1":
            return ratio(2 * self.hits, self.support + self.predicted)
        return ratio(self.hits, self.support if kind == "recall" else self.predicted)


@dataclass(frozen=True)
class ClusterCounts(Counts):
    """Counts of each cluster, ``(C, K)``.

    Attributes:
        without: ``(C, K)`` counts of all other clusters, their clips weighted up to as many of each post-stratum as
            there are with it. A true class is one; classes in fewer than ``STRATUM`` clusters are one together.
    """

    without: Counts

    @classmethod
    def of(
        cls, target: NDArray[np.int64], prediction: NDArray[np.int64], cluster: NDArray[np.generic], classes: int
    ) -> "ClusterCounts":
        """Count the clips of each cluster, in the order of the clusters' names.

        Args:
            target: ``(N,)`` true classes.
            prediction: ``(N,)`` predicted classes.
            cluster: ``(N,)`` name of each clip's cluster.
            classes: K.
        """
        names, member = np.unique(cluster, return_inverse=True)

        def count(label: NDArray[np.int64]) -> Vector:
            cells = np.bincount(member * classes + label, minlength=len(names) * classes)
            return cells.reshape(len(names), classes).astype(np.float64)

        hit = target == prediction
        hits = np.zeros((len(names), classes))
        np.add.at(hits, (member[hit], target[hit]), 1)
        support, predicted = count(target), count(prediction)
        weight = _restored(support)
        called = weight @ confusion_matrix(target, prediction, classes)
        np.subtract.at(called, (member, prediction), weight[member, target])
        without = Counts(weight * (hits.sum(axis=0) - hits), weight * (support.sum(axis=0) - support), called)
        return cls(hits, support, predicted, without)

    @property
    def total(self) -> Counts:
        """The sums over clusters, ``(K,)`` each."""
        return Counts(self.hits.sum(axis=0), self.support.sum(axis=0), self.predicted.sum(axis=0))

    def influence(self, kind: Ratio, least: int = STRATUM) -> Vector:
        """Return ``(C, K)``: what each class's ratio loses when a cluster is left out.

        The sum of its squares over clusters is the jackknife's variance. The clips that are left are post-stratified by
        true class anew (Yung and Rao, 1996), since a stratified split fixes how many there are. Of a stratum with h
        clusters ``(h - 1) / h`` of the sum counts (Jones, 1974). Classes of fewer than ``least`` clusters go without
        that factor: the jackknife then errs upward on average (Efron and Stein, 1981), as intervals from few clusters
        need. With ``least=2`` it hardly errs, as is better where several seeds are averaged.

        A class whose clips are all of one cluster loses its whole value, or nothing where it had none: that is a second
        moment, not a variance. Such classes are centred on their common mean, as strata with one unit are collapsed
        (Cochran, 1977, section 5A.12).
        """
        own = self.support > 0
        held = own.sum(axis=0)
        loss = self.total.ratio(kind) - self.without.ratio(kind)
        loss *= np.where(own & (held >= least), np.sqrt(1 - 1 / np.maximum(held, 1)), 1)
        alone = own & (held == 1)
        holders = int(alone.any(axis=1).sum())
        if holders > 1:
            loss[alone] = (loss[alone] - loss[alone].mean()) * np.sqrt(holders / (holders - 1))
        return loss


def _restored(support: Vector) -> Vector:
    """Return ``(C, K)``: what a clip of another cluster counts, so that its post-stratum is as large as with this one.

    It is 0 where no clip is left.
    """
    rare = (support > 0).sum(axis=0) < STRATUM
    stratum = np.where(rare, support[:, rare].sum(axis=1, keepdims=True), support)
    total = stratum.sum(axis=0)
    return ratio(total, total - stratum)


def blocks(draws: int, clusters: int) -> Iterator[int]:
    """Yield how many draws to make at once, so that a block of draws by clusters stays within memory."""
    size = max(1, BLOCK // clusters)
    for begin in range(0, draws, size):
        yield min(size, draws - begin)


def standard_error(influence: Vector) -> Vector:
    """Return the jackknife's standard error ``(S,)`` of figures with influence ``(C, S)``; infinite for one cluster."""
    clusters, figures = influence.shape
    if clusters == 1:
        return np.full(figures, np.inf)
    return np.asarray(np.sqrt((influence**2).sum(axis=0) * clusters / (clusters - 1)), dtype=np.float64)


def critical_values(influence: Vector, draws: int, confidence: float, rng: np.random.Generator) -> Vector:
    """Return ``(S,)``: within how many standard errors a figure lies, by the studentised cluster bootstrap.

    The quantile of ``|t*|`` over draws of whole clusters (Efron and Tibshirani, 1993, section 12.5, symmetric). It
    exceeds the normal one where few clusters carry the figure. It is kept between the normal quantile and Student's
    with one degree of freedom, since draws without any spread say nothing.
    """
    clusters = len(influence)
    centred = influence - influence.mean(axis=0)
    squared = centred**2
    statistic = []
    for size in blocks(draws, clusters):
        weight = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)
        moved = weight @ centred
        spread = np.sqrt(np.maximum(weight @ squared - moved**2 / clusters, 0))
        statistic.append(np.divide(np.abs(moved), spread, out=np.zeros_like(moved), where=spread > 1e-12))
    quantile = 0.5 + confidence / 2
    found = np.quantile(np.concatenate(statistic), confidence, axis=0)
    return np.asarray(np.clip(found, norm.ppf(quantile), t.ppf(quantile, 1)), dtype=np.float64)


class Interval(NamedTuple):
    """Lower and upper limit."""

    low: float
    high: float


def wilson(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the score interval of a proportion (Wilson, 1927).

    Args:
        hits: Successes, 0 to n.
        n: Trials, 1 or more.
        confidence: Coverage, in (0, 1).
    """
    low, high = score(np.array(hits / n), np.array(float(n)), np.array(norm.ppf(0.5 + confidence / 2)))
    return Interval(float(low), float(high))


def class_means(
    support: Vector, train_counts: NDArray[np.int64], settings: Evaluation
) -> dict[str, tuple[Ratio, Vector]]:
    """Return the figures that are weighted sums of a ratio of each class: which ratio, and its weights ``(K,)``.

    Args:
        support: ``(K,)`` clips of each class.
        train_counts: ``(K,)`` train recordings of each class.
        settings: Limits of the buckets.
    """
    seen = support > 0
    figures: dict[str, tuple[Ratio, Vector]] = {
        "accuracy": ("recall", support / support.sum()),
        "macro_f1": ("f1", seen / len(seen)),
        "macro_f1_evaluable": ("f1", seen / seen.sum()),
        "weighted_f1": ("f1", support / support.sum()),
        "balanced_accuracy": ("recall", seen / seen.sum()),
    }
    for name, members in settings.buckets(train_counts).items():
        inside = members & seen
        if inside.any():
            kinds: tuple[Ratio, ...] = ("f1", "recall", "precision")
            figures |= {f"{name}_{kind}": (kind, inside / inside.sum()) for kind in kinds}
    return figures


def bootstrap_intervals(
    counts: ClusterCounts, train_counts: NDArray[np.int64], settings: Evaluation, seed: int = 0
) -> dict[str, Interval]:
    """Return the interval of each figure that is a mean of classes' ratios, with a fixed class list.

    The score interval of a proportion with an effective number of clips (Korn and Graubard, 1998): the number that
    would give a proportion the figure's jackknife error over clusters, post-stratified by true class. Its critical
    value is the studentised bootstrap's, from ``settings.draws`` draws of whole clusters. A figure without any spread,
    such as one of 0, counts a clip for each of its clusters.

    Args:
        counts: Counts by cluster, of one clip or more.
        train_counts: ``(K,)`` train recordings of each class.
        settings: Limits of the buckets, draws and confidence.
        seed: Seed of the draws.

    Returns:
        ``macro_f1``, ``macro_f1_evaluable``, ``weighted_f1``, ``balanced_accuracy``, and ``<bucket>_f1``,
        ``<bucket>_recall`` and ``<bucket>_precision`` of every bucket with a clip.
    """
    figures = class_means(counts.total.support, train_counts, settings)
    del figures["accuracy"], figures["macro_f1"]
    influence = {kind: counts.influence(kind) for kind, _ in figures.values()}
    moved = np.stack([influence[kind] @ weight for kind, weight in figures.values()], axis=1)
    value = np.array([counts.total.ratio(kind) @ weight for kind, weight in figures.values()])
    clusters = np.array([(counts.support @ (weight > 0) > 0).sum() for _, weight in figures.values()])
    error = standard_error(moved)
    spread = value * (1 - value)
    effective = np.maximum(np.where((error > 1e-9) & (spread > 1e-9), ratio(spread, error**2), clusters), 1)
    critical = critical_values(moved, settings.draws, settings.confidence, stream(seed, "bootstrap"))
    limits = zip(*score(value, effective, critical), strict=True)
    found = {name: Interval(float(low), float(high)) for name, (low, high) in zip(figures, limits, strict=True)}
    # A class without a clip counts as 0 whatever the model does: only the others' mean is uncertain.
    low, high = found["macro_f1_evaluable"]
    share = float((counts.total.support > 0).mean())
    return {"macro_f1": Interval(share * low, share * high), **found}


def class_f1_intervals(counts: ClusterCounts, settings: Evaluation) -> Vector:
    """Return the interval of each class's F1, ``(K, 2)``, NaN where a class has no clip.

    F1 is ``2 J / (1 + J)`` of the proportion J of hits among clips that are, or were called, of the class; J has a
    score interval (Lam, Gopal and Qian, 2023, indirect Wilson). Its clips are divided by the design effect of the
    clusters (Kish, 1965), where all are right or all wrong by the clips in a cluster. No draw is made: the few clips of
    a rare class would be drawn to the same figure over and over.
    """
    union = counts.support + counts.predicted - counts.hits
    total = union.sum(axis=0)
    clusters = (union > 0).sum(axis=0)
    share = ratio(counts.hits.sum(axis=0), total)
    residual = ((counts.hits - share * union) ** 2).sum(axis=0) * ratio(clusters, np.maximum(clusters - 1, 1))
    effect = np.where((share > 0) & (share < 1), ratio(residual, total * share * (1 - share)), ratio(total, clusters))
    effective = total / np.maximum(np.where(clusters > 1, effect, total), 1)
    seen = counts.support.sum(axis=0) > 0
    z = np.full(len(total), norm.ppf(0.5 + settings.confidence / 2))
    low, high = score(share, np.maximum(effective, 1), z)
    limits = np.stack([2 * low / (1 + low), 2 * high / (1 + high)], axis=1)
    return np.where(seen[:, None], limits, np.nan)


def score(p: Vector, n: Vector, z: Vector) -> tuple[Vector, Vector]:
    """Return the limits of the score interval for proportions p of n trials at z standard errors."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)
