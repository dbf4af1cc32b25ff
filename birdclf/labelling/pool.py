"""The most uncertain windows of all that are heard, in bounded memory."""

from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdclf.detection.inputs import Recording

APART_S = 1e-6


class Candidate(NamedTuple):
    """A window that may be suggested.

    Attributes:
        recording: Where it is.
        start_s: Where it begins, in seconds.
        end_s: Where the sound in it ends, in seconds.
        probabilities: ``(K,)``.
        embedding: ``(D,)``.
        uncertainty: From 0 to 1.
    """

    recording: Recording
    start_s: float
    end_s: float
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    uncertainty: float


class Pool:
    """Keeps the most uncertain of the windows it is shown, at most one of any that overlap.

    Twice its size is gathered before the least uncertain half is let go. Of windows that are as uncertain, the first
    stay.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: list[Candidate] = []
        self._least = -1.0
        """What a window must surpass to be among the most uncertain of those shown so far."""

    def __len__(self) -> int:
        return len(self._kept)

    def wants(self, uncertainty: float) -> bool:
        """Return whether a window so uncertain may be among them."""
        return uncertainty > self._least

    def add(self, candidate: Candidate) -> None:
        """Take a window in, if it is uncertain enough."""
        if not self.wants(candidate.uncertainty):
            return
        self._kept.append(candidate)
        if len(self._kept) == 2 * self.size:
            self._kept = self.best()
            if len(self._kept) == self.size:
                self._least = self._kept[-1].uncertainty

    def best(self) -> list[Candidate]:
        """Return the most uncertain ones, at most as many as its size, in order of uncertainty."""
        starts: dict[str, list[float]] = {}
        chosen: list[Candidate] = []
        for one in sorted(self._kept, key=lambda one: -one.uncertainty):
            taken = starts.setdefault(one.recording.file, [])
            at = bisect_left(taken, one.start_s)
            length_s = one.end_s - one.start_s - APART_S  # of all windows of a recording
            if any(abs(other - one.start_s) < length_s for other in taken[max(0, at - 1) : at + 1]):
                continue
            insort(taken, one.start_s)
            chosen.append(one)
            if len(chosen) == self.size:
                break
        return chosen
