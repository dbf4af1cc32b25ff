"""Remix: mixup that favours the rarer class (Chou et al., 2020)."""

import math

import torch
from torch import Tensor

from birdclf.augment.mixup import Mixup
from birdclf.features.representation import Representation


class Remix(Mixup):
    """mixup whose label goes to the rarer class where counts differ much (Chou et al., 2020, equations 8 to 10).

    With counts n of the train split, the share of label i is 0 where ``n_i / n_j >= kappa`` and ``l < tau``, 1 where
    ``n_i / n_j <= 1 / kappa`` and ``1 - l < tau``, else l. An infinite kappa, or a tau of 0, is mixup.

    Args:
        p: Probability for each window, 0 to 1.
        alpha: As for mixup.
        kappa: Ratio of counts from which on the rarer class takes the label, 1 or more, ``inf`` for never.
        tau: Share of the features below which the more frequent class loses its label, 0 to 1.

    Raises:
        UserError: If a setting is out of range.
    """

    name = "remix"
    counts: Tensor

    def __init__(self, p: float = 1.0, alpha: float = 0.2, kappa: float = 3.0, tau: float = 0.5) -> None:
        super().__init__(p, alpha)
        self.kappa = kappa if kappa == math.inf else self.number("kappa", kappa, 1)
        self.tau = self.number("tau", tau, 0, 1)

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Take the class counts of the train split; a class without any counts as one."""
        super().bind(features, class_counts)
        self.register_buffer("counts", class_counts.clamp_min(1).float(), persistent=False)

    def label_share(self, share: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """Return the share of a window's own label, ``(R,)``."""
        ratio = self.counts[own] / self.counts[other]
        to_other = (ratio >= self.kappa) & (share < self.tau)
        to_own = (ratio <= 1 / self.kappa) & (1 - share < self.tau)
        return torch.where(to_own, 1.0, torch.where(to_other, 0.0, share))
