"""Intervals for one run's figures.

Every interval is for what the same model would reach on average over test splits drawn alike: as many clips of each
class, from other clusters. 95 % intervals, 500 simulations of each of 320 kinds of test split and classifier: 5 to 100
classes, 1 to 600 clips a class, clusters or none, nearly perfect to nearly useless. Width is the median, divided by
that of an oracle that knows the figure's standard error; in brackets, nine kinds in ten:

                             coverage                 width / oracle's        above 1.5
    macro F1                 96.1 % (92.8-99.8)       1.03 (to 1.35)          2.2 %
    weighted F1              95.4 % (92.2-98.0)       1.01 (to 1.12)          0
    balanced accuracy        95.6 % (92.4-98.4)       1.01 (to 1.11)          1.2 %
    F1 of a bucket           96.4 % (93.2-99.4)       1.06 (to 1.25)          0.8 %
    recall of a bucket       95.6 % (91.8-99.2)       1.01 (to 1.09)          0
    precision of a bucket    97.0 % (92.6-99.8)       1.11 (to 1.37)          0.8 %

docs/evidence.md says where and why coverage or width is out of bounds, and what else was tried. The simulation is
tests/metrics/simulate_widths.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from birdclf.metrics.figures import Evaluation, Vector, confusion_matrix, ratio

Ratio = Literal["f1", "recall", "precision"]
STRATUM: Final = 10  # clusters of a class that is a post-stratum of its own; with fewer the weights would vary too much
BLOCK: Final = 4_000_000  # numbers in one block of draws: 32 MB
POOLED: Final = 2.0  # degrees of freedom of the variance that a class borrows from the other rare ones
EQUAL: Final = 3.0  # degrees of freedom of the variance of a figure whose clips are all alike
PAIRS: Final = 10.0  # pairs of clips that the usual correlation within a cluster counts for
CORRELATION: Final = 0.3  # the usual correlation


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


def figure_intervals(
    counts: ClusterCounts, train_counts: NDArray[np.int64], settings: Evaluation
) -> dict[str, Interval]:
    """Return the interval of each figure that is a mean of classes' ratios, with a fixed class list.

    The score interval of a proportion with an effective number of clips (Korn and Graubard, 1998): the number that
    would give a proportion the figure's variance. See :func:`_effective`; no draw is made.

    Args:
        counts: Counts by cluster, of one clip or more.
        train_counts: ``(K,)`` train recordings of each class.
        settings: Limits of the buckets, and confidence.

    Returns:
        ``macro_f1``, ``macro_f1_evaluable``, ``weighted_f1``, ``balanced_accuracy``, and ``<bucket>_f1``,
        ``<bucket>_recall`` and ``<bucket>_precision`` of every bucket with a clip.
    """
    figures = class_means(counts.total.support, train_counts, settings)
    del figures["accuracy"], figures["macro_f1"]
    correlation = _correlation(counts)
    z = np.array(norm.ppf(0.5 + settings.confidence / 2))
    found: dict[str, Interval] = {}
    for kind in get_args(Ratio):
        weights = {name: weight for name, (of, weight) in figures.items() if of == kind}
        limits = score(*_effective(counts, kind, np.stack([*weights.values()], axis=1), correlation), z)
        found |= {name: Interval(*pair) for name, pair in zip(weights, np.stack(limits, axis=1).tolist(), strict=True)}
    # A class without a clip counts as 0 whatever the model does: only the others' mean is uncertain.
    low, high = found["macro_f1_evaluable"]
    share = float((counts.total.support > 0).mean())
    return {"macro_f1": Interval(share * low, share * high), **found}


def _effective(counts: ClusterCounts, kind: Ratio, weight: Vector, correlation: float) -> tuple[Vector, Vector]:
    """Return figures ``(S,)`` and of how many clips, ``(S,)``, a proportion as large would have their variance.

    The variance is the jackknife's over clusters, post-stratified by true class, with two corrections for what few
    clips cannot show. Both are means of variances, weighted by degrees of freedom (Smyth, 2004):

    - A class held by h clusters has a variance with h - 1 degrees of freedom, none where it is held by one. It borrows
      the binomial variance of the common ratio of such rare classes, with ``POOLED`` (Cochran, 1977, section 5A.12).
    - The sum has as many as clusters carry it. It borrows the variance that the figure would have if all clips were
      alike, with ``EQUAL``: where errors are few, or there is none, the jackknife knows little, or nothing.

    Args:
        counts: Counts by cluster.
        kind: The ratio whose weighted sums are the figures.
        weight: ``(K, S)`` weights of the classes, with sum 1 over K.
        correlation: Correlation of clips of one cluster, 0 to 1.
    """
    total, clusters = counts.total, len(counts.hits)
    each = total.ratio(kind)
    value = each @ weight
    if clusters == 1:
        return value, np.ones(len(value))
    own = counts.support > 0
    held = np.maximum(own.sum(axis=0), 1)
    borrowed = POOLED / (held - 1 + POOLED)
    loss = (each - counts.without.ratio(kind)) * np.where(own, np.sqrt((1 - 1 / held) * (1 - borrowed)), 1)
    squared = (loss @ weight) ** 2
    jackknife = squared.sum(axis=0)
    freedom = 2 * ratio(jackknife**2, (squared**2).sum(axis=0))

    size = np.maximum(total.support, 1)[:, None]
    share = counts.support.T / size

    def alike(weight: Vector) -> Vector:
        """Variance of sums of ``(K, S)`` weighted recalls, in units of one clip's."""
        together = ((share.T @ weight) ** 2).sum(axis=0)
        return np.asarray((1 - correlation) * (weight**2 / size).sum(axis=0) + correlation * together)

    cost = np.ones_like(weight)  # variance of a class's ratio, over that of its recall
    predicted = np.maximum(total.predicted, 1)[:, None]
    if kind == "precision":
        cost *= size / predicted
    if kind == "f1":  # all right but one, F1 loses 1 / (2n - 1) by a clip missed and 1 / (2n + 1) by one falsely called
        perfect = size**2 * (1 / (2 * size - 1) ** 2 + 1 / (2 * size + 1) ** 2)
        cost *= 2 * size / (size + predicted) * (1 - value + value * perfect)
    unit = weight * np.sqrt(cost)
    rare = unit * np.sqrt(borrowed)[:, None]
    part = rare**2 / size
    number = ratio(part.sum(axis=0) ** 2, (part**2).sum(axis=0))  # of classes that borrow
    common = ratio(each @ part, part.sum(axis=0))
    spread = value * (1 - value)
    guess = (value + number * common) / (1 + number)  # the figure counts as one class more
    binomial = guess * (1 - guess) * (2 + number) / (1 + number)
    known = 2 * number * (1 - common)  # degrees of freedom: twice the rare classes' errors
    doubtful = (spread + known * common * (1 - common)) / (1 + known)  # rare classes are seldom better than the others
    binomial = np.where(common > value, np.maximum(binomial, doubtful), binomial)
    equal = alike(unit)
    if kind == "f1":  # the clip that one class misses is falsely called another
        equal += value / 2 * alike(np.broadcast_to((total.support / total.support.sum())[:, None], weight.shape))
    variance = jackknife * clusters / (clusters - 1) + binomial * alike(rare)
    variance = (freedom * variance + EQUAL * spread * equal) / (freedom + EQUAL)
    return value, 1 / np.clip(np.where(spread > 1e-9, ratio(variance, spread), equal), 1e-12, 1)


def _correlation(counts: ClusterCounts) -> float:
    """Return the correlation of right answers in a cluster: its moment estimate over all pairs of clips in a cluster.

    A class's rate is drawn to that of all, as if it had ``PAIRS`` clips more, and so is the estimate to
    ``CORRELATION``.
    """
    total = counts.total
    overall = (total.hits.sum() + 0.5) / (total.support.sum() + 1)
    rate = (total.hits + PAIRS * overall) / (total.support + PAIRS)
    residual = (counts.hits - rate * counts.support).sum(axis=1)
    alone = total.hits * (1 - rate) ** 2 + (total.support - total.hits) * rate**2
    variance = (total.support * rate * (1 - rate)).sum() / total.support.sum()
    clips = counts.support.sum(axis=1)
    pairs = (clips * (clips - 1)).sum()
    products = (residual**2).sum() - alone.sum()
    return float(np.clip((products + PAIRS * CORRELATION * variance) / ((pairs + PAIRS) * variance), 0, 1))


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
