"""Random gain."""

import numpy as np
import torch
from torch import Tensor

from birdclf.augment.augmentation import OnPower, Rows, take_rows
from birdclf.errors import UserError
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Representation


class Gain(OnPower):
    """Changes the level of a window by a number of dB, uniform in a range.

    Args:
        min_db: Least gain in dB, -60 to 60.
        max_db: Greatest gain in dB, above the least.

    Raises:
        UserError: If a setting is out of range, or has no effect on these features.
    """

    name = "gain"
    turn = 3

    def __init__(self, p: float = 0.5, min_db: float = -6.0, max_db: float = 6.0) -> None:
        super().__init__(p)
        self.range_db = self.span("db", min_db, max_db, -60, 60)
        self.require(min_db != 0 or max_db != 0, "max_db", max_db, "another number than min_db where that is 0")

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Check that the level changes these features, unlike deltas of dB alone."""
        mel = self.mel(features)
        db = torch.rand(1, len(mel.centres_hz), mel.frames, generator=torch.Generator().manual_seed(0)) * 40
        quiet, loud = (mel.stack(mel.from_db(db + gain)) for gain in (0.0, 6.0))
        if torch.allclose(quiet, loud, atol=1e-3):
            raise UserError(
                f"augment.gain has no effect on features.channels={list(mel.channels)}. Add static, or remove "
                f"gain from augment."
            )

    def forward(self, db: Tensor, rows: Rows, rng: np.random.Generator, bands: Tensor, features: MelFeatures) -> Tensor:
        """Return power of the rows ``(R, M, T)`` in dB after the gain."""
        gain = take_rows(rng.uniform(*self.range_db, len(bands)), rows, db.device)
        return db.add_(gain[:, None, None])
