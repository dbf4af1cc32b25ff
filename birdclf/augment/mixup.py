"""mixup (Zhang et al., 2018)."""

import numpy as np
from torch import Tensor
from torch.nn import functional

from birdclf.augment.augmentation import OnPairs, Rows, drawn, partners, replaced
from birdclf.features.representation import Representation


class Mixup(OnPairs):
    """``x = l x_i + (1 - l) x_j`` and ``y = l y_i + (1 - l) y_j`` (Zhang et al., 2018, equation 1).

    Every window that is chosen has a share ``l ~ Beta(alpha, alpha)`` and a partner of its own in the batch. Losses
    are linear in the target, so that a soft one is the same as mixing two losses. Metrics of training count a mixed
    window as the class of the larger share.

    Args:
        p: Probability for each window, 0 to 1.
        alpha: Above 0; 1 draws shares uniformly, less draws them near 0 and 1.

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
        """Take the number of classes."""
        self.num_classes = len(class_counts)

    def forward(self, x: Tensor, target: Tensor, rows: Rows, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return mixed features ``(B, C, F, T)`` and probabilities ``(B, K)``, of ``target`` ``(B,)`` classes."""
        share = drawn(rng.beta(self.alpha, self.alpha, len(x)), rows, x.device)
        own, other = drawn(np.arange(len(x)), rows, x.device), drawn(partners(len(x), rng), rows, x.device)
        whole = len(rows) == len(x)
        mixed = x[other].lerp_(x if whole else x[own], share[:, None, None, None])
        y = functional.one_hot(target, self.num_classes).float()
        y_mixed = y[other].lerp_(y[own], self.label_share(share, target[own], target[other])[:, None])
        return replaced(x, rows, mixed), replaced(y, rows, y_mixed)

    def label_share(self, share: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """Return the share of a window's own label.

        Args:
            share: ``(R,)`` share of its features, 0 to 1.
            own: ``(R,)`` its class.
            other: ``(R,)`` its partner's class.
        """
        return share
