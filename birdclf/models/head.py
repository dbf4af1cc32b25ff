"""Last layer of a network: features of a recording to one logit per class."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from birdclf.checks import above, choice
from birdclf.errors import UserError

HEADS = ("linear", "cosine")
USUAL_SCALE = 30.0


class CosineLinear(nn.Module):
    """Logits ``scale * cos(x, w_k)`` without a bias (Wang et al., 2018, equation 3).

    The weights of all classes have length 1, so frequent classes have no advantage by longer ones.

    Args:
        scale: Largest magnitude of a logit, above 0.

    Raises:
        UserError: If ``scale`` is not above 0.
    """

    def __init__(self, in_features: int, num_classes: int, scale: float = USUAL_SCALE) -> None:
        super().__init__()
        above("model.scale", scale, 0)
        self.in_features, self.out_features, self.scale = in_features, num_classes, float(scale)
        self.weight = nn.Parameter(functional.normalize(torch.randn(num_classes, in_features)))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, D)`` to logits ``(B, K)`` in [-scale, scale]; a row of zeros gives zeros."""
        # Norms in float32: squares overflow float16 from 256 on.
        directions = functional.normalize(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)
        return self.scale * functional.linear(directions, functional.normalize(self.weight))


def classifier_layer(
    head: str, in_features: int, num_classes: int, scale: float | None = None
) -> nn.Linear | CosineLinear:
    """Return a last layer, ``(B, in_features)`` to logits ``(B, num_classes)``.

    Args:
        head: ``linear`` or ``cosine``.
        in_features: D.
        num_classes: K.
        scale: Scale of the cosine head's logits; None for 30. A linear head has none.

    Raises:
        UserError: If the head is unknown, or a scale is out of range or given to a linear head.
    """
    choice("model.head", head, HEADS)
    if head == "cosine":
        return CosineLinear(in_features, num_classes, USUAL_SCALE if scale is None else scale)
    if scale is not None:
        raise UserError(
            f"model.scale is {scale}, but a linear head has no scale. Use model.head=cosine, or leave it out."
        )
    return nn.Linear(in_features, num_classes)


def output_layer(network: nn.Module, num_classes: int | None = None) -> nn.Linear | CosineLinear:
    """Return the last layer of a network, by the order in which its layers are registered.

    Args:
        network: Any network.
        num_classes: K, to skip layers of another width; None takes the last layer.

    Raises:
        UserError: If it has no such layer.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | CosineLinear)]
    fitting = [layer for layer in layers if num_classes in (None, layer.out_features)]
    if not fitting:
        width = "" if num_classes is None else f" of {num_classes} outputs"
        raise UserError(f"model: {type(network).__name__} has no linear layer{width} at its end. Choose another model.")
    return fitting[-1]
