"""Cross-entropy with class weights and label smoothing."""

from torch import Tensor

from birdclf.errors import UserError
from birdclf.losses.base import Loss, as_distribution, in_range, inverse_power, log_probabilities


class CrossEntropy(Loss):
    """Weighted cross-entropy: ``sum_i sum_k w_k t'_ik (-log p_ik) / sum_i sum_k w_k t_ik``.

    With integer targets this is torch's weighted mean. Soft targets are divided by their weight as well, so a one-hot
    target and its class give the same value. Smoothed targets are ``t' = (1 - e) t + e / K`` (Szegedy et al., 2016,
    section 7).

    Attributes:
        weight: ``(K,)`` buffer, proportional to ``n_j ** -weight_power``.

    Args:
        class_counts: ``(K,)`` train recordings of each class.
        weight_power: 0 for no weights, 0.5 for the study's sqrt weights, 1 for its balanced ones; 0 to 2.
        label_smoothing: e, in [0, 1].
        max_weight_ratio: Largest weight over smallest, at least 1; None for no limit.

    Raises:
        UserError: If an argument is out of range, or ``max_weight_ratio`` is given without weights.
    """

    weight: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        weight_power: float = 0.0,
        label_smoothing: float = 0.0,
        max_weight_ratio: float | None = None,
    ) -> None:
        super().__init__()
        in_range("weight_power", weight_power, 0, 2)
        self.label_smoothing = in_range("label_smoothing", label_smoothing, 0, 1)
        if max_weight_ratio is not None:
            in_range("max_weight_ratio", max_weight_ratio, 1)
            if weight_power == 0:
                raise UserError(
                    f"loss.max_weight_ratio is {max_weight_ratio:g}, but with loss.weight_power=0 there are no weights "
                    f"to limit. Leave it out, or give loss.weight_power."
                )
        self.weighs_classes = weight_power > 0 and max_weight_ratio != 1
        self.register_buffer("weight", inverse_power(class_counts, weight_power, max_weight_ratio))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        log_p = log_probabilities(logits)
        t = as_distribution(target, log_p)
        smoothed = t * (1 - self.label_smoothing) + self.label_smoothing / t.shape[1]
        return -(smoothed * self.weight * log_p).sum() / (t * self.weight).sum()
