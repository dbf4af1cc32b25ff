"""A choice of uncertain and different windows: diverse mini-batch active learning.

Zhdanov (2019), "Diverse mini-batch Active Learning", arXiv:1901.05954, algorithm 1: of the ``beta * k`` most uncertain,
a k-means whose points weigh as much as they are uncertain, and of each cluster the member nearest to its centre. The
most uncertain ones alone are often the same sound k times. Centres begin by k-means++ (Arthur and Vassilvitskii, 2007)
with weights. Embeddings have length 1, as in spherical k-means: how loud a sound is does not make it another.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BEGINNINGS: Final = 3
ROUNDS: Final = 50
ROWS: Final = 2048
"""Distances are computed for so many points at once."""

Points = NDArray[np.float32]


def diverse(embeddings: Points, weights: NDArray[np.floating], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the rows of ``k`` points, ascending: one of each cluster of a weighted k-means, the nearest to its centre.

    Args:
        embeddings: ``(n, D)``, scaled to length 1 here.
        weights: ``(n,)``, 0 or more.
        k: How many; all rows where there are no more.
        rng: Where centres begin.
    """
    n = len(embeddings)
    if k >= n:
        return np.arange(n)
    points = np.asarray(embeddings, np.float32)
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    heavy = np.asarray(weights, np.float64)
    heavy = heavy + max(float(heavy.max()), 1.0) * 1e-9  # all of weight 0 weigh the same
    best: tuple[float, NDArray[np.int64], NDArray[np.float64]] | None = None
    for _ in range(BEGINNINGS):
        found = _clusters(points, heavy, _beginning(points, heavy, k, rng))
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    _, cluster, distance = best
    order = np.lexsort((np.arange(n), distance, cluster))
    first = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    chosen = order[first]
    if len(chosen) < k:  # points that are the same leave clusters without a member
        rest = np.setdiff1d(np.argsort(-heavy, kind="stable"), chosen, assume_unique=True)
        chosen = np.concatenate([chosen, rest[: k - len(chosen)]])
    return np.sort(chosen)


def _beginning(points: Points, weights: NDArray[np.float64], k: int, rng: np.random.Generator) -> Points:
    """Return ``(k, D)`` points, each drawn by weight and squared distance to the nearest one before it."""
    chosen = [int(rng.choice(len(points), p=weights / weights.sum()))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < k:
        nearest = np.minimum(nearest, _squared(points, points[chosen[-1:]])[:, 0])
        nearest[chosen[-1]] = 0.0  # whatever rounding makes of it
        odds = weights * nearest
        if not odds.sum() > 0:
            break
        chosen.append(int(rng.choice(len(points), p=odds / odds.sum())))
    return points[chosen]


def _clusters(
    points: Points, weights: NDArray[np.float64], centres: Points
) -> tuple[float, NDArray[np.int64], NDArray[np.float64]]:
    """Return weighted squared distances in all, and of each point its cluster and squared distance to that centre."""
    cluster = np.full(len(points), -1)
    for _ in range(ROUNDS):
        before = cluster
        cluster, distance = _nearest(points, centres)
        if (cluster == before).all():
            break
        sums = np.zeros(centres.shape, np.float64)
        np.add.at(sums, cluster, points * weights[:, None])
        weight = np.bincount(cluster, weights, len(centres))[:, None]
        centres = np.where(weight > 0, sums / np.maximum(weight, 1e-300), centres).astype(np.float32)
    cluster, distance = _nearest(points, centres)
    return float((weights * distance).sum()), cluster, distance


def _nearest(points: Points, centres: Points) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    cluster, distance = np.empty(len(points), np.int64), np.empty(len(points))
    for first in range(0, len(points), ROWS):
        squared = _squared(points[first : first + ROWS], centres)
        cluster[first : first + ROWS] = squared.argmin(axis=1)
        distance[first : first + ROWS] = squared.min(axis=1)
    return cluster, distance


def _squared(points: Points, centres: Points) -> NDArray[np.float64]:
    """Return squared distances ``(n, k)`` of points of length 1 to centres."""
    lengths = np.square(centres, dtype=np.float64).sum(axis=1)
    return np.asarray(np.maximum(1.0 + lengths - 2.0 * (points @ centres.T).astype(np.float64), 0.0))
