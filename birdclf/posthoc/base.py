"""Post-hoc logit adjustment, which removes the train prior from the logits of a trained network."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from birdclf.checks import is_number, require
from birdclf.targets import Task

Logits = NDArray[np.floating]
GRID: Final = tuple(step / 20 for step in range(61))
"""Candidates for tau, 0 to 3: scores of decisions are piecewise constant in tau, so gradients cannot be used."""


@dataclass(frozen=True)
class Adjustment:
    """Logits minus ``tau log pi`` (Menon et al., 2021, equation 9).

    Attributes:
        tau: Strength of the adjustment.
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
    """Norm and bias of each class in an output layer.

    Attributes:
        lengths: ``(K,)`` norms of the weight's rows.
        bias: ``(K,)``, zeros if the layer has none.
    """

    lengths: tuple[float, ...]
    bias: tuple[float, ...]


class Adjusts(Protocol):
    """A fitted correction of logits; a frozen dataclass of numbers."""

    def apply(self, logits: Logits) -> NDArray[np.float32]:
        """Return adjusted logits ``(N, K)``."""


Score = Callable[[Logits], float]


class PostHoc(ABC):
    """A correction of logits after training.

    Attributes:
        corrects_prior: Whether it may remove the train prior.
        needs_rows: Whether it needs the rows of a linear output layer.
        task: The task that it is for; None for both.
    """

    corrects_prior: bool = False
    needs_rows: bool = False
    task: Task | None = "single_label"

    @abstractmethod
    def fit(
        self, logits: Logits, class_counts: Sequence[int], score: Score, rows: OutputRows | None = None
    ) -> Adjusts | None:
        """Return the fitted correction, or None for no correction.

        Args:
            logits: ``(N, K)`` of the validation split.
            class_counts: ``(K,)`` train recordings of each class.
            score: Score of logits ``(N, K)`` of the same clips; higher is better.
            rows: Of the network's output layer; None if that is not linear.
        """


def check_tau(tau: float | None, most: float = math.inf) -> None:
    """Refuse a tau that is neither None nor a finite number from 0 to ``most``."""
    allowed = "0 or more" if math.isinf(most) else f"from 0 to {most:g}"
    fits = tau is None or (is_number(tau) and 0 <= tau <= most)
    require(fits, "posthoc.tau", tau, f"null (tuned on validation) or a number {allowed}")


class Unadjusted(PostHoc):
    """Leaves logits as they are."""

    task = None

    def fit(self, logits: Logits, class_counts: Sequence[int], score: Score, rows: OutputRows | None = None) -> None:
        """Return None."""


class LogitAdjustment(PostHoc):
    """Decides by the largest ``z - tau log pi`` (Menon et al., 2021, equation 9).

    Args:
        tau: Strength of the adjustment, 0 or more; None tunes it on validation: the smallest of the best values among
            0, 0.05, ..., 3.

    Raises:
        UserError: If ``tau`` is out of range.
    """

    def __init__(self, tau: float | None = None) -> None:
        check_tau(tau)
        self.tau, self.corrects_prior = tau, tau != 0

    def fit(
        self, logits: Logits, class_counts: Sequence[int], score: Score, rows: OutputRows | None = None
    ) -> Adjustment:
        """Return the adjustment; a class count of 0 counts as 1."""
        n = np.maximum(np.asarray(class_counts, dtype=np.float64), 1)
        prior = tuple(float(share) for share in n / n.sum())
        if self.tau is not None:
            return Adjustment(float(self.tau), prior)
        tried = [Adjustment(tau, prior) for tau in GRID]
        return max(tried, key=lambda one: score(one.apply(logits)))
