"""Balanced softmax, the logit-adjusted loss (Ren et al., 2020; Menon et al., 2021)."""

from torch import Tensor

from birdclf.losses.base import Loss, as_distribution, in_range, log_probabilities


class BalancedSoftmax(Loss):
    """Cross-entropy of ``z + tau log pi`` (Ren et al., 2020, theorem 1; Menon et al., 2021, equation 10).

    The added term takes up the train prior pi, so that the raw logits z are those of balanced classes; they are what is
    evaluated. With tau 0 or a uniform prior it is cross-entropy.

    Attributes:
        offset: ``(K,)`` buffer, ``tau log pi``.
        corrects_prior: Whether tau is not 0.

    Args:
        class_counts: ``(K,)`` train recordings of each class; a class without any counts as one.
        tau: How much of the prior is taken up, 0 or more.

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
        # The sum is float32 at least, since the offset is.
        log_p = log_probabilities(logits + self.offset)
        return -(as_distribution(target, log_p) * log_p).sum(dim=1).mean()
