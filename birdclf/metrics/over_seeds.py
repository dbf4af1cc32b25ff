"""A figure, or a difference of two, over several seeds: another training each, and another split or the same.

What each seed measures has two errors: the sampling of its test recordings, which the jackknife over clusters knows
from many clips, and what training and split add, of which k seeds know little. The second is integrated out instead of
estimated (Röver, 2020, sections 2.2 and 2.5, a random-effects model with a weakly informative prior), so that two seeds
with the same difference by luck do not pass for certainty, and the interval is never narrower than the sampling of the
test recordings alone allows.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from birdclf.metrics.figures import Vector

POINTS: Final = 200
"""Values of the standard deviation over seeds that the integral is a sum over."""
WIDEST: Final = 30.0
"""Largest of them, in units of the prior's scale."""


class Sampling(NamedTuple):
    """Variance of a figure by the sampling of test recordings.

    Attributes:
        own: Part that is drawn anew in each seed, as a mean over the seeds.
        common: Part that all seeds share, because they test the same recordings; their covariance.
    """

    own: float
    common: float


def sampling(influence: list[tuple[NDArray[np.generic], Vector]]) -> Sampling:
    """Return the sampling variances of a figure's mean over seeds.

    Args:
        influence: For each seed the names ``(C,)`` of its clusters, and what the figure loses without each ``(C,)``.
            Clusters of one name are the same in all seeds.
    """
    k = len(influence)
    names, member = np.unique(np.concatenate([clusters for clusters, _ in influence]), return_inverse=True)
    moved = np.concatenate([loss for _, loss in influence])
    corrected = np.concatenate([np.full(len(loss), _few(len(loss))) for _, loss in influence])
    whole = float((corrected * moved**2).sum()) / k
    if k == 1:
        return Sampling(whole, 0.0)
    together = np.bincount(member, weights=np.sqrt(corrected) * moved, minlength=len(names))
    of_mean = float((together**2).sum()) / k**2
    common = min(max((k * of_mean - whole) / (k - 1), 0.0), whole)
    return Sampling(whole - common, common)


def _few(clusters: int) -> float:
    return clusters / (clusters - 1) if clusters > 1 else np.inf


class Posterior(NamedTuple):
    """A mixture of normal distributions around a mean.

    Attributes:
        mean: Mean over the seeds.
        errors: ``(POINTS,)`` standard errors.
        weights: ``(POINTS,)`` of each, with sum 1.
    """

    mean: float
    errors: Vector
    weights: Vector

    def p_value(self, null: float = 0.0) -> float:
        """Return twice the probability beyond ``null``, on the side of it that is less likely."""
        distance = abs(self.mean - null)
        return float(min(1.0, 2 * self.weights @ stats.norm.sf(_over(distance, self.errors))))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the central interval."""
        top = float(self.errors[self.weights > 0].max())
        if top == 0:
            return self.mean, self.mean
        beyond = (1 - confidence) / 2

        def excess(half: float) -> float:
            return float(self.weights @ stats.norm.sf(_over(half, self.errors))) - beyond

        half = optimize.brentq(excess, 0.0, top * float(stats.norm.isf(beyond)) * 1.001)
        return self.mean - half, self.mean + half


def _over(value: float, errors: Vector) -> Vector:
    return np.divide(value, errors, out=np.full_like(errors, np.inf if value else 0.0), where=errors > 0)


def posterior(values: Vector, variance: Sampling, scale: float = 1.0) -> Posterior:
    """Return what is known of the mean over all seeds from ``(k,)`` values of some, 1 or more.

    The standard deviation that training and split add has a half-normal prior whose scale is ``scale`` times the
    sampling error of a seed.

    Args:
        values: ``(k,)`` figure of each seed.
        variance: By the sampling of test recordings.
        scale: Of the prior.
    """
    k = len(values)
    unit = np.sqrt(max(variance.own + variance.common, 1e-12))
    added = np.linspace(0.0, WIDEST, POINTS) ** 2 / WIDEST * scale * unit  # standard deviations, denser near 0
    step = np.gradient(added)
    each = np.maximum(variance.own, 1e-12) + added**2
    mean = float(values.mean())
    squares = float(((values - mean) ** 2).sum())
    log_p = _log_prior(added / (scale * unit)) - (k - 1) / 2 * np.log(each) - squares / (2 * each)
    weights = step * np.exp(log_p - log_p.max())
    errors = np.sqrt(variance.common + each / k)
    return Posterior(mean, errors, weights / weights.sum())


def _log_prior(ratio: Vector) -> Vector:
    return np.asarray(-(ratio**2) / 2)
