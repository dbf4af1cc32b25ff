"""Thresholds by species that keep a stated precision.

The precision of a threshold is the share of right ones among all detections whose score is at least the threshold. It
is not the probability that a detection just at the threshold is right, which is lower.

A species' score p becomes a probability by a logistic calibration, ``sigmoid(intercept + slope logit(p))``. The lines
of all species are drawn to their common mean, the more the fewer positives they have (partial pooling by empirical
Bayes), so that a species with few positives, or none, gets a threshold as well. docs/evidence.md compares this by
simulation with thresholds of each species' own detections and with one calibration for all.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import norm

from birdclf.errors import UserError
from birdclf.metrics.figures import Vector, ratio
from birdclf.metrics.intervals import score

HALF_WIDTH: Final = 0.05
"""Half-width of the interval that the number of clips to listen to is for."""
CLOSEST: Final = 1e-7
"""Distance from 0 and 1 at which the logit of a score ends: what float32 tells apart."""
STEP: Final = 0.05  # logits: scores are rounded to it while lines are fitted
SPREAD: Final = np.diag([1.0, 0.1])  # variance of intercepts and log slopes among species,
SPECIES: Final = 2.0  # as if so many more species had shown it
PRIOR_VARIANCE: Final = 10.0  # of one species' errors, that clips of all count for in its design effect
ROUNDS: Final = 30


@dataclass(frozen=True)
class SpeciesThreshold:
    """A species' threshold, and how surely it keeps the precision."""

    threshold: float  # lowest score of a detection; NaN where no score reaches the precision
    precision: float  # estimate at the threshold; without one, at the highest score that was seen
    low: float  # lower limit of its interval
    high: float  # upper limit
    positives: int  # clips in which the species is heard
    detections: int  # clips whose score is at least the threshold
    slope: float  # of the calibration, above 0
    intercept: float
    listen: int  # clips to listen to, so that the interval's half-width is at most 0.05

    def probability_right(self, score: float) -> float:
        """Return the probability that a detection of this score is right."""
        return float(expit(self.intercept + self.slope * _logits(np.asarray(score))))


@dataclass(frozen=True)
class _Clips:
    """The clips of which is known whether a species is heard, and the same in bins of their logits."""

    scores: NDArray[np.floating]  # `(n,)`
    x: Vector  # `(n,)` their logits, centred
    heard: Vector  # `(n,)` 1 or 0
    cluster: NDArray[np.int64]  # `(n,)`
    bin_x: Vector  # `(b,)`
    bin_clips: Vector  # `(b,)`
    bin_heard: Vector  # `(b,)`

    @classmethod
    def of(cls, scores: NDArray[np.floating], x: Vector, heard: Vector, cluster: NDArray[np.int64]) -> "_Clips":
        found, member = np.unique(np.round(x / STEP), return_inverse=True)
        clips, hits = (np.bincount(member, weights, len(found)) for weights in (None, heard))
        return cls(scores, x, heard, cluster, found * STEP, clips.astype(np.float64), hits.astype(np.float64))


