"""Probabilities of windows to detections: which species, from when to when, and how surely."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from birdclf.detection.classifier import Vectors
from birdclf.errors import UserError
from birdclf.metrics.thresholds import SpeciesThreshold
from birdclf.targets import NONE, Task

TOUCHING_S: Final = 1e-6
DIGITS: Final = 6
"""Microseconds, so that every format has the same times."""
LEAST: Final = 1e-30
"""Probability below which a logarithm would say more than float32 holds."""

Times = NDArray[np.float64]


class Detection(NamedTuple):
    """A species in a stretch of a recording."""

    start_s: float
    end_s: float
    species: str
    confidence: float  # highest probability of its windows
    windows: int
    p_right: float | None = None  # probability that the species is right; known where its threshold is


@dataclass(frozen=True)
class DetectionSettings:
    """Settings by which probabilities become detections.

    Attributes:
        min_confidence: Least probability, from 0 to 1.
        top_k: Most species in one window.
        merge: Whether detections of one species in windows that overlap or touch are one.
        smooth_s: Logits are averaged over windows whose middles lie at most half of this apart, in seconds; 0 for none.
        species: Species that occur; None for all. Of one class a window, they are two or more, and probabilities are
            then shares among them.
        task: Whether probabilities are shares among the classes, or each its own.
        thresholds: Thresholds by species, used in place of ``min_confidence``; they are for probabilities as they are,
            so species that do not occur are left out, and the others' probabilities stay.
        sets: Least probability by which each species is in a window's set; None to give no sets.

    Raises:
        UserError: If a value is out of range.
    """

    min_confidence: float = 0.25
    top_k: int = 3
    merge: bool = True
    smooth_s: float = 0.0
    species: tuple[str, ...] | None = None
    task: Task = "single_label"
    thresholds: Mapping[str, SpeciesThreshold] | None = None
    sets: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise UserError(f"--min-confidence {self.min_confidence:g}: a probability from 0 to 1.")
        if self.top_k < 1:
            raise UserError(f"--top-k {self.top_k}: species in one window, 1 or more.")
        if not 0 <= self.smooth_s < float("inf"):
            raise UserError(f"--smooth {self.smooth_s:g}: seconds, 0 or more.")
        if self.thresholds is not None and self.smooth_s:
            raise UserError(
                "--smooth changes the probabilities that the thresholds were chosen for. Leave it out, or use no "
                "thresholds: --thresholds none."
            )
        shares = self.task == "single_label" and self.thresholds is None
        if shares and self.species is not None and len(self.species) < 2:
            raise UserError(
                f"--species-list names {self.species[0]} alone: every sound would be it, for probabilities are shares "
                f"among the species of the list. Add the others that occur there."
            )

    def detections(
        self, probabilities: Vectors, start_s: Times, end_s: Times, classes: Sequence[str]
    ) -> list[Detection]:
        """Return the detections of a recording, by begin and confidence; the class ``none`` is none.

        Args:
            probabilities: ``(n, K)`` of its windows.
            start_s: ``(n,)`` their begins, ascending, in seconds.
            end_s: ``(n,)`` their ends, in seconds.
            classes: K names.
        """
        if not len(probabilities):
            return []
        p = self.calibrated(probabilities, (start_s + end_s) / 2, classes)
        if NONE in classes:
            p = np.where(np.asarray(classes) == NONE, 0, p)
        least = np.full(len(classes), self.min_confidence, np.float32)
        for k, name in enumerate(classes):
            if self.thresholds and name in self.thresholds:
                least[k] = np.nan_to_num(self.thresholds[name].threshold, nan=np.inf)
        best = np.argsort(-p, axis=1, kind="stable")[:, : self.top_k]
        window, place = np.nonzero(np.take_along_axis(p, best, axis=1) >= np.maximum(least, LEAST)[best])
        rows: list[tuple[int, float, float, float, int]] = []
        for k, i in sorted(zip(best[window, place].tolist(), window.tolist(), strict=True)):
            last = rows[-1] if rows else None
            if self.merge and last and last[0] == k and start_s[i] <= last[2] + TOUCHING_S:
                rows[-1] = (k, last[1], max(last[2], float(end_s[i])), max(last[3], float(p[i, k])), last[4] + 1)
            else:
                rows.append((k, float(start_s[i]), float(end_s[i]), float(p[i, k]), 1))
        rows.sort(key=lambda row: (row[1], -row[3], row[0]))
        return [
            Detection(
                round(start, DIGITS), round(end, DIGITS), classes[k], round(confidence, DIGITS), n,
                self._right(classes[k], confidence),
            )
            for k, start, end, confidence, n in rows
        ]  # fmt: skip

    def species_sets(self, probabilities: Vectors, classes: Sequence[str]) -> list[list[str]]:
        """Return the set of species of each window, of those that occur, the most probable first.

        Args:
            probabilities: ``(n, K)`` of its windows, which are neither smoothed nor shared anew.
            classes: K names.
        """
        least = np.asarray([(self.sets or {}).get(name, np.inf) for name in classes])
        if self.species is not None:
            least[~np.isin(np.asarray(classes), self.species)] = np.inf
        return [
            [classes[k] for k in np.argsort(-row, kind="stable") if row[k] >= least[k]]
            for row in probabilities.astype(np.float64)
        ]

    def _right(self, species: str, confidence: float) -> float | None:
        known = self.thresholds.get(species) if self.thresholds else None
        return None if known is None else round(known.probability_right(confidence), DIGITS)

    def calibrated(self, probabilities: Vectors, middle_s: Times, classes: Sequence[str]) -> Vectors:
        """Return probabilities ``(n, K)``, smoothed and among the species that occur and ``none``.

        Those of a window that the classifier rejects stay 0.
        """
        if not self.smooth_s and self.species is None:
            return probabilities
        if self.thresholds is not None and self.species is not None:  # there is no smoothing then
            return np.asarray(probabilities * np.isin(np.asarray(classes), self.species), dtype=np.float32)
        if self.task == "multi_label":
            return self._of_sets(probabilities, middle_s, classes)
        log_p = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
        if self.smooth_s:
            # Logits and log probabilities of a window differ by one number, which the softmax takes out again.
            log_p = self._smoothed(log_p, middle_s)
        p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        if self.species is not None:
            kept = np.isin(np.asarray(classes), (*self.species, NONE))
            p = np.exp(log_p - log_p[:, kept].max(axis=1, keepdims=True)) * kept
        accepted = probabilities.any(axis=1, keepdims=True)
        return np.asarray(p / p.sum(axis=1, keepdims=True) * accepted, dtype=np.float32)

    def _of_sets(self, probabilities: Vectors, middle_s: Times, classes: Sequence[str]) -> Vectors:
        p = np.clip(probabilities.astype(np.float64), LEAST, 1 - np.finfo(np.float64).epsneg)
        if self.smooth_s:
            p = expit(self._smoothed(logit(p), middle_s))
        if self.species is not None:
            p = p * np.isin(np.asarray(classes), self.species)
        return np.asarray(p, dtype=np.float32)

    def _smoothed(self, logits: NDArray[np.float64], middle_s: Times) -> NDArray[np.float64]:
        sums = np.concatenate([np.zeros((1, logits.shape[1])), np.cumsum(logits, axis=0)])
        low = np.searchsorted(middle_s, middle_s - self.smooth_s / 2 - TOUCHING_S, "left")
        high = np.searchsorted(middle_s, middle_s + self.smooth_s / 2 + TOUCHING_S, "right")
        return np.asarray((sums[high] - sums[low]) / (high - low)[:, None])
