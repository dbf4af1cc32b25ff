"""Intervals for figures of several species at once, by the jackknife over clusters: recordings or sites.

Every interval is for what the same model would reach on average over other clusters, drawn alike. It is the score
interval of a proportion, or of a rate, with an effective number of clips (Korn and Graubard, 1998), at Student's
quantile: few clusters carry most of the variance, since they differ in length and in species. docs/evidence.md says how
well it covers and what else was tried; the simulation is tests/metrics/simulate_label_intervals.py.
"""

import numpy as np
from scipy.stats import norm, t

from birdclf.metrics.figures import Vector
from birdclf.metrics.intervals import Interval, score
from birdclf.metrics.multi_label import Estimate


def influence(estimate: Estimate) -> Vector:
    """Return what a figure loses without each cluster, ``(C,)``, its whole value where nothing is left.

    Times ``(C - 1) / C``, so that ``C / (C - 1)`` times the sum of squares is the jackknife's variance.
    """
    clusters = len(estimate.without)
    loss = estimate.value - np.where(np.isfinite(estimate.without), estimate.without, 0)
    return np.asarray(loss * (clusters - 1) / clusters, dtype=np.float64)


def _variance_and_quantile(estimate: Estimate, confidence: float) -> tuple[float, float]:
    """Return the jackknife's variance, and Student's quantile with as many degrees of freedom as clusters carry it.

    They are ``(sum q)^2 / sum q^2`` of the squares q. Satterthwaite's (1946) are up to three times as many, for losses
    with a normal distribution; those of soundscapes have longer tails. The quantile is the normal one where no cluster
    moves the figure.
    """
    clusters, beyond = len(estimate.without), 0.5 + confidence / 2
    squares = influence(estimate) ** 2 * clusters / max(clusters - 1, 1)
    variance = float(squares.sum())
    if variance < 1e-12:
        return 0.0, float(norm.ppf(beyond))
    freedom = np.clip(variance**2 / (squares**2).sum(), 1, clusters - 1)
    return variance, float(t.ppf(beyond, freedom))


def share_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a share: NaN where it is not defined, 0 to 1 from one cluster.

    A cluster counts as one clip where none moves the figure, such as where all is right.
    """
    value, clusters = float(estimate.value), len(estimate.without)
    if not np.isfinite(value):
        return Interval(np.nan, np.nan)
    if clusters < 2:
        return Interval(0.0, 1.0)
    variance, z = _variance_and_quantile(estimate, confidence)
    spread = value * (1 - value)
    number = spread / variance if variance > 0 and spread > 1e-12 else clusters
    low, high = score(*(np.array(each, dtype=np.float64) for each in (value, number, z)))
    return Interval(float(low), float(high))


def rate_interval(estimate: Estimate, hours: float, confidence: float) -> Interval:
    """Return the interval of a rate an hour, of a Poisson count in an effective number of hours.

    Args:
        estimate: Of the rate; NaN limits where it is not defined, 0 to infinity from one cluster.
        hours: Hours in all, which count where no cluster moves the rate, such as where nothing was detected.
        confidence: Coverage, in (0, 1).
    """
    value = float(estimate.value)
    if not np.isfinite(value):
        return Interval(np.nan, np.nan)
    if len(estimate.without) < 2:
        return Interval(0.0, np.inf)
    variance, z = _variance_and_quantile(estimate, confidence)
    number = value / variance if variance > 0 and value > 0 else hours
    centre = value + z * z / (2 * number)
    half = z * np.sqrt(value / number + z * z / (4 * number**2))
    return Interval(float(max(centre - half, 0)), float(centre + half))
