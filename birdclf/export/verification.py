"""Whether an exported file says what the checkpoint says, on real recordings."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from birdclf.audio.clip import Samples
from birdclf.detection.classifier import Vectors
from birdclf.errors import UserError
from birdclf.export.sounds import Heard

LIMIT: Final = 1e-4
"""Largest difference of a probability."""
LIMIT_EMBEDDING: Final = 1e-3
"""Largest difference of an embedding's value, as a share of the largest value of any."""
BATCH: Final = 16

Answers = Callable[[Samples], tuple[Vectors, Vectors]]
"""Windows ``(B, samples)`` to probabilities ``(B, K)`` and embeddings ``(B, D)``."""


@dataclass(frozen=True)
class Agreement:
    """How far a file agrees with the checkpoint.

    Attributes:
        recordings: How many were listened to.
        windows: How many windows of them.
        probability: Largest difference of a probability.
        embedding: Largest difference of an embedding's value, as a share of the largest value.
        alone: Largest difference of a probability between a window by itself and the same in a batch.
    """

    recordings: int
    windows: int
    probability: float
    embedding: float
    alone: float

    def __str__(self) -> str:
        return (
            f"{self.windows:,} windows of {self.recordings:,} recordings: probabilities differ by at most "
            f"{self.probability:.1e}, embeddings by {self.embedding:.1e} of the largest value; alone and in a batch by "
            f"{self.alone:.1e}"
        )

    def check(self, what: str) -> None:
        """Refuse a file that says something else; not-a-number is something else.

        Raises:
            UserError: If a difference is above its limit.
        """
        for said, value, limit in (
            ("its probabilities differ from the checkpoint's", self.probability, LIMIT),
            (
                "its embeddings differ from the checkpoint's, as a share of the largest,",
                self.embedding,
                LIMIT_EMBEDDING,
            ),
            ("a window's probabilities differ between a batch of one and a larger one", self.alone, LIMIT),
        ):
            if not value <= limit:
                raise UserError(
                    f"The {what} file is not written: {said} by {value:.1e} on {self.windows} windows, where {limit:g} "
                    f"is allowed. Use another format, or birdclf predict with the run folder itself."
                )


def compare(checkpoint: Answers, exported: Answers, sounds: Iterable[Heard]) -> Agreement:
    """Return how far an exported file agrees with its checkpoint on some sounds.

    Args:
        checkpoint: The checkpoint.
        exported: The file.
        sounds: Recordings with their windows.
    """
    recordings: set[str] = set()
    differences: list[tuple[float, float, float]] = []
    windows, largest = 0, 0.0
    for batch in batches(_counted(sounds, recordings)):
        windows += len(batch)
        if len(batch) == 1:
            batch = np.concatenate([batch, batch[:, ::-1]])  # backwards: another sound to share a batch with
        p, e = checkpoint(batch)
        their_p, their_e = exported(batch)
        alone, _ = exported(batch[:1])
        largest = max(largest, float(np.abs(e).max()))
        differences.append((_apart(p, their_p), _apart(e, their_e), _apart(their_p[:1], alone)))
    probability, embedding, by_itself = np.max(differences, axis=0).tolist() if differences else (np.nan,) * 3
    return Agreement(len(recordings), windows, probability, embedding / (largest or 1.0), by_itself)


def batches(sounds: Iterable[Heard], size: int = BATCH) -> Iterator[Samples]:
    """Yield the windows of sounds as batches ``(B, samples)`` that reach across recordings."""
    waiting: list[Samples] = []
    for heard in sounds:
        waiting.append(heard.window)
        if len(waiting) == size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def _counted(sounds: Iterable[Heard], recordings: set[str]) -> Iterator[Heard]:
    for heard in sounds:
        recordings.add(heard.recording)
        yield heard


def _apart(one: Vectors, other: Vectors) -> float:
    return float(np.abs(one.astype(np.float64) - other).max())
