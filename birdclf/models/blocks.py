"""Pieces that the networks share."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from birdclf.errors import UserError
from birdclf.models.convolution import Conv3x3


class ConvBlock(nn.Module):
    """3x3 convolution (with bias), batch norm, ReLU and, if asked for, 2x2 max pooling.

    The pool comes before the ReLU. Both orders give the same values, since a maximum commutes with a monotone function,
    and this one applies the ReLU to a quarter of them. In evaluation without gradients the norm, then a fixed
    affine map of each channel, becomes part of the convolution, which saves a pass over its output. Whether that is so
    is told by the norm's mode, not the block's: statistics are measured anew with all else in evaluation.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        pool: Halve both axes.
        rectify: Apply the ReLU; the last convolution of a residual block leaves it to the sum.
    """

    def __init__(self, channels_in: int, channels_out: int, pool: bool = False, rectify: bool = True) -> None:
        super().__init__()
        self.rectify = rectify
        self.conv = Conv3x3(channels_in, channels_out)
        self.norm = nn.BatchNorm2d(channels_out)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels_in, F, T)`` to ``(B, channels_out, F, T)``, or half of F and T with the pool."""
        as_is = self.norm.training or torch.is_grad_enabled()
        normed = self.norm(self.conv(x)) if as_is else self._folded(x)
        pooled: Tensor = self.pool(normed)
        return torch.relu(pooled) if self.rectify else pooled

    def _folded(self, x: Tensor) -> Tensor:
        mean, var, bias = self.norm.running_mean, self.norm.running_var, self.conv.bias
        assert mean is not None and var is not None and bias is not None
        scale = self.norm.weight * torch.rsqrt(var + self.norm.eps)
        shift = self.norm.bias + (bias - mean) * scale
        return conv2d(x, self.conv.weight * scale[:, None, None, None], shift, padding=1)


def scaled(channels: int, width: float) -> int:
    """Return a channel count times ``width``, rounded, at least 1.

    Raises:
        UserError: If ``width`` is not above 0.
    """
    if not 0 < width < float("inf"):
        raise UserError(f"model.width is {width}; it must be above 0 (1 is the published size, 0.5 half its channels).")
    return max(1, round(channels * width))


def dropout_layer(p: float) -> nn.Dropout:
    """Return a dropout layer.

    Raises:
        UserError: If ``p`` is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise UserError(f"model.dropout is {p}; it must be at least 0 and below 1.")
    return nn.Dropout(p)


def initialise(network: nn.Module) -> None:
    """Draw convolutions by Kaiming (fan out; He et al., 2015, equation 14) and linear layers from N(0, 0.01)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
