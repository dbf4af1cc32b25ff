"""How unsure a classifier is, from 0 (one class has all the probability) to 1 (each has as much).

The three measures of Settles (2009), "Active Learning Literature Survey", section 3.1.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray[np.floating]], NDArray[np.float64]]


def entropy(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entropy ``(n,)`` of probabilities ``(n, K)``, K of 2 or more, over that of a uniform distribution."""
    p = np.asarray(p, dtype=np.float64)
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1) / np.log(p.shape[1]))


def margin(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return one less what the likeliest of K classes is ahead of the second, ``(n,)``."""
    two = np.partition(np.asarray(p, dtype=np.float64), -2, axis=1)[:, -2:]
    return np.asarray(1 - (two[:, 1] - two[:, 0]))


def least_confidence(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return what the likeliest of K classes lacks to certainty, ``(n,)``, over what it can lack at most."""
    p = np.asarray(p, dtype=np.float64)
    return np.asarray((1 - p.max(axis=1)) * (p.shape[1] / (p.shape[1] - 1)))


MEASURES: Final[dict[str, Measure]] = {"entropy": entropy, "margin": margin, "least_confidence": least_confidence}
"""Measures by the word that asks for them."""
