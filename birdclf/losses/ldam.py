"""Label-distribution-aware margins with deferred re-weighting (Cao et al., 2019)."""

import torch
from torch import Tensor
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.losses.base import Loss, as_distribution, effective_number, float32_at_least, in_range

USUAL_SCALE = 30.0
USUAL_BETA = 0.99


class LDAM(Loss):
    """Cross-entropy with a margin ``scale * m_y`` on the true class's logit (Cao et al., 2019, equations 12 and 13).

    The margins ``m_j`` are proportional to ``n_j ** -1/4`` and are differences of cosines, so the logits have to be
    ``scale * cos``. From ``reweight_from`` on each term has its class-balanced weight (algorithm 1; Cui et al., 2019).
    With margin 0 and no re-weighting it is cross-entropy.

    Attributes:
        margin: ``(K,)`` buffer, in logits.
        weight: ``(K,)`` buffer of sum K, the weights after re-weighting starts.

    Args:
        class_counts: ``(K,)`` train recordings of each class; 0 counts as 1.
        max_margin: Margin of the rarest class, a difference of cosines, 0 to 2.
        scale: The cosine head's scale, above 0; None for 30, the head's default.
        reweight_from: Share of the epochs, 0 to 1, after which terms are weighted; None for never.
        beta: Of the weights, in [0, 1); None for 0.99. Only with re-weighting.

    Raises:
        UserError: If an argument is out of range, or beta is given without re-weighting.
    """

    margin: Tensor
    weight: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        max_margin: float = 0.5,
        scale: float | None = None,
        reweight_from: float | None = 0.8,
        beta: float | None = None,
    ) -> None:
        super().__init__()
        in_range("max_margin", max_margin, 0, 2)
        self.cosine_scale = USUAL_SCALE if scale is None else in_range("scale", scale, 0)
        if self.cosine_scale == 0:
            raise UserError("loss.scale is 0; it must be above 0, and is the cosine head's: set model.scale alone.")
        if reweight_from is not None:
            in_range("reweight_from", reweight_from, 0, 1)
        elif beta is not None:
            raise UserError(f"loss.beta is {beta}, but without loss.reweight_from there are no weights. Leave it out.")
        self.reweight_from, self.weighs_classes = reweight_from, reweight_from is not None
        self.reweighs = reweight_from == 0
        n = class_counts.double().clamp_min(1)
        self.register_buffer("margin", (self.cosine_scale * max_margin * (n.min() / n) ** 0.25).float())
        self.register_buffer("weight", effective_number(class_counts, USUAL_BETA if beta is None else beta))

    def begin_epoch(self, epoch: int, max_epochs: int) -> None:
        """Enable the weights from ``reweight_from`` on."""
        self.reweighs = self.reweight_from is not None and epoch / max_epochs >= self.reweight_from

    def cut_short(self, epochs: int, max_epochs: int) -> str | None:
        """Return a sentence on weights that were never used."""
        if self.reweight_from is None or (epochs - 1) / max_epochs >= self.reweight_from:
            return None
        return f"no epoch was weighted: loss.reweight_from is {self.reweight_from:g} of the epochs"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch; K is at least 2."""
        z = float32_at_least(logits)
        # -log p of class k is softplus(log sum_{j != k} exp z_j - z_k); a margin changes z_k only.
        terms = functional.softplus(_others(z) - z + self.margin)
        if self.reweighs:
            terms = terms * self.weight
        return (as_distribution(target, z) * terms).sum(dim=1).mean()


def _others(z: Tensor) -> Tensor:
    """Return ``log sum_{j != k} exp z_j`` for each class k, ``(B, K)``.

    It is ``log sum_j exp z_j + log(1 - p_k)``, which cancels where p_k is near 1. Only the largest logit can be that,
    so its sum is computed over the others.
    """
    top = functional.one_hot(z.argmax(dim=1), z.shape[1]).bool()
    of_top = z.masked_fill(top, -torch.inf).logsumexp(dim=1, keepdim=True)
    p = torch.softmax(z, dim=1).masked_fill(top, 0.0)
    return torch.where(top, of_top, z.logsumexp(dim=1, keepdim=True) + torch.log1p(-p))
