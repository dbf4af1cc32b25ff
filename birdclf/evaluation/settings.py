"""Settings of the evaluation, the group ``evaluation`` of a configuration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdclf.checks import is_number, whole
from birdclf.errors import UserError


@dataclass(frozen=True)
class Evaluation:
    """How figures are grouped, and how sure their intervals are.

    Args:
        many: Train recordings; a class with more is many-shot.
        few: Train recordings; a class with fewer is few-shot, ``many`` or less.
        draws: Bootstrap samples and sign flips, 100 or more.
        bins: Bins of confidence for the calibration error, 1 or more.
        confidence: Coverage of every interval, in (0, 1).

    Raises:
        UserError: If a value is out of range.
    """

    many: int = 100
    few: int = 20
    draws: int = 2_000
    bins: int = 15
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, least in (("few", 0), ("many", 0), ("draws", 100), ("bins", 1)):
            whole(f"evaluation.{name}", getattr(self, name), least)
        if self.many < self.few:
            raise UserError(f"evaluation.many is {self.many}; it must not be below evaluation.few, {self.few}.")
        if not is_number(self.confidence) or not 0 < self.confidence < 1:
            raise UserError(f"evaluation.confidence is {self.confidence}; it must lie between 0 and 1, such as 0.95.")

    @property
    def coverage(self) -> str:
        """Return the coverage as a sentence has it: ``95 %``."""
        return f"{100 * self.confidence:g} %"

    def buckets(self, train_counts: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """Return which classes are many-, medium- and few-shot, ``(K,)`` each, by their train recordings ``(K,)``."""
        return {
            "many": train_counts > self.many,
            "medium": (train_counts >= self.few) & (train_counts <= self.many),
            "few": train_counts < self.few,
        }
