"""tau-normalisation: a trained output layer whose rows are made of more equal length."""

import torch
from torch import Tensor, nn

from birdclf.errors import UserError
from birdclf.models.head import CosineLinear

TAUS = tuple(round(0.05 * i, 2) for i in range(21))
"""What is tried where tau is to be tuned on validation."""


def tau_logits(logits: Tensor, layer: nn.Module, tau: float) -> Tensor:
    """Return the logits of the layer with rows ``w_k / |w_k|^tau`` and no bias (Kang et al., 2020, equations 4 and 5).

    Frequent classes win by longer rows; tau 1 makes all equally long, tau 0 only drops the bias. Logits are linear in the
    rows, so that those of any tau follow from the ones that a network gave, also where they are means over windows.

    Args:
        logits: ``(B, K)`` of the layer as it was trained.
        layer: A linear layer of K outputs.
        tau: Exponent, in [0, 1].

    Raises:
        UserError: If ``tau`` is out of range, or the layer's rows have no length that counts.
    """
    weight, bias = _parts(layer, tau)
    plain = logits if bias is None else logits - bias.to(logits)
    return plain / _lengths(weight).pow(tau).to(logits)


@torch.no_grad()
def tau_normalise(layer: nn.Module, tau: float) -> None:
    """Make the rows of a linear layer ``w_k / |w_k|^tau`` and its bias 0, in place.

    Raises:
        UserError: As :func:`tau_logits`.
    """
    weight, bias = _parts(layer, tau)
    weight /= _lengths(weight).pow(tau)[:, None]
    if bias is not None:
        bias.zero_()


def _parts(layer: nn.Module, tau: float) -> tuple[Tensor, Tensor | None]:
    if isinstance(tau, bool) or not 0 <= tau <= 1:
        raise UserError(f"posthoc.tau is {tau}; it must lie between 0 and 1.")
    if isinstance(layer, CosineLinear):
        raise UserError("posthoc=tau_norm: the rows of a cosine head are of one length already. Use model.head=linear.")
    if not isinstance(layer, nn.Linear):
        raise UserError(f"posthoc=tau_norm needs a linear output layer; this one is a {type(layer).__name__}.")
    return layer.weight.detach(), None if layer.bias is None else layer.bias.detach()


def _lengths(weight: Tensor) -> Tensor:
    """Return the length of each row ``(K,)``; a row of zeros keeps its zeros whatever it is divided by."""
    lengths = weight.norm(dim=1)
    return torch.where(lengths > 0, lengths, torch.ones_like(lengths))
