"""SpecAugment: masks over time and frequency (Park et al., 2019)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdclf.augment.augmentation import OnFeatures, Rows, take_rows
from birdclf.checks import whole
from birdclf.features.representation import Representation


class SpecAugment(OnFeatures):
    """Masks intervals of time and of bands (Park et al., 2019, section 2; without time warping).

    Each window has its own masks, equal in all channels. A width is uniform from 0 to the greatest, then the position
    is uniform within the window. Masked values become the mean of the train split. On MFCC a frequency mask covers
    adjacent coefficients, not a range of Hz. torchaudio's ``mask_along_axis_iid`` draws from the global generator,
    which a resumed run could not repeat, and cannot select rows or limit the total width.

    Args:
        time_masks: Masks over time, 0 or more.
        time_width_s: Greatest width of one, in seconds; None for 0.5.
        max_time_share: Greatest share of a window that its time masks cover together, else all are made narrower; None
            for 0.3.
        freq_masks: Masks over bands or coefficients, 0 or more.
        freq_width: Greatest width of one, as a share of the bands; None for 0.15.

    Raises:
        UserError: If a setting is out of range or belongs to masks whose number is 0, there is no mask, or the
            greatest mask is narrower than a frame or a band.
    """

    name = "specaugment"
    fill: Tensor | None

    def __init__(
        self,
        p: float = 1.0,
        time_masks: int = 2,
        time_width_s: float | None = None,
        max_time_share: float | None = None,
        freq_masks: int = 2,
        freq_width: float | None = None,
    ) -> None:
        super().__init__(p)
        for setting, count in (("time_masks", time_masks), ("freq_masks", freq_masks)):
            whole(f"augment.{self.name}.{setting}", count, 0)
        self.require(time_masks + freq_masks > 0, "time_masks", time_masks, "1 or more where freq_masks is 0")
        of_time, of_freq = ("time_masks", time_masks), ("freq_masks", freq_masks)
        for setting, value, (masks, count) in (
            ("time_width_s", time_width_s, of_time),
            ("max_time_share", max_time_share, of_time),
            ("freq_width", freq_width, of_freq),
        ):
            self.require(value is None or count > 0, setting, value, f"null where {masks} is 0")
        self.time_masks, self.freq_masks = time_masks, freq_masks
        self.time_width_s = self.number("time_width_s", 0.5 if time_width_s is None else time_width_s, 0)
        self.max_time_share = self.number("max_time_share", 0.3 if max_time_share is None else max_time_share, 0, 1)
        self.freq_width = self.number("freq_width", 0.15 if freq_width is None else freq_width, 0, 1)
        self.register_buffer("fill", None, persistent=False)
        self.widest_frames = self.most_frames = self.widest_bands = 0

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Convert widths to frames and bands, and set the fill to the train mean, None where that is 0."""
        mel = self.mel(features)
        mean = mel.normalised_mean.detach().clone()
        self.register_buffer("fill", mean if bool(mean.any()) else None, persistent=False)
        _, bands, frames = mel.shape
        frame_s = mel.hop / mel.sample_rate_hz
        self.widest_frames, self.widest_bands = round(self.time_width_s / frame_s), round(self.freq_width * bands)
        self.most_frames = int(self.max_time_share * frames)
        if self.time_masks:
            allowed = f"from a frame of {frame_s:g} s to the window of {frames * frame_s:g} s"
            self.require(1 <= self.widest_frames <= frames, "time_width_s", self.time_width_s, allowed)
            self.require(self.most_frames >= 1, "max_time_share", self.max_time_share, f"1/{frames} or more, a frame")
        if self.freq_masks:
            self.require(self.widest_bands >= 1, "freq_width", self.freq_width, f"1/{bands} or more, a band of {bands}")

    def forward(self, x: Tensor, rows: Rows, rng: np.random.Generator) -> Tensor:
        """Return features ``(B, C, F, T)`` with masks over the rows."""
        size, _, bands, frames = x.shape
        time = self._intervals(rng, size, self.time_masks, frames, self.widest_frames, self.most_frames)
        freq = self._intervals(rng, size, self.freq_masks, bands, self.widest_bands)
        others = np.setdiff1d(np.arange(size), rows)
        for intervals in (time, freq):
            intervals[others, :, 1] = 0
        everything = np.arange(size)
        over_time = _covered(take_rows(time, everything, x.device), frames)[:, None, None, :]
        over_freq = _covered(take_rows(freq, everything, x.device), bands)[:, None, :, None]
        fill = 0.0 if self.fill is None else self.fill
        return torch.where(over_time | over_freq, fill, x)  # twice as fast as masked_fill

    @staticmethod
    def _intervals(
        rng: np.random.Generator, size: int, masks: int, length: int, widest: int, most: int | None = None
    ) -> NDArray[np.int64]:
        """Return start and width of the masks of each window, ``(B, masks, 2)``, at most ``most`` wide together."""
        width = rng.integers(0, widest + 1, (size, masks))
        if most is not None:
            total = np.maximum(width.sum(axis=1, keepdims=True), 1)
            width = np.where(total > most, width * most // total, width)
        start = np.floor(rng.random((size, masks)) * (length - width + 1)).astype(np.int64)
        return np.stack([start, width], axis=2)


def _covered(intervals: Tensor, length: int) -> Tensor:
    """Return the mask ``(B, length)`` of the positions within intervals ``(B, masks, 2)`` of start and width."""
    place = torch.arange(length, device=intervals.device)
    begin, width = intervals[..., :1], intervals[..., 1:]
    return ((place >= begin) & (place < begin + width)).any(dim=1)
