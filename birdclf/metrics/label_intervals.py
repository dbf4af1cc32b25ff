"""Intervals for figures of several species at once, by the jackknife over clusters."""

import numpy as np
from scipy.stats import t

from birdclf.metrics.figures import Vector
from birdclf.metrics.intervals import Interval, score
from birdclf.metrics.multi_label import Estimate


def influence(estimate: Estimate) -> Vector:
    """Return what a figure loses without each cluster, ``(C,)``, its whole value where nothing is left.

    Times ``(C - 1) / C``, so that ``C / (C - 1)`` times the sum of squares is the jackknife's variance.
    """
    clusters = len(estimate.without)
    loss = estimate.value - np.where(np.isfinite(estimate.without), estimate.without, 0)
    return np.asarray(loss * (clusters - 1) / clusters)


def _variance(estimate: Estimate) -> tuple[float, float]:
    """Return the jackknife's variance and its degrees of freedom by Satterthwaite (1946)."""
    clusters = len(estimate.without)
    if clusters < 2:
        return np.inf, 1.0
    squares = influence(estimate) ** 2 * clusters / (clusters - 1)
    freedom = 3 * squares.sum() ** 2 / max((squares**2).sum(), 1e-300) - 2
    return float(squares.sum()), float(np.clip(freedom, 1, clusters - 1))


def share_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the score interval of a share with an effective number of clips, at Student's quantile."""
    value, clusters = float(estimate.value), len(estimate.without)
    if not np.isfinite(value):
        return Interval(np.nan, np.nan)
    variance, freedom = _variance(estimate)
    spread = value * (1 - value)
    number = spread / variance if variance > 1e-12 and spread > 1e-12 else float(clusters)
    low, high = score(np.array(value), np.array(max(number, 1e-9)), np.array(t.ppf(0.5 + confidence / 2, freedom)))
    return Interval(float(low), float(high))


def rate_interval(estimate: Estimate, hours: float, confidence: float) -> Interval:
    """Return the score interval of a rate an hour, of a Poisson count with an effective number of hours."""
    value = float(estimate.value)
    if not np.isfinite(value):
        return Interval(np.nan, np.nan)
    variance, freedom = _variance(estimate)
    number = value / variance if variance > 1e-12 and value > 0 else hours
    z = float(t.ppf(0.5 + confidence / 2, freedom))
    half = z * np.sqrt(value / number + z * z / (4 * number**2)) if number > 0 else np.inf
    centre = value + z * z / (2 * number) if number > 0 else np.inf
    return Interval(float(max(centre - half, 0)), float(centre + half))
