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
_PRIOR: Final = np.gradient(ADDED) / (1 + (ADDED / SCALE) ** 2)
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
        doubt: Standard error of ``common``.
    """

    own: float
    common: float
    freedom: float
    doubt: float = 0.0


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
    if k == 1:
        return Sampling(whole, 0.0, max(float(freedom), 1.0))
    products = (squares - np.bincount(member, weights=loss**2, minlength=len(names))) / (k * (k - 1))
    common = min(max(float(products.sum()), 0.0), whole)
    return Sampling(whole - common, common, max(float(freedom), 1.0), float(np.sqrt((products**2).sum())))


class OverSeeds(NamedTuple):
    """What seeds say of the mean over all seeds: a mixture of t-distributions around their mean.

    One seed says nothing of others: what follows from it is of the choice of test recordings alone.

    Attributes:
        values: ``(k,)`` a figure or difference by seed.
        sampling: Variances by the choice of test recordings.
    """

    values: Vector
    sampling: Sampling

    @classmethod
    def of(cls, values: Sequence[float] | Vector, influence: Sequence[Influence]) -> "OverSeeds":
        """Return what ``(k,)`` values and their influences say."""
        return cls(np.asarray(values, dtype=np.float64), sampling(influence))

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return float(self.values.mean())

    def p_value(self, null: float = 0.0) -> float:
        """Return twice the probability beyond ``null``, on the side of it that is less likely."""
        return min(1.0, 2 * self._beyond(abs(self.value - null), *self._mixture(len(self.values))))

    def half_width(self, confidence: float = 0.95) -> float:
        """Return half the width of the central interval."""
        return self._half_width(confidence, *self._mixture(len(self.values)))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the central interval."""
        half = self.half_width(confidence)
        return self.value - half, self.value + half

    def detectable(self, level: float = 0.05, seeds: int | None = None) -> float:
        """Return the least difference that a test finds with power 0.8.

        Args:
            level: Of the two-sided test.
            seeds: As if there were so many, with the spread and the clips that are seen; None for those there are.
        """
        errors, weight = self._mixture(seeds or len(self.values))
        error = float(np.sqrt(weight @ errors**2))
        return self._half_width(1 - level, errors, weight) + float(stats.norm.ppf(POWER)) * error

    def seeds_needed(self, difference: float, level: float = 0.05) -> int | None:
        """Return the fewest seeds with which :meth:`detectable` is at most ``difference``; None if 200 are too few."""
        if self.detectable(level, MOST_SEEDS) > difference:
            return None
        low, high = 1, MOST_SEEDS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.detectable(level, middle) <= difference else (middle, high)
        return high

    def _mixture(self, seeds: int) -> tuple[Vector, Vector]:
        """Return standard errors of the mean over so many seeds, and the probability of each, ``(P,)`` both."""
        own, common, _, doubt = self.sampling
        if seeds > len(self.values):  # a forecast: few seeds share few recordings, and may seem to err together by luck
            own, common = own + min(common, doubt), max(common - doubt, 0.0)
        if seeds == 1:
            return np.array([np.sqrt(common + own)]), np.ones(1)
        weight = _PRIOR
        if len(self.values) > 1 and np.isfinite(own):
            each = np.maximum(own, 1e-9) + ADDED**2
            log = -(seeds - 1) / 2 * (np.log(each) + float(self.values.var(ddof=1)) / each)
            weight = weight * np.exp(log - log.max())
        return np.sqrt(common + (own + ADDED**2) / seeds), weight / weight.sum()

    def _half_width(self, confidence: float, errors: Vector, weight: Vector) -> float:
        beyond, top = (1 - confidence) / 2, float(errors.max())
        if top == 0 or not np.isfinite(top):
            return top
        end = top * float(stats.t.isf(beyond, self.sampling.freedom)) * 1.001
        return float(optimize.brentq(lambda half: self._beyond(half, errors, weight) - beyond, 0.0, end))

    def _beyond(self, distance: float, errors: Vector, weight: Vector) -> float:
        ratio = np.divide(distance, errors, out=np.full_like(errors, np.inf if distance else 0.0), where=errors > 0)
        return float(weight @ stats.t.sf(ratio, self.sampling.freedom))
