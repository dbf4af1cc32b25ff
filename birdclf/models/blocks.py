"""Layers that the networks share."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import conv2d

from birdclf.checks import fraction, require

FEWEST_CHANNELS = 16  # below, copying the shifted input costs more than the products save
ROWS_AN_IMAGE = 512  # least positions of an image for which one product per image is faster than one for all images


class Conv3x3(nn.Conv2d):
    """3x3 convolution with bias, stride 1 and padding 1: ``(B, I, F, T)`` to ``(B, O, F, T)``.

    On a CPU with AVX2 and no AVX-512, oneDNN computes the weight's gradient of channels-last float32 tensors at a
    third to a half of the rate of a matrix product. There it is computed as matrix products instead, exact up to the
    order of the sums. Everywhere else this is ``nn.Conv2d``.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve."""
        if self.weight.requires_grad and torch.is_grad_enabled() and products_are_quicker(input):
            output: Tensor = _ByProducts.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return output
        return super().forward(input)


def products_are_quicker(x: Tensor) -> bool:
    """Return whether the weight's gradient for an input ``(B, I, F, T)`` is faster as matrix products.

    It depends on device, type, layout and shape alone, not on a measurement, so runs are reproducible.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] >= FEWEST_CHANNELS
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Return the gradient of a 3x3 convolution's weight, padding 1, as products of matrices.

    Tap ``(i, j)`` of the weight multiplies, at each position of the output, the input shifted by ``(i - 1, j - 1)``.
    Shifts along time are copied side by side, those along frequency are other rows of the same matrix; rows beyond an
    edge are zeros and are left out, which for images one row high is two thirds of the work.

    Args:
        x: ``(B, I, F, T)`` input, channels last.
        grad: ``(B, O, F, T)`` gradient of the output, channels last.

    Returns:
        ``(O, I, 3, 3)``.
    """
    batch, channels_in, height, width = x.shape
    channels_out = grad.shape[1]
    apart = height * width >= ROWS_AN_IMAGE
    order = (0, 2, 3, 1) if apart else (2, 0, 3, 1)  # frequency first: a shift along it is a shift of one long matrix
    shifted = _beside_each_other(x.permute(order))
    grads = grad.permute(order)
    if apart:
        matrices, row = (batch, height * width), width
    else:
        matrices, row = (1, height * batch * width), batch * width
    shifted, grads = shifted.reshape(*matrices, 3 * channels_in), grads.reshape(*matrices, channels_out)
    taps = x.new_zeros(3, 3 * channels_in, channels_out)
    for i in range(3):
        low, high = max(0, 1 - i), min(height, height + 1 - i)  # rows whose neighbour i - 1 below exists
        if low < high:
            inputs = shifted[:, (low + i - 1) * row : (high + i - 1) * row]
            outputs = grads[:, low * row : high * row]
            if apart:
                torch.sum(torch.bmm(inputs.transpose(1, 2), outputs), dim=0, out=taps[i])
            else:
                torch.mm(inputs[0].t(), outputs[0], out=taps[i])
    return taps.view(3, 3, channels_in, channels_out).permute(3, 2, 0, 1)


def _beside_each_other(rows: Tensor) -> Tensor:
    """Return ``(.., .., T, I)`` as ``(.., .., T, 3, I)``: left neighbour, itself and right neighbour along T."""
    a, b, width, channels = rows.shape
    out = rows.new_empty(a, b, width, 3, channels)
    out[:, :, :, 1] = rows
    out[:, :, 1:, 0], out[:, :, 0, 0] = rows[:, :, :-1], 0
    out[:, :, :-1, 2], out[:, :, -1, 2] = rows[:, :, 1:], 0
    return out


class _ByProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return conv2d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        grad = grad.contiguous(memory_format=torch.channels_last)
        back = None
        if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            back = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        return back, weight_gradient(x, grad), grad.sum(dim=(0, 2, 3))


class ConvBlock(nn.Module):
    """3x3 convolution (with bias), batch norm, ReLU and optional 2x2 max pooling.

    The pool comes before the ReLU. Both orders give the same values, since a maximum commutes with a monotone function,
    and this one applies the ReLU to a quarter of them. In evaluation without gradients the norm is folded into the
    convolution, which saves a pass over its output. The norm's mode decides that, not the block's: norm statistics are
    measured with everything else in evaluation.

    Args:
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


def scale_channels(channels: int, width: float) -> int:
    """Return a channel count times ``width``, rounded, at least 1.

    Raises:
        UserError: If ``width`` is not above 0.
    """
    fits = 0 < width < float("inf")
    require(fits, "model.width", width, "above 0 (1 is the published size, 0.5 half its channels)")
    return max(1, round(channels * width))


def dropout_layer(p: float) -> nn.Dropout:
    """Return a dropout layer.

    Raises:
        UserError: If ``p`` is not in [0, 1).
    """
    return nn.Dropout(fraction("model.dropout", p))


def initialise(network: nn.Module) -> None:
    """Draw convolutions by Kaiming (fan out; He et al., 2015, equation 14) and linear layers from N(0, 0.01)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
