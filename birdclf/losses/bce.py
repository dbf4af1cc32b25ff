"""Binary cross-entropy of sets of labels, with weights of positives or logit adjustment."""

from torch import Tensor
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.losses.base import in_range
from birdclf.losses.sets import SetLoss

USUAL_MAX_WEIGHT = 100.0


class BCE(SetLoss):
    """``-w_j t log p - (1 - t) log(1 - p)``, p = sigmoid(z + tau log(pi_j / (1 - pi_j))).

    pi_j is the share of train examples that have class j (Menon et al., 2021, equation 10, for each class against its
    absence). Training monitors z alone, by which classes compare as if each were heard in every second example; the
    run's probabilities have the added term. Smoothed targets are ``t = (1 - e) y + e / 2``.

    Attributes:
        positive_weight: ``(K,)`` buffer w, ``(1 / pi_j - 1) ** weight_power``, ``max_weight`` at most.
        offset: ``(K,)`` buffer, ``tau log(pi_j / (1 - pi_j))``.

    Args:
        class_counts: ``(K,)`` train examples that have each class; 0 counts as 1.
        examples: Train examples in all.
        weight_power: 0 for no weights, 1 for positives that weigh as much as negatives; 0 to 2.
        max_weight: Largest weight, at least 1; None for 100.
        tau: Strength of the prior, 0 or more.
        label_smoothing: e, in [0, 1].
        negative_weight: See :class:`SetLoss`.

    Raises:
        UserError: If an argument is out of range, ``max_weight`` is given without weights, or ``tau`` with them.
    """

    positive_weight: Tensor
    offset: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        examples: int,
        weight_power: float = 0.0,
        max_weight: float | None = None,
        tau: float = 0.0,
        label_smoothing: float = 0.0,
        negative_weight: float = 1.0,
    ) -> None:
        super().__init__(negative_weight)
        self.weighs_classes = in_range("weight_power", weight_power, 0, 2) > 0
        self.corrects_prior = in_range("tau", tau, 0) > 0
        self.label_smoothing = in_range("label_smoothing", label_smoothing, 0, 1)
        if max_weight is not None and not self.weighs_classes:
            raise UserError(
                f"loss.max_weight is {max_weight}, but with loss.weight_power=0 there are no weights to limit. Leave "
                f"it out, or give loss.weight_power."
            )
        if self.weighs_classes and self.corrects_prior:
            raise UserError(
                f"loss.weight_power is {weight_power:g} and loss.tau is {tau:g}; both correct for the class counts, "
                f"so that rare classes are favoured twice. Set one of them to 0."
            )
        limit = USUAL_MAX_WEIGHT if max_weight is None else in_range("max_weight", max_weight, 1)
        odds = class_counts.double().clamp_min(1) / (examples - class_counts.double()).clamp_min(1)
        self.register_buffer("positive_weight", (odds**-weight_power).clamp_max(limit).float())
        self.register_buffer("offset", (tau * odds.log()).float())

    @property
    def prior_logits(self) -> Tensor | None:
        """The offset, where there is one."""
        return self.offset if self.corrects_prior else None

    def terms(self, z: Tensor, heard: Tensor) -> Tensor:
        """Return the loss ``(B, K)`` of each class alone."""
        t = heard.to(z.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            z + self.offset, t, pos_weight=self.positive_weight, reduction="none"
        )
