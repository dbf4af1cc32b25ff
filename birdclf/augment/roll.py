"""Circular shift in time."""

import numpy as np
import torch
from torch import Tensor

from birdclf.augment.augmentation import OnBands, Rows, drawn, replaced
from birdclf.augment.shift import taken
from birdclf.features.representation import Representation


class Roll(OnBands):
    """Moves a window later by a whole number of frames, uniform up to its length; what leaves it comes back in front.

    Args:
        p: Probability for each window, 0 to 1.

    Raises:
        UserError: If ``p`` is out of range.
    """

    name = "roll"
    turn = 1

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, bands: Tensor, rows: Rows, rng: np.random.Generator, features: Representation) -> Tensor:
        """Return bands ``(B, F, T)`` with the rows rolled."""
        frames = bands.shape[2]
        by = drawn(rng.integers(0, frames, len(bands)), rows, bands.device)
        place = (torch.arange(frames, device=bands.device) - by[:, None]) % frames
        return replaced(bands, rows, taken(bands[rows], place))
