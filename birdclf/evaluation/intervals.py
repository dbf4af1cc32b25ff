"""Intervals for one run's figures."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from birdclf.evaluation.metrics import ratio
from birdclf.randomness import stream


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def wilson(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the score interval of a proportion (Wilson, 1927).

    Args:
        hits: Successes, 0 to n.
        n: Trials, 1 or more.
        confidence: Coverage, in (0, 1).
    """
    z = float(norm.ppf(0.5 + confidence / 2))
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def bootstrap_macro_f1(
    target: NDArray[np.int64],
    prediction: NDArray[np.int64],
    cluster: NDArray[np.generic],
    classes: int,
    draws: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the bootstrap interval of macro F1 over a fixed class list.

    The percentile interval, shifted by the bootstrap's estimate of bias (Efron and Tibshirani, 1993, 10.2 and 13.3).
    Whole clusters are drawn with replacement, so that recordings of one recordist do not count as independent.

    Args:
        target: ``(N,)`` true classes.
        prediction: ``(N,)`` predicted classes.
        cluster: ``(N,)`` name of each clip's cluster.
        classes: K.
        draws: Bootstrap samples.
        confidence: Coverage, in (0, 1).
        seed: Seed of the draws.
    """
    names, member = np.unique(cluster, return_inverse=True)
    hit = (target == prediction).astype(np.float64)
    hits, support, predicted = (np.zeros((len(names), classes)) for _ in range(3))
    np.add.at(hits, (member, target), hit)
    np.add.at(support, (member, target), 1)
    np.add.at(predicted, (member, prediction), 1)
    weight = stream(seed, "bootstrap").multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    f1 = ratio(2 * (weight @ hits), weight @ support + weight @ predicted).mean(axis=1)
    # A class with few clips is absent from many draws and then counts as 0: the draws lie too low by that bias.
    point = ratio(2 * hits.sum(axis=0), support.sum(axis=0) + predicted.sum(axis=0)).mean()
    low, high = np.clip(np.quantile(f1, [0.5 - confidence / 2, 0.5 + confidence / 2]) + point - f1.mean(), 0, 1)
    return Interval(float(low), float(high))
