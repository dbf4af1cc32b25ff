"""Post-hoc logit adjustment: the train prior is taken out of the logits of a trained network."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from birdclf.checks import is_number, require

Logits = NDArray[np.floating]
GRID: Final = tuple(step / 20 for step in range(61))
"""Taus that are tried, 0 to 3: scores of decisions are steps in tau, so that no search by slope would do."""


@dataclass(frozen=True)
class Adjustment:
    """Logits minus ``tau log pi`` (Menon et al., 2021, equation 9).

    Attributes:
        tau: How much of the prior is taken out.
        prior: ``(K,)`` shares of the classes, each above 0.
    """

    tau: float
    prior: tuple[float, ...]

    def apply(self, logits: Logits) -> NDArray[np.float32]:
        """Return adjusted logits ``(N, K)``."""
        adjusted: NDArray[np.float32] = (logits - self.tau * np.log(np.asarray(self.prior))).astype(np.float32)
        return adjusted


@dataclass(frozen=True)
class OutputRows:
    """What an output layer has of each class.

    Attributes:
        lengths: ``(K,)`` lengths of its rows.
        bias: ``(K,)``, zeros where it has none.
    """

    lengths: tuple[float, ...]
    bias: tuple[float, ...]


class Adjusts(Protocol):
    """What makes other logits of those that a network gives; a frozen dataclass of numbers."""

    @property
    def tau(self) -> float:
        """How much is done."""

    def apply(self, logits: Logits) -> NDArray[np.float32]:
        """Return adjusted logits ``(N, K)``."""


Score = Callable[[Logits], float]


class PostHoc(ABC):
    """What is done to logits once training is over.

    Attributes:
        corrects_prior: Whether it may take the train prior out of them.
        needs_rows: Whether it goes by the rows of a linear output layer.
    """

    corrects_prior: bool = False
    needs_rows: bool = False

    @abstractmethod
    def fit(
        self, logits: Logits, class_counts: Sequence[int], score: Score, rows: OutputRows | None = None
    ) -> Adjusts | None:
        """Return what adjusts logits, or None for nothing.

        Args:
            logits: ``(N, K)`` of the validation split.
            class_counts: ``(K,)`` train recordings of each class.
            score: Judges logits ``(N, K)`` of the same clips; higher is better.
            rows: Of the network's output layer; None where it is not a linear one.
        """


def check_tau(tau: float | None, most: float = math.inf) -> None:
    """Refuse a tau that is neither None nor a finite number from 0 to ``most``."""
    allowed = "0 or more" if math.isinf(most) else f"from 0 to {most:g}"
    fits = tau is None or (is_number(tau) and 0 <= tau <= most)
    require(fits, "posthoc.tau", tau, f"null (tuned on validation) or a number {allowed}")


class Unadjusted(PostHoc):
    """Leaves logits as they are."""

    def fit(self, logits: Logits, class_counts: Sequence[int], score: Score, rows: OutputRows | None = None) -> None:
        """Return None."""


class LogitAdjustment(PostHoc):
    """Decides by the largest ``z - tau log pi`` (Menon et al., 2021, equation 9).

    Attributes:
        corrects_prior: Whether tau may be other than 0.

    Args:
        tau: How much of the prior is taken out, 0 or more; None for the smallest in 0, 0.05 to 3 of those with the best
            score on validation.

    Raises:
        UserError: If ``tau`` is out of range.
    """

    def __init__(self, tau: float | None = None) -> None:
        check_tau(tau)
        self.tau, self.corrects_prior = tau, tau != 0

    def fit(
        self, logits: Logits, class_counts: Sequence[int], score: Score, rows: OutputRows | None = None
    ) -> Adjustment:
        """Return the adjustment; a class without a train recording counts as one."""
        n = np.maximum(np.asarray(class_counts, dtype=np.float64), 1)
        prior = tuple(float(share) for share in n / n.sum())
        if self.tau is not None:
            return Adjustment(float(self.tau), prior)
        tried = [Adjustment(tau, prior) for tau in GRID]
        return max(tried, key=lambda one: score(one.apply(logits)))
