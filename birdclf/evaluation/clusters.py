"""Counts by cluster, and what each cluster moves a figure by.

Recordings of one recordist are right or wrong together, so clusters, not clips, are what a figure's spread comes from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from birdclf.evaluation.metrics import Vector, confusion_matrix, ratio

Ratio = Literal["f1", "recall", "precision"]
STRATUM: Final = 10  # clusters of a class that is a post-stratum of its own; with fewer the weights would vary too much
BLOCK: Final = 4_000_000  # numbers in one block of draws: 32 MB


@dataclass(frozen=True)
class Counts:
    """Sufficient statistics of a classification.

    Attributes:
        hits: ``(..., K)`` clips of each class that were recognised.
        support: ``(..., K)`` clips of each true class.
        predicted: ``(..., K)`` clips that were called each class.
    """

    hits: Vector
    support: Vector
    predicted: Vector

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

    def influence(self, kind: Ratio) -> Vector:
        """Return ``(C, K)``: what each class's ratio loses when a cluster is left out.

        The sum of its squares over clusters is the jackknife's variance. The clips that are left are post-stratified by
        true class anew (Yung and Rao, 1996), since a stratified split fixes how many there are. Of a stratum with h
        clusters ``(h - 1) / h`` of the sum counts (Jones, 1974). Rare classes go without that factor: the jackknife
        then errs upward on average (Efron and Stein, 1981), as intervals from few clusters need.

        A class whose clips are all of one cluster loses its whole value, or nothing where it had none: that is a second
        moment, not a variance. Such classes are centred on their common mean, as strata with one unit are collapsed
        (Cochran, 1977, section 5A.12).
        """
        own = self.support > 0
        held = own.sum(axis=0)
        loss = self.total.ratio(kind) - self.without.ratio(kind)
        loss *= np.where(own & (held >= STRATUM), np.sqrt(1 - 1 / np.maximum(held, 1)), 1)
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