def fit_thresholds(
    probabilities: NDArray[np.floating],
    target: NDArray[np.integer],
    cluster: NDArray[np.generic],
    precision: float,
    confidence: float = 0.95,
) -> list[SpeciesThreshold]:
    """Return the threshold of each of K species: the lowest score from which the estimated precision is reached.

    Intercept and log slope of each species have a common normal distribution, whose mean and covariance are estimated
    from all species by EM with Laplace's approximation. Clips of one cluster are alike: the likelihood of a species is
    divided by the design effect of the clusters on its residuals. The calibration is flattened for its own uncertainty
    (MacKay, 1992, equation 23), by as much as at the stated precision. The precision from a score on is the mean
    calibrated probability of the clips from there on. Its variance is that of the calibration and that of the clusters'
    scores; its interval is the score interval of as many clips as would give a proportion the same variance.

    A threshold may lie beyond the highest score that was seen, where the calibration itself reaches the precision.

    Args:
        probabilities: ``(N, K)`` scores in [0, 1] of clips like those that will be judged.
        target: ``(N, K)`` 1 heard, 0 not heard, -1 not known.
        cluster: ``(N,)`` recording or site of each clip.
        precision: To be reached, in (0, 1).
        confidence: Coverage of the intervals, in (0, 1).

    Raises:
        UserError: If no species is heard in any clip.
    """
    x, heard = _logits(probabilities), target == 1
    if not heard.any():
        raise UserError(
            f"None of the {x.shape[1]} species is heard in any of {len(x):,} clips, so no precision can be estimated. "
            f"Give clips in which some are."
        )
    centre = float(x[heard].mean())
    member = np.unique(cluster, return_inverse=True)[1]
    species = []
    for k in range(x.shape[1]):
        known = target[:, k] >= 0
        own = (probabilities[known, k], x[known, k] - centre, heard[known, k].astype(np.float64), member[known])
        species.append(_Clips.of(*own))
    lines, covariances, effects = _pooled(species)
    z = float(norm.ppf(0.5 + confidence / 2))
    rows = zip(species, lines, covariances, effects, strict=True)
    return [_threshold(one, line, covariance, effect, centre, precision, z) for one, line, covariance, effect in rows]


def _logits(p: NDArray[np.floating]) -> Vector:
    return np.asarray(logit(np.clip(p.astype(np.float64), CLOSEST, 1 - CLOSEST)))


def _line(
    x: Vector, clips: Vector, heard: Vector, mean: Vector, precision: Vector, start: Vector
) -> tuple[Vector, Vector]:
    """Return the most probable intercept and log slope ``(2,)``, and their covariance ``(2, 2)`` (Laplace).

    Args:
        x: ``(b,)`` logits.
        clips: ``(b,)`` how much each counts.
        heard: ``(b,)`` how much of that is heard.
        mean: ``(2,)`` of the normal prior.
        precision: ``(2, 2)`` its inverse covariance.
        start: ``(2,)`` to begin from.
    """

    def loss(line: Vector) -> tuple[float, Vector]:
        slope = np.exp(line[1])
        eta = line[0] + slope * x
        off, residual = precision @ (line - mean), clips * expit(eta) - heard
        value = float(clips @ np.logaddexp(0, eta) - heard @ eta + (line - mean) @ off / 2)
        return value, np.array([residual.sum(), slope * (residual @ x)]) + off

    line = np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), (-4, 3)]).x)
    moved = np.stack([np.ones_like(x), np.exp(line[1]) * x])
    p = expit(line[0] + moved[1])
    return line, np.linalg.inv(precision + (moved * (clips * p * (1 - p))) @ moved.T)


def _pooled(species: list[_Clips]) -> tuple[Vector, Vector, Vector]:
    """Return intercepts and log slopes ``(K, 2)``, their covariances ``(K, 2, 2)`` and design effects ``(K,)``."""
    x, clips, heard = (
        np.concatenate(part) for part in zip(*((s.bin_x, s.bin_clips, s.bin_heard) for s in species), strict=True)
    )
    mean, _ = _line(x, clips, heard, np.zeros(2), np.diag([1e-4, 1e-2]), np.zeros(2))
    spread = 4 * SPREAD
    lines, effects = np.tile(mean, (len(species), 1)), np.ones(len(species))
    for _ in range(ROUNDS):
        inverse = np.linalg.inv(spread)
        fitted = [
            _line(one.bin_x, one.bin_clips / effect, one.bin_heard / effect, mean, inverse, start)
            for one, effect, start in zip(species, effects, lines, strict=True)
        ]
        lines, covariances = (np.stack(part) for part in zip(*fitted, strict=True))
        before, mean = (mean, spread), lines.mean(axis=0)
        off = lines - mean
        spread = (SPECIES * SPREAD + off.T @ off + covariances.sum(axis=0)) / (SPECIES + len(species))
        effects = _effects(species, lines)
        if np.abs(mean - before[0]).max() < 0.01 and np.abs(spread - before[1]).max() < 0.01:
            break
    return lines, covariances, effects


