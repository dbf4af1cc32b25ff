"""Focal loss of sets of labels (Lin et al., 2017)."""

import torch
from torch import Tensor
from torch.nn import functional

from birdclf.checks import is_number, require
from birdclf.losses.base import in_range
from birdclf.losses.focal import focal_terms
from birdclf.losses.sets import SetLoss


class FocalBCE(SetLoss):
    """``-alpha (1 - p)^gamma log p`` of positives, ``-(1 - alpha) p^gamma log(1 - p)`` of negatives, p = sigmoid(z).

    Lin et al., 2017, equation 5. With gamma 0 and no alpha it is binary cross-entropy.

    Args:
        class_counts: ``(K,)`` train examples that have each class; not used.
        examples: Train examples in all; not used.
        gamma: Focus on hard examples, 0 or more.
        alpha: Weight of positives, above 0 and below 1; None for weight 1 of both.
        negative_weight: See :class:`SetLoss`.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        class_counts: Tensor,
        examples: int,
        gamma: float = 2.0,
        alpha: float | None = None,
        negative_weight: float = 1.0,
    ) -> None:
        super().__init__(negative_weight)
        self.gamma = in_range("gamma", gamma, 0)
        fits = alpha is None or (is_number(alpha) and 0 < alpha < 1)
        require(fits, "loss.alpha", alpha, "null, or a number above 0 and below 1")
        self.alpha = alpha

    def terms(self, z: Tensor, heard: Tensor) -> Tensor:
        """Return the loss ``(B, K)`` of each class alone."""
        terms = focal_terms(functional.logsigmoid(torch.where(heard, z, -z)), self.gamma)
        return terms if self.alpha is None else torch.where(heard, self.alpha * terms, (1 - self.alpha) * terms)
