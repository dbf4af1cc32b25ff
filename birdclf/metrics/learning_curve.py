"""Learning curves: what more train recordings would bring, from the runs of several train fractions."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from birdclf.metrics.figures import Vector

LEAST_POINTS: Final = 3  # a line through two fits anything


@dataclass(frozen=True)
class PowerLaw:
    """An error that falls as a power of the number of train recordings: ``1 - score = exp(level + slope log n)``.

    The law is that of Hestness et al. (2017, "Deep Learning Scaling is Predictable, Empirically"), without their floor
    of the error: three or four points do not tell it from the power.
    """

    level: float
    slope: float

    def score(self, n: Vector) -> Vector:
        """Return the score at numbers of recordings."""
        return 1 - np.exp(self.level + self.slope * np.log(n))


def fit_power_law(n: Vector, score: Vector, clips: int) -> PowerLaw:
    """Return the least-squares line of log error on log recordings.

    Args:
        n: ``(m,)`` train recordings of each run, two different ones or more.
        score: ``(m,)`` figures on test data, 0 to 1.
        clips: Test recordings; an error of 0 counts as half of one.
    """
    slope, level = np.polyfit(np.log(n), np.log(_error(score, clips)), 1)
    return PowerLaw(float(level), float(slope))


def gain_of_doubling(n: Vector, score: Vector, clips: int) -> tuple[float, Vector]:
    """Return by how much the fitted score at twice the most recordings exceeds that at the most, and its gradient.

    Args:
        n: ``(m,)`` train recordings of each run.
        score: ``(m,)`` their figures.
        clips: Test recordings.

    Returns:
        The gain, and ``(m,)`` what it changes by each score, from which its sampling error follows by linearisation.
    """
    x, most = np.log(n), np.log(n.max())
    law = fit_power_law(n, score, clips)
    here, there = 1 - law.score(np.array([n.max(), 2 * n.max()]))
    slopes = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    ends = ((here, most), (there, most + np.log(2)))
    weights = [error * (1 / len(n) + (at - x.mean()) * slopes) for error, at in ends]
    return float(here - there), (weights[1] - weights[0]) / _error(score, clips)


def _error(score: Vector, clips: int) -> Vector:
    return np.maximum(1 - score, 0.5 / clips)
