"""Base class of losses of sets of labels."""

from abc import abstractmethod

import torch
from torch import Tensor

from birdclf.checks import above
from birdclf.losses.base import Loss, float32_at_least
from birdclf.targets import MASKED


class SetLoss(Loss):
    """A sum of terms, one for each recording and class, divided by the number of known ones.

    Masked targets have no term and no gradient; a batch of nothing else has loss 0. As the divisor counts what is
    known, whatever its weight, the loss does not depend on how much is masked, and without settings it is the mean
    binary cross-entropy that is reported as ``nll``.

    Args:
        negative_weight: Weight of the terms of classes that are not heard, above 0 to 1: below 1 where recordings are
            not annotated with all species that are heard in them (weak negatives).

    Raises:
        UserError: If ``negative_weight`` is out of range.
    """

    task = "multi_label"

    def __init__(self, negative_weight: float = 1.0) -> None:
        super().__init__()
        self.negative_weight = above("loss.negative_weight", negative_weight, 0, 1)

    @abstractmethod
    def terms(self, z: Tensor, heard: Tensor) -> Tensor:
        """Return the loss ``(B, K)`` of each class alone.

        Args:
            z: ``(B, K)`` logits, float32 or float64.
            heard: ``(B, K)`` bool.
        """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        heard, masked = target == 1, target == MASKED
        terms = self.terms(float32_at_least(logits), heard)
        weighted = torch.where(heard, terms, self.negative_weight * terms).masked_fill(masked, 0)
        return weighted.sum() / (~masked).sum().clamp_min(1)
