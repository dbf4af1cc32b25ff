"""Low-pass filter: simulates a distant bird, or a microphone that is not sensitive to high frequencies."""

import math

import numpy as np
import torch
from torch import Tensor

from birdclf.augment.augmentation import OnPower, Rows, take_rows
from birdclf.augment.spectrum import floor_db
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Representation


class LowPass(OnPower):
    """Attenuates band f by ``10 log10(1 + (f / cutoff) ** (2 n))`` dB, the response of a Butterworth filter of order n.

    That is 3 dB at the cut-off and ``slope_db`` per octave far above it. The cut-off is uniform on a logarithmic scale.
    Values are clipped at the features' ``top_db`` below the window's maximum, as in the features.

    Args:
        min_cutoff_hz: Least cut-off in Hz, above 0.
        max_cutoff_hz: Greatest cut-off in Hz, below the centre of the highest band.
        slope_db: dB per octave, above 0, at most 96; n is a sixth of it.

    Raises:
        UserError: If a setting is out of range.
    """

    name = "lowpass"
    turn = 0
    centres_hz: Tensor

    def __init__(
        self, p: float = 0.5, min_cutoff_hz: float = 2000.0, max_cutoff_hz: float = 12000.0, slope_db: float = 12.0
    ) -> None:
        super().__init__(p)
        self.cutoff_hz = self.span("cutoff_hz", min_cutoff_hz, max_cutoff_hz, 1, math.inf)
        self.slope_db = self.number("slope_db", slope_db, 0, 96)
        self.require(slope_db > 0, "slope_db", slope_db, "above 0")

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Set the mel bands; refuse a cut-off above the highest one, which would have no effect."""
        centres_hz = self.mel(features).centres_hz.detach().clone()
        self.register_buffer("centres_hz", centres_hz, persistent=False)
        highest, most = float(centres_hz.max()), self.cutoff_hz[1]
        self.require(most <= highest, "max_cutoff_hz", most, f"at most {highest:.0f}, the highest band of the features")

    def forward(self, db: Tensor, rows: Rows, rng: np.random.Generator, bands: Tensor, features: MelFeatures) -> Tensor:
        """Return power of the rows ``(R, M, T)`` in dB, filtered."""
        least, most = self.cutoff_hz
        cutoff_hz = take_rows(np.exp(rng.uniform(math.log(least), math.log(most), len(bands))), rows, db.device)
        octaves = torch.log2(self.centres_hz.clamp_min(1.0) / cutoff_hz[:, None])  # (R, M)
        # log1p(exp(x)) is softplus, which does not overflow.
        attenuation = torch.nn.functional.softplus(octaves * (self.slope_db * math.log(10) / 10)) * (10 / math.log(10))
        filtered = db.sub_(attenuation[:, :, None])
        return filtered.clamp_min_(floor_db(filtered, features.top_db))
