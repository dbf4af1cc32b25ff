"""A clip that is suggested for a label."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from birdclf.detection.inputs import Recording
from birdclf.labelling.pool import Candidate

GUESSES: Final = 3
DIGITS: Final = 6


@dataclass(frozen=True)
class Suggestion:
    """A clip, and what the model takes it for.

    Attributes:
        rank: 1 for the most uncertain.
        recording: Where it is.
        start_s: Where it begins, in seconds.
        end_s: Where it ends, in seconds.
        guesses: The likeliest species with their probabilities, likeliest first.
        uncertainty: From 0 to 1.
    """

    rank: int
    recording: Recording
    start_s: float
    end_s: float
    guesses: tuple[tuple[str, float], ...]
    uncertainty: float

    @classmethod
    def of(cls, rank: int, one: Candidate, names: Sequence[str]) -> "Suggestion":
        """Return a candidate, whose probabilities ``(K,)`` are those of K names, as a suggestion."""
        best = np.argsort(-one.probabilities, kind="stable")[:GUESSES]
        guesses = tuple((names[k], round(float(one.probabilities[k]), DIGITS)) for k in best)
        start_s, end_s = round(one.start_s, DIGITS), round(one.end_s, DIGITS)
        return cls(rank, one.recording, start_s, end_s, guesses, round(one.uncertainty, DIGITS))

    def row(self) -> dict[str, Any]:
        """Return its row of the manifest; its path is absolute, so that the table may be moved."""
        return {
            "path": self.recording.file,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "species": "",
            "predicted": self.guesses[0][0],
            "confidence": self.guesses[0][1],
            "second_guess": self.guesses[1][0],
            "uncertainty": self.uncertainty,
            "rank": self.rank,
            "group": self.recording.file,
        }
