"""Shifts of a window over frequency and over time."""

import numpy as np
import torch
from torch import Tensor

from birdclf.augment.augmentation import OnBands, Rows, replace_rows, take_rows
from birdclf.augment.spectrum import floor_db
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Representation

FILLS = ("silence", "edge", "mirror")


class Shift(OnBands):
    """Moves a window earlier or later by a whole number of frames, uniform within a limit, and fills the gap.

    Args:
        max_s: Greatest shift either way in seconds, at least a frame, less than a window.
        fill: Content of the gap: ``silence`` (every band at the features' floor, ``top_db`` below the window's
            maximum), ``edge`` (the adjacent frame, repeated) or ``mirror`` (the adjacent frames, reversed).

    Raises:
        UserError: If a setting is out of range.
    """

    name = "shift"
    turn = 0

    def __init__(self, p: float = 0.5, max_s: float = 1.0, fill: str = "silence") -> None:
        super().__init__(p)
        self.max_s = self.number("max_s", max_s, 0)
        self.require(fill in FILLS, "fill", fill, f"one of {', '.join(FILLS)}")
        self.fill, self.most = fill, 0

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Convert the limit to frames."""
        mel = self.mel(features)
        frame_s = mel.hop / mel.sample_rate_hz
        self.most = round(self.max_s / frame_s)
        allowed = f"from a frame of {frame_s:g} s to less than the window of {mel.frames * frame_s:g} s"
        self.require(1 <= self.most < mel.frames, "max_s", self.max_s, allowed)

    def forward(self, bands: Tensor, rows: Rows, rng: np.random.Generator, features: MelFeatures) -> Tensor:
        """Return bands ``(B, F, T)`` with the rows shifted."""
        frames = bands.shape[2]
        by = take_rows(rng.integers(-self.most, self.most + 1, len(bands)), rows, bands.device)
        source = torch.arange(frames, device=bands.device) - by[:, None]  # (R, T): the frame moved to each position
        gap = (source < 0) | (source >= frames)
        if self.fill == "mirror":
            place = torch.where(source < 0, -1 - source, torch.where(gap, 2 * frames - 1 - source, source))
        else:
            place = source.clamp(0, frames - 1)
        chosen = bands[rows]
        moved = take_frames(chosen, place)
        if self.fill == "silence":
            db = features.to_db(chosen)
            quiet = floor_db(db, features.top_db).expand(-1, db.shape[1], 1)
            moved = torch.where(gap[:, None, :], features.from_db(quiet).float(), moved)
        return replace_rows(bands, rows, moved)


def take_frames(bands: Tensor, place: Tensor) -> Tensor:
    """Return the frames ``place`` ``(R, T)`` of bands ``(R, F, T)``."""
    return bands.gather(2, place[:, None, :].expand_as(bands))


class Roll(OnBands):
    """Rolls a window in time by a whole number of frames, uniform up to its length.

    Raises:
        UserError: If ``p`` is out of range.
    """

    name = "roll"
    turn = 1

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, bands: Tensor, rows: Rows, rng: np.random.Generator, features: MelFeatures) -> Tensor:
        """Return bands ``(B, F, T)`` with the rows rolled."""
        frames = bands.shape[2]
        by = take_rows(rng.integers(0, frames, len(bands)), rows, bands.device)
        place = (torch.arange(frames, device=bands.device) - by[:, None]) % frames
        return replace_rows(bands, rows, take_frames(bands[rows], place))
