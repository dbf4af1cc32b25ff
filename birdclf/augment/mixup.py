"""Mixup and Remix, which mix windows and their labels in pairs."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from birdclf.augment.augmentation import ONE_EACH, Bags, OnPairs, Rows, partners, replace_rows, take_rows
from birdclf.features.representation import Representation


class Mixup(OnPairs):
    """``x = l x_i + (1 - l) x_j`` and ``y = l y_i + (1 - l) y_j`` (Zhang et al., 2018, equation 1).

    Every chosen window has its own share ``l ~ Beta(alpha, alpha)`` and its own partner in the batch. Losses are linear
    in the target, so a soft target equals a mix of two losses. Training metrics count a mixed window as the class of
    the larger share. Sets are added instead, whatever the shares: see :func:`union`.

    Args:
        alpha: Above 0; 1 draws shares uniformly, a smaller value near 0 and 1.

    Raises:
        UserError: If a setting is out of range.
    """

    name = "mixup"

    def __init__(self, p: float = 1.0, alpha: float = 0.2) -> None:
        super().__init__(p)
        self.alpha = self.number("alpha", alpha, 0)
        self.require(alpha > 0, "alpha", alpha, "above 0")
        self.num_classes = 0

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Set the number of classes."""
        self.num_classes = len(class_counts)

    def forward(
        self, x: Tensor, target: Tensor, rows: Rows, rng: np.random.Generator, bags: Bags = ONE_EACH
    ) -> tuple[Tensor, Tensor]:
        """Return mixed features ``(W, ...)`` and probabilities or sets ``(B, K)``."""
        size = len(target)
        share = take_rows(rng.beta(self.alpha, self.alpha, size), rows, x.device)
        partner = partners(size, rng)[rows]
        windows, others, place = bags.paired(rows, partner)
        own, other = (torch.from_numpy(one).to(x.device) for one in (rows, partner))
        mine = x if len(windows) == len(x) else x[torch.from_numpy(windows).to(x.device)]
        shares = share[torch.from_numpy(place).to(x.device)].reshape(-1, *[1] * (x.ndim - 1))
        mixed = x[torch.from_numpy(others).to(x.device)].lerp_(mine, shares)
        if target.ndim == 2:
            y, y_mixed = target, union(target[own], target[other])
        else:
            y = functional.one_hot(target, self.num_classes).float()
            y_mixed = y[other].lerp_(y[own], self.label_share(share, target[own], target[other])[:, None])
        return replace_rows(x, windows, mixed), replace_rows(y, rows, y_mixed)

    def label_share(self, share: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """Return the share of a window's own label.

        Args:
            share: ``(R,)`` share of its features, 0 to 1.
            own: ``(R,)`` its class.
            other: ``(R,)`` its partner's class.
        """
        return share


def union(one: Tensor, other: Tensor) -> Tensor:
    """Return sets ``(B, K)``: 1 where either has 1, else -1 (masked) where either has -1, else 0."""
    return torch.where((one == 1) | (other == 1), 1.0, torch.minimum(one, other))


class Remix(Mixup):
    """mixup whose label goes to the rarer class where counts differ much (Chou et al., 2020, equations 8 to 10).

    With counts n of the train split, the share of label i is 0 where ``n_i / n_j >= kappa`` and ``l < tau``, 1 where
    ``n_i / n_j <= 1 / kappa`` and ``1 - l < tau``, else l. An infinite kappa, or a tau of 0, is mixup.

    Args:
        alpha: As for mixup.
        kappa: Least ratio of counts at which the label may go to the rarer class, 1 or more, ``inf`` for never.
        tau: Share of the features below which the more frequent class loses its label, 0 to 1.

    Raises:
        UserError: If a setting is out of range.
    """

    name = "remix"
    task = "single_label"
    counts: Tensor

    def __init__(self, p: float = 1.0, alpha: float = 0.2, kappa: float = 3.0, tau: float = 0.5) -> None:
        super().__init__(p, alpha)
        self.kappa = kappa if kappa == math.inf else self.number("kappa", kappa, 1)
        self.tau = self.number("tau", tau, 0, 1)

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Set the class counts of the train split; a class without recordings counts as 1."""
        super().bind(features, class_counts)
        self.register_buffer("counts", class_counts.clamp_min(1).float(), persistent=False)

    def label_share(self, share: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """Return the share of a window's own label, ``(R,)``."""
        ratio = self.counts[own] / self.counts[other]
        to_other = (ratio >= self.kappa) & (share < self.tau)
        to_own = (ratio <= 1 / self.kappa) & (1 - share < self.tau)
        return torch.where(to_own, 1.0, torch.where(to_other, 0.0, share))
