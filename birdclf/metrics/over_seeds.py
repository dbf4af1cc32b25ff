"""A figure, a difference of two or an effect over several seeds, each with another training, another split, or both.

What each seed measures has two errors. That of the choice of its test recordings is known from many clips: the
jackknife over clusters, of all seeds at once, since a cluster that several seeds test moves them together. What
training and split add is seen in as many numbers as there are seeds. Its standard deviation is therefore not estimated
but integrated over, from a prior (a random-effects model with a weakly informative prior: Gelman, 2006, section 4.3;
Röver, 2020, section 2.2): two seeds with the same difference by luck do not pass for certainty, and no interval is
narrower than the choice of the test recordings alone allows.

``docs/evidence.md`` has the simulations by which this was preferred to paired t-tests.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from birdclf.metrics.figures import Vector

SCALE: Final = 0.02
"""Scale of the half-Cauchy prior, a share: training and split as often add less than 2 points as more."""
ADDED: Final = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 199)])
"""Standard deviations that the integral is a sum over; a share cannot vary by more than 1."""
_WEIGHT: Final = np.gradient(ADDED) / (1 + (ADDED / SCALE) ** 2)
POWER: Final = 0.8
MOST_SEEDS: Final = 200


class Influence(NamedTuple):
    """What a figure of one seed loses when a cluster is left out.

    Attributes:
        cluster: ``(C,)`` names; equal names are the same recordings in every seed.
        loss: ``(C,)``.
    """

    cluster: NDArray[np.generic]
    loss: Vector


class Sampling(NamedTuple):
    """Variance of a figure by the choice of test recordings.

    Attributes:
        own: Of one seed, without the part that seeds share; the mean over seeds.
        common: Covariance of two seeds, by the recordings that both test.
        freedom: Degrees of freedom of the variance of the mean.
    """

    own: float
    common: float
    freedom: float


def sampling(influence: Sequence[Influence]) -> Sampling:
    """Return the variances of a figure by the choice of test recordings, from its influence in each of k seeds.

    Squares of influences estimate a variance each; the degrees of freedom of their sum are Satterthwaite's (1946), with
    the fourth moment of a normal distribution.
    """
    k = len(influence)
    names, member = np.unique(np.concatenate([each.cluster for each in influence]), return_inverse=True)
    n = [len(each.cluster) for each in influence]
    if min(n) < 2:
        return Sampling(np.inf, 0.0, 1.0)
    loss = np.concatenate([each.loss * np.sqrt(c / (c - 1)) for each, c in zip(influence, n, strict=True)])
    whole = float((loss**2).sum()) / k
    squares = np.bincount(member, weights=loss, minlength=len(names)) ** 2
    freedom = 3 * squares.sum() ** 2 / np.maximum((squares**2).sum(), 1e-300) - 2
    common = min(max((float(squares.sum()) / k - whole) / (k - 1), 0.0), whole) if k > 1 else 0.0
    return Sampling(whole - common, common, max(float(freedom), 1.0))


class OverSeeds(NamedTuple):
    """What seeds say of the mean over all seeds: a mixture of t-distributions around their mean.

    Attributes:
        values: ``(k,)`` a figure or difference by seed.
        sampling: Variances by the choice of test recordings.
        added: ``(P,)`` standard deviations that training and split may add.
        weight: ``(P,)`` probability of each.
    """

    values: Vector
    sampling: Sampling
    added: Vector
    weight: Vector

    @classmethod
    def of(cls, values: Sequence[float] | Vector, sampling: Sampling) -> "OverSeeds":
        """Weigh the standard deviations by prior and values ``(k,)``.

        One seed says nothing of other seeds: the result is then of the choice of test recordings alone.
        """
        found = np.asarray(values, dtype=np.float64)
        if len(found) == 1:
            return cls(found, sampling, np.zeros(1), np.ones(1))
        return cls(found, sampling, ADDED, _posterior(sampling.own, float(found.var(ddof=1)), len(found)))

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return float(self.values.mean())

    @property
    def error(self) -> float:
        """Root mean square of the standard errors."""
        return float(np.sqrt(self.weight @ self._errors(len(self.values)) ** 2))

    def p_value(self, null: float = 0.0) -> float:
        """Return twice the probability beyond ``null``, on the side of it that is less likely."""
        errors = self._errors(len(self.values))
        return min(1.0, 2 * _beyond(abs(self.value - null), errors, self.weight, self.sampling.freedom))

    def half_width(self, confidence: float = 0.95) -> float:
        """Return half the width of the central interval."""
        return _half_width(self._errors(len(self.values)), self.weight, self.sampling.freedom, confidence)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the central interval."""
        half = self.half_width(confidence)
        return self.value - half, self.value + half

    def detectable(self, level: float = 0.05, seeds: int | None = None) -> float:
        """Return the least difference that a test at a level finds with power 0.8.

        Args:
            level: Of the two-sided test.
            seeds: As if there were so many, with the spread and the clips that are seen; None for those there are.
        """
        k = seeds or len(self.values)
        weight = self.weight
        if seeds and len(self.values) > 1:
            weight = _posterior(self.sampling.own, float(self.values.var(ddof=1)), seeds)
        errors = self._errors(k)
        half = _half_width(errors, weight, self.sampling.freedom, 1 - level)
        return half + float(stats.norm.ppf(POWER)) * float(np.sqrt(weight @ errors**2))

    def seeds_needed(self, difference: float, level: float = 0.05) -> int | None:
        """Return the fewest seeds with which :meth:`detectable` is at most ``difference``; None if 200 are too few."""
        if self.detectable(level, MOST_SEEDS) > difference:
            return None
        low, high = 1, MOST_SEEDS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.detectable(level, middle) <= difference else (middle, high)
        return high

    def _errors(self, seeds: int) -> Vector:
        own, common, _ = self.sampling
        return np.asarray(np.sqrt(common + (own + self.added**2) / seeds))


def _posterior(own: float, variance: float, seeds: int) -> Vector:
    """Return the weight of each standard deviation of ``ADDED``, given the variance of so many seeds."""
    if not np.isfinite(own):
        return np.asarray(_WEIGHT / _WEIGHT.sum())
    each = np.maximum(own, 1e-9) + ADDED**2
    log = -(seeds - 1) / 2 * (np.log(each) + variance / each)
    weight = _WEIGHT * np.exp(log - log.max())
    return np.asarray(weight / weight.sum())


def _beyond(distance: float, errors: Vector, weight: Vector, freedom: float) -> float:
    ratio = np.divide(distance, errors, out=np.full_like(errors, np.inf if distance else 0.0), where=errors > 0)
    return float(weight @ stats.t.sf(ratio, freedom))


def _half_width(errors: Vector, weight: Vector, freedom: float, confidence: float) -> float:
    beyond, top = (1 - confidence) / 2, float(errors.max())
    if top == 0 or not np.isfinite(top):
        return top
    ends = top * float(stats.t.isf(beyond, freedom)) * 1.001
    return float(optimize.brentq(lambda half: _beyond(half, errors, weight, freedom) - beyond, 0.0, ends))
