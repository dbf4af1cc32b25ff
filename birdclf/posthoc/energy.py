"""Rejection of sounds that are unlike the training recordings, by the energy of their logits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from birdclf.checks import is_number, require
from birdclf.posthoc.base import Logits, OutputRows, PostHoc, Score

MARGIN: Final = 1e-3
"""Distance of the threshold to the last recording that is accepted, so that rounding does not decide on it, as a share
of the standard deviation."""


@dataclass(frozen=True)
class Rejection:
    """Accepts a negative energy ``log sum exp z`` of the threshold or more (Liu et al., 2020, equations 4 and 7)."""

    threshold: float
    accept: float  # share of the validation recordings that it was chosen for

    def apply(self, logits: Logits) -> NDArray[np.float32]:
        """Return the logits ``(N, K)``: rejection changes no decision among the classes."""
        return np.asarray(logits, dtype=np.float32)

    def rejects(self, logits: Logits) -> NDArray[np.bool_]:
        """Return which of the logits ``(N, K)`` of a network are rejected, ``(N,)``."""
        return np.asarray(_negative_energy(logits) < self.threshold)


class Energy(PostHoc):
    """Rejects sounds of high energy: none of the classes is detected in them (Liu et al., 2020, "Energy-based OOD").

    The threshold is chosen on validation, by the network's own logits; figures on validation and test count all
    recordings, rejected or not. Sounds of no class are not needed.

    Args:
        accept: Share of the validation recordings that is accepted at least, above 0 and below 1.

    Raises:
        UserError: If ``accept`` is out of range.
    """

    def __init__(self, accept: float = 0.95) -> None:
        fits = is_number(accept) and 0 < accept < 1
        require(fits, "posthoc.accept", accept, "a share of the validation recordings, above 0 and below 1")
        self.accept = float(accept)

    def fit(
        self, logits: Logits, class_counts: Sequence[int], score: Score, rows: OutputRows | None = None
    ) -> Rejection:
        """Return the rejection with the highest threshold at which enough recordings are accepted."""
        ordered = np.sort(_negative_energy(logits))
        accepted = math.ceil(round(self.accept * len(ordered), 9))  # 0.95 of 20 is 19, whatever its rounding
        return Rejection(float(ordered[-accepted] - MARGIN * ordered.std()), self.accept)


def _negative_energy(logits: Logits) -> NDArray[np.float64]:
    return np.asarray(logsumexp(np.asarray(logits, dtype=np.float64), axis=1))
