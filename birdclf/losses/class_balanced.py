"""Class-balanced loss (Cui et al., 2019)."""

from torch import Tensor

from birdclf.checks import choice
from birdclf.errors import UserError
from birdclf.losses.base import Loss, as_distribution, effective_number, in_range, log_probabilities
from birdclf.losses.focal import focal_terms

INSIDE = ("cross_entropy", "focal")
USUAL_GAMMA = 2.0


class ClassBalanced(Loss):
    """``w_y L(z, y)``, w the inverse effective number of recordings (Cui et al., 2019, equation 4); the batch's mean.

    With beta 0 it is L itself. A soft target sums the terms of its classes by their probability.

    Attributes:
        weight: ``(K,)`` buffer of sum K, proportional to ``(1 - beta) / (1 - beta^n_j)``.

    Args:
        class_counts: ``(K,)`` train recordings of each class.
        beta: Overlap of recordings, in [0, 1): ``1 / (1 - beta)`` is the limit of the effective number.
        inside: The loss L: ``cross_entropy`` or ``focal``.
        gamma: Focus of the focal loss, 0 or more; None for 2. Cross-entropy has none.

    Raises:
        UserError: If an argument is out of range, or gamma is given to cross-entropy.
    """

    weight: Tensor

    def __init__(
        self, class_counts: Tensor, beta: float = 0.99, inside: str = "cross_entropy", gamma: float | None = None
    ) -> None:
        super().__init__()
        choice("loss.inside", inside, INSIDE)
        if gamma is not None and inside != "focal":
            raise UserError(f"loss.gamma is {gamma}, but {inside} has none. Use loss.inside=focal, or leave it out.")
        focus = USUAL_GAMMA if gamma is None else in_range("gamma", gamma, 0)
        self.gamma = focus if inside == "focal" else 0.0
        self.weighs_classes = beta > 0
        self.register_buffer("weight", effective_number(class_counts, beta))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        log_p = log_probabilities(logits)
        t = as_distribution(target, log_p)
        return (t * self.weight * focal_terms(log_p, self.gamma)).sum(dim=1).mean()
