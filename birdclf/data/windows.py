"""Position of a window in its recording."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from birdclf.checks import choice
from birdclf.data.samplers import split_draws
from birdclf.random import key_of, uniform
from birdclf.store.open import FeatureStore

TRAIN_POLICIES: Final = ("random", "first", "center", "loudest", "all", "bag")
EVAL_POLICIES: Final = ("first", "center", "loudest", "all")
SILENT_DB: Final = -99.0
"""Level below which a frame is digital silence, for which the features have an energy of 1e-10."""


@dataclass(frozen=True)
class WindowPolicy:
    """Policies that choose the window of a recording in training and in evaluation.

    Attributes:
        train: ``random`` (another one in each epoch), ``first``, ``center``, ``loudest``; ``all``: adjacent windows,
            each of them an example, so a long recording counts more; or ``bag``: adjacent windows, all of a recording
            together one example, whose logits are pooled as in evaluation.
        eval: ``first``, ``center``, ``loudest``, or ``all``: adjacent windows, their logits pooled: the mean, or what
            a probe's ``pool`` says.

    Raises:
        UserError: If a policy is unknown.
    """

    train: str = "random"
    eval: str = "center"

    def __post_init__(self) -> None:
        choice("window.train", self.train, TRAIN_POLICIES)
        choice("window.eval", self.eval, EVAL_POLICIES)


def window_starts(
    policy: str, store: FeatureStore, rows: NDArray[np.int64], frames: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first frame of each window that a fixed policy chooses, and its recording.

    ``loudest`` has the most energy between 1 and 10 kHz among the windows of which at most half is silent.

    Returns:
        ``(windows,)`` starts in the packed frames, and ``(windows,)`` positions in ``rows`` ``(n,)``, ascending.
    """
    offset, length = _spans(store, rows)
    each = np.arange(len(rows))
    if policy == "first":
        return offset, each
    if policy == "center":
        return offset + (length - frames) // 2, each
    if policy == "loudest":
        loudest = [_loudest(store, o, n, frames) for o, n in zip(offset, length, strict=True)]
        return offset + np.asarray(loudest, dtype=np.int64), each
    counts = -(-length // frames)
    owner = np.repeat(each, counts)
    start = np.arange(len(owner))  # in place from here on, to save memory with a million recordings
    start -= (np.cumsum(counts) - counts)[owner]
    start *= frames
    # The last window ends with the recording and overlaps the one before it.
    np.minimum(start, (length - frames)[owner], out=start)
    start += offset[owner]
    return start, owner


GOLDEN: Final = (5**0.5 - 1) / 2
"""Steps of this size around a circle give evenly distributed points for any number of steps (Weyl, 1916)."""


class RandomWindows:
    """Draws a window's start, a pure function of seed, draw and recording.

    If a recording is drawn several times in an epoch, its windows advance by :data:`GOLDEN` from a random first one, so
    they differ as long as there are about three times as many positions.

    Args:
        rows: ``(n,)`` rows of the store's index.
    """

    def __init__(self, store: FeatureStore, rows: NDArray[np.int64], frames: int, seed: int) -> None:
        self.offset, length = _spans(store, rows)
        self.room = length - frames + 1
        self.key = key_of(seed, "windows")

    def starts(self, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first of the packed frames for ``(n,)`` draws; draw d is of recording ``d % len(rows)``."""
        position = draws % len(self.offset)
        first, again = split_draws(draws, len(self.offset))
        place = (uniform(self.key, first) + again * GOLDEN) % 1.0
        return self.offset[position] + (place * self.room[position]).astype(np.int64)


def _spans(store: FeatureStore, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    spans = store.index.iloc[rows]
    return spans.offset.to_numpy(dtype=np.int64), spans.frames.to_numpy(dtype=np.int64)


def _loudest(store: FeatureStore, offset: int, length: int, frames: int) -> int:
    level_db = store.level_db[offset : offset + length].astype(np.float64)
    sums = _window_sums(10 ** (level_db / 10), frames)
    silent = _window_sums((level_db < SILENT_DB).astype(np.float64), frames)
    return int(np.argmax(np.where(silent > frames / 2, -1.0, sums) if silent.min() <= frames / 2 else sums))


def _window_sums(values: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(values)])
    return np.subtract(sums[frames:], sums[:-frames])
