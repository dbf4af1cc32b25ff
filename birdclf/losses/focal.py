"""Focal loss (Lin et al., 2017)."""

import torch
from torch import Tensor

from birdclf.checks import is_number, require
from birdclf.losses.base import Loss, as_distribution, in_range, inverse_power, log_probabilities


class FocalLoss(Loss):
    """``-alpha_y (1 - p_y)^gamma log p_y`` (Lin et al., 2017, equation 5), the mean over the batch.

    A soft target sums the terms of its classes by their probability. With gamma 0 and no alpha it is cross-entropy.

    Attributes:
        alpha: ``(K,)`` buffer.

    Args:
        class_counts: ``(K,)`` train recordings of each class.
        gamma: Focus on hard examples, 0 or more.
        alpha: None for 1, a number above 0 for all classes, or ``class_frequency`` for weights proportional to
            ``1 / n_j`` with mean 1 over the train recordings.

    Raises:
        UserError: If an argument is out of range.
    """

    alpha: Tensor

    def __init__(self, class_counts: Tensor, gamma: float = 2.0, alpha: float | str | None = None) -> None:
        super().__init__()
        self.gamma = in_range("gamma", gamma, 0)
        if alpha is None:
            weight = torch.ones(len(class_counts))
        elif alpha == "class_frequency":
            weight = inverse_power(class_counts, power=1.0)
        else:
            fits = is_number(alpha) and float(alpha) > 0
            require(fits, "loss.alpha", alpha, "null, a number above 0, or class_frequency")
            weight = torch.full((len(class_counts),), float(alpha))
        self.register_buffer("alpha", weight)
        self.weighs_classes = alpha == "class_frequency"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        log_p = log_probabilities(logits)
        t = as_distribution(target, log_p)
        return (t * self.alpha * focal_terms(log_p, self.gamma)).sum(dim=1).mean()


def focal_terms(log_p: Tensor, gamma: float) -> Tensor:
    """Return ``-(1 - p)^gamma log p`` of log probabilities of any shape, ``-log p`` for gamma 0."""
    if gamma == 0:
        return -log_p
    # At p = 1 the derivative of x^gamma is infinite for gamma below 1; the floor keeps it finite.
    return -log_p * (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps) ** gamma
