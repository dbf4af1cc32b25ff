"""Calibration of probabilities, and the temperature that improves it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from birdclf.metrics.figures import Vector, confidence_bins, log_softmax, negative_log_likelihood, ratio

# Beyond these a model is uniform or one-hot in all but name; separable logits would otherwise send T to 0.
COLDEST, HOTTEST = 0.01, 100.0


@dataclass(frozen=True)
class Reliability:
    """Clips by the probability of their predicted class, ``(bins,)`` each."""

    confidence: Vector  # mean probability of the predicted class; 0 in an empty bin
    accuracy: Vector  # share of clips whose prediction is right; 0 in an empty bin
    count: NDArray[np.int64]  # clips


def reliability(p: NDArray[np.floating], target: NDArray[np.int64], bins: int = 15) -> Reliability:
    """Return confidence and accuracy in bins of equal width (Guo et al., 2017, equation 2 and the one before).

    Args:
        p: ``(N, K)`` probabilities.
        target: ``(N,)`` true classes.
        bins: Bins over (0, 1], each with its upper edge.
    """
    return _binned(*confidence_bins(p, target, bins), bins)


def set_reliability(p: NDArray[np.floating], target: NDArray[np.int8], bins: int = 15) -> Reliability:
    """Return mean probability and share of clips with the class in bins, over the known entries of ``(N, K)``.

    Args:
        p: ``(N, K)`` probabilities.
        target: ``(N, K)`` of 1, 0 and -1 for unknown.
        bins: Bins over (0, 1], each with its upper edge.
    """
    known = target >= 0
    own = p[known].astype(np.float64)
    return _binned(own, target[known] == 1, np.clip(np.ceil(own * bins).astype(np.int64) - 1, 0, bins - 1), bins)


def _binned(top: Vector, right: NDArray[np.bool_], member: NDArray[np.int64], bins: int) -> Reliability:
    count = np.bincount(member, minlength=bins)
    confidence, accuracy = (np.bincount(member, weights=w, minlength=bins) for w in (top, right))
    return Reliability(ratio(confidence, count), ratio(accuracy, count), count)


def fit_temperature(logits: NDArray[np.floating], target: NDArray[np.int64]) -> float:
    """Return the T > 0 for which ``softmax(logits / T)`` has the least NLL (Guo et al., 2017, equation 9).

    The NLL is convex in 1 / T, so it has a single minimum over log T too; it is sought between 0.01 and 100.

    Args:
        logits: ``(N, K)``.
        target: ``(N,)`` true classes.

    Returns:
        The temperature; 1 where logits say nothing of it: no clip, all equal in a row, or not finite.
    """
    z = logits.astype(np.float64)
    if z.size == 0 or not np.isfinite(z).all() or not np.ptp(z, axis=1).any():
        return 1.0
    return _least(lambda t: negative_log_likelihood(log_softmax(z / t), target))


def fit_set_temperature(logits: NDArray[np.floating], target: NDArray[np.int8]) -> float:
    """Return the T > 0 for which ``sigmoid(logits / T)`` has the least binary cross-entropy over known entries.

    Args:
        logits: ``(N, K)``.
        target: ``(N, K)`` of 1, 0 and -1 for unknown.

    Returns:
        The temperature; 1 where logits say nothing of it: none is known, all are 0, or one is not finite.
    """
    known = target >= 0
    z, y = logits[known].astype(np.float64), target[known]
    if not np.isfinite(z).all() or not z.any():
        return 1.0
    signed = np.where(y == 1, -z, z)
    return _least(lambda t: float(np.logaddexp(0, signed / t).mean()))


def _least(nll: Callable[[float], float]) -> float:
    """Return the temperature of the least NLL."""
    bounds = (np.log(COLDEST), np.log(HOTTEST))
    found = minimize_scalar(lambda u: nll(float(np.exp(u))), bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
