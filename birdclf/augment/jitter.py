"""Random changes of normalised features, which act on any of them."""

import numpy as np
import torch
from torch import Tensor

from birdclf.augment.augmentation import OnFeatures, Rows, replace_rows


class Jitter(OnFeatures):
    """Adds white noise to normalised features, such as the vectors of an embedder.

    Args:
        std: Standard deviation, in those of the train split, above 0.

    Raises:
        UserError: If a setting is out of range.
    """

    name = "jitter"

    def __init__(self, p: float = 1.0, std: float = 0.3) -> None:
        super().__init__(p)
        self.std = self.number("std", std, 0)
        self.require(std > 0, "std", std, "above 0")

    def forward(self, x: Tensor, rows: Rows, rng: np.random.Generator) -> Tensor:
        """Return features ``(W, ...)`` with noise in the rows."""
        drawn = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)).to(x.device)
        chosen, noise = (x, drawn) if len(rows) == len(x) else (x[rows], drawn[rows])
        return replace_rows(x, rows, chosen + self.std * noise)
