"""Counts by cluster, and what each cluster moves a figure by.

Recordings of one recordist are right or wrong together, so clusters, not clips, are what a figure's spread comes from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from birdclf.evaluation.metrics import Vector, ratio

Ratio = Literal["f1", "recall", "precision"]
BLOCK: Final = 4_000_000  # numbers in one block of draws: 32 MB


@dataclass(frozen=True)
class ClusterCounts:
    """Sufficient statistics of a classification, by cluster.

    Attributes:
        hits: ``(C, K)`` clips of each class that were recognised.
        support: ``(C, K)`` clips of each true class.
        predicted: ``(C, K)`` clips that were called each class.
    """

    hits: Vector
    support: Vector
    predicted: Vector

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
        return cls(hits, count(target), count(prediction))

    @property
    def total(self) -> "ClusterCounts":
        """The sums over clusters, ``(K,)`` each."""
        return ClusterCounts(self.hits.sum(axis=0), self.support.sum(axis=0), self.predicted.sum(axis=0))

    def ratio(self, kind: Ratio) -> Vector:
        """Return F1, recall or precision of each entry, 0 where it is not defined."""
        return ratio(*self._parts(kind))

    def influence(self, kind: Ratio) -> Vector:
        """Return ``(C, K)``: what each class's ratio loses when a cluster is left out (Efron and Stein, 1981).

        The sum of its squares over clusters is the jackknife's variance, which errs upward on average. A class whose
        clips are all of one cluster loses its whole value, or nothing where it had none: that is a second moment, not
        a variance. Such classes are centred on their common mean, as strata with one unit are collapsed
        (Cochran, 1977, section 5A.12).
        """
        above, below = self._parts(kind)
        total = self.total
        loss = total.ratio(kind) - ratio(above.sum(axis=0) - above, below.sum(axis=0) - below)
        own = self.support > 0
        single = own.sum(axis=0) == 1
        alone = own & single
        holders = int(alone.any(axis=1).sum())
        if holders > 1:
            loss[alone] = (loss[alone] - loss[alone].mean()) * np.sqrt(holders / (holders - 1))
        return loss

    def _parts(self, kind: Ratio) -> tuple[Vector, Vector]:
        if kind == "f1":
            return 2 * self.hits, self.support + self.predicted
        return self.hits, self.support if kind == "recall" else self.predicted


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
