"""Balanced softmax, the logit-adjusted loss (Ren et al., 2020; Menon et al., 2021)."""

from torch import Tensor

from birdclf.losses.base import Loss, as_distribution, in_range, log_probabilities


class BalancedSoftmax(Loss):
    """Cross-entropy of ``z + tau log pi`` (Ren et al., 2020, theorem 1; Menon et al., 2021, equation 10).

    The added term absorbs the train prior pi, so the raw logits z, which are evaluated, are those of balanced classes.
    With tau 0 or a uniform prior it is cross-entropy.

    Attributes:
        offset: ``(K,)`` buffer, ``tau log pi``.

    Args:
        class_counts: ``(K,)`` train recordings of each class; 0 counts as 1.
        tau: Strength of the prior, 0 or more.

    Raises:
        UserError: If ``tau`` is out of range.
    """

    offset: Tensor

    def __init__(self, class_counts: Tensor, tau: float = 1.0) -> None:
        super().__init__()
        self.corrects_prior = in_range("tau", tau, 0) != 0
        n = class_counts.double().clamp_min(1)
        self.register_buffer("offset", (tau * (n / n.sum()).log()).float())

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        # The sum has at least the float32 precision of the offset.
        log_p = log_probabilities(logits + self.offset)
        return -(as_distribution(target, log_p) * log_p).sum(dim=1).mean()
