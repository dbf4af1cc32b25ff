"""Asymmetric loss of sets of labels (Ridnik et al., 2021)."""

import torch
from torch import Tensor
from torch.nn import functional

from birdclf.checks import fraction
from birdclf.losses.base import in_range
from birdclf.losses.focal import focal_terms
from birdclf.losses.sets import SetLoss


class Asymmetric(SetLoss):
    """``-(1 - p)^gamma_pos log p`` of positives, ``-p_m^gamma_neg log(1 - p_m)`` of negatives, p = sigmoid(z).

    Negatives count by ``p_m = max(p - margin, 0)``, so that those below the margin have neither loss nor gradient
    (Ridnik et al., 2021, equations 5 and 7). With equal gammas and margin 0 it is the focal loss.

    Attributes:
        margin: Buffer, a scalar.

    Args:
        class_counts: ``(K,)`` train examples that have each class; not used.
        examples: Train examples in all; not used.
        gamma_pos: Focus on hard positives, 0 or more; 0 to 1 is usual.
        gamma_neg: Focus on hard negatives, 0 or more.
        margin: At least 0 and below 1.
        negative_weight: See :class:`SetLoss`.

    Raises:
        UserError: If an argument is out of range.
    """

    margin: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        examples: int,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        margin: float = 0.05,
        negative_weight: float = 1.0,
    ) -> None:
        super().__init__(negative_weight)
        self.gamma_pos, self.gamma_neg = in_range("gamma_pos", gamma_pos, 0), in_range("gamma_neg", gamma_neg, 0)
        self.register_buffer("margin", torch.tensor(fraction("loss.margin", margin)))

    def terms(self, z: Tensor, heard: Tensor) -> Tensor:
        """Return the loss ``(B, K)`` of each class alone."""
        # log(1 - p_m) = min(log(1 - p + margin), 0) is finite wherever z is.
        log_q = torch.logaddexp(functional.logsigmoid(-z), self.margin.log()).clamp_max(0)
        return torch.where(
            heard, focal_terms(functional.logsigmoid(z), self.gamma_pos), focal_terms(log_q, self.gamma_neg)
        )