def _effects(species: list[_Clips], lines: Vector) -> Vector:
    """Return the design effects of the clusters ``(K,)``: variance of their residuals over that of independent clips.

    Each is drawn to that of all species, as if it had ``PRIOR_VARIANCE`` more.
    """
    found = []
    for one, (intercept, log_slope) in zip(species, lines, strict=True):
        p = expit(intercept + np.exp(log_slope) * one.x)
        found.append(((np.bincount(one.cluster, one.heard - p) ** 2).sum(), (p * (1 - p)).sum()))
    squares, variance = np.asarray(found).T
    common = max(1.0, float(ratio(squares.sum(), variance.sum())))
    effects: Vector = np.maximum(1, (squares + PRIOR_VARIANCE * common) / (variance + PRIOR_VARIANCE))
    return effects


def _threshold(
    clips: _Clips, line: Vector, covariance: Vector, effect: float, centre: float, precision: float, z: float
) -> SpeciesThreshold:
    """Return the threshold of a species, whose calibration has intercept and log slope ``line`` on centred logits."""
    aim, steep = float(logit(precision)), float(np.exp(line[1]))
    intercept, slope = _flattened(line, covariance, aim)
    order = np.argsort(-clips.x)
    x = clips.x[order]
    ends = np.append(x[1:] != x[:-1], True)[: len(x)]  # a threshold takes all clips of equal score
    reached = np.cumsum(expit(intercept + slope * x)) / np.arange(1, len(x) + 1) >= precision
    detections = int(np.flatnonzero(reached & ends)[-1]) + 1 if (reached & ends).any() else 0
    beyond = (aim - intercept) / slope
    if detections:
        above, threshold = x[:detections], float(clips.scores[order[:detections]].min())
    elif beyond + centre <= logit(1 - CLOSEST):
        above, threshold = np.array([beyond]), float(expit(beyond + centre))
    else:
        above, threshold = x[:1], np.nan
        intercept, slope = _flattened(line, covariance, line[0] + steep * float(x[0]) if len(x) else aim)
    p = expit(intercept + slope * above)
    estimate = float(p.mean()) if len(p) else float(expit(intercept))
    gradient = np.array([(p * (1 - p)).sum(), (p * (1 - p) * slope * above).sum()]) / max(len(p), 1)
    off = np.bincount(clips.cluster[order[:detections]], p[:detections] - estimate, 1) / max(len(p), 1)
    variance = max(float(gradient @ covariance @ gradient + off @ off), 1e-12)
    effective = max(estimate * (1 - estimate) / variance, 1e-3)
    low, high = score(np.array(estimate), np.array(effective), np.array(z))
    return SpeciesThreshold(
        threshold, estimate, float(low), float(high), int(clips.heard.sum()), detections, slope,
        intercept - slope * centre, _listen(estimate, effective, effect, z),
    )  # fmt: skip


def _flattened(line: Vector, covariance: Vector, eta: float) -> tuple[float, float]:
    """Return intercept and slope of a calibration, drawn to 0 by its own uncertainty where its logit is ``eta``."""
    moved = np.array([1.0, eta - line[0]])  # derivative of the logit by intercept and log slope
    flat = 1 / np.sqrt(1 + np.pi / 8 * moved @ covariance @ moved)
    return float(flat * line[0]), float(flat * np.exp(line[1]))


def _listen(estimate: float, effective: float, effect: float, z: float) -> int:
    """Return how many more clips make the score interval of a proportion narrow enough."""
    n = np.arange(1.0, np.ceil((z / HALF_WIDTH) ** 2) + 1)
    low, high = score(np.full_like(n, estimate), n, np.full_like(n, z))
    needed = float(n[np.argmax(high - low <= 2 * HALF_WIDTH)])
    return int(np.ceil(max(needed - effective, 0) * effect))
