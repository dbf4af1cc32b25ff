"""AudioCNNv3: residual, with channel attention, and faster than AudioCNNv2 at about its size."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import avg_pool2d

from birdclf.checks import choice, fraction, whole
from birdclf.models.blocks import ConvBlock, dropout_layer, scale_channels
from birdclf.models.head import classifier_layer


class MeanPool(nn.Module):
    """The mean over frequency and time."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, F, T)`` to ``(B, C)``."""
        return x.mean(dim=(2, 3))


class MeanMaxPool(nn.Module):
    """The mean over frequency, then the sum of mean and maximum over time (Kong et al., 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, F, T)`` to ``(B, C)``."""
        rows = x.mean(dim=2)
        return rows.mean(dim=2) + rows.amax(dim=2)


class GeMPool(nn.Module):
    """The generalised mean with a learned exponent (Radenovic et al., 2019, equation 1), for values of at least 0."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, F, T)``, at least 0, to ``(B, C)``."""
        exponent = self.exponent.clamp(1.0, 8.0)
        with torch.autocast(x.device.type, enabled=False):
            return x.float().clamp_min(1e-6).pow(exponent).mean(dim=(2, 3)).pow(1 / exponent)


class AttentionPool(nn.Module):
    """A mean weighted by attention over positions, since a recording is silent for most of its time.

    Each of four groups of channels has its own weights, a softmax over all positions (Ilse et al., 2018, equation 7).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = next(groups for groups in (4, 2, 1) if channels % groups == 0)
        self.score = nn.Conv2d(channels, self.groups, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, F, T)`` to ``(B, C)``."""
        weights = self.score(x).flatten(2).softmax(dim=2)  # (B, G, F T)
        batch, _, height, width = x.shape
        places = x.permute(0, 2, 3, 1).reshape(batch, height * width, self.groups, -1)  # (B, F T, G, C / G)
        return torch.einsum("bgp,bpgc->bgc", weights, places).flatten(1)


POOLS: dict[str, Callable[[int], nn.Module]] = {
    "mean": lambda channels: MeanPool(),
    "mean_max": lambda channels: MeanMaxPool(),
    "gem": lambda channels: GeMPool(),
    "attention": AttentionPool,
}
"""Pooling layers ``(B, C, F, T)`` to ``(B, C)`` by name; the argument is C."""


REDUCTION = 8  # ratio of a block's channels to the hidden units of its excitation


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ``(B, I, F, T)`` to ``(B, O, F, T)``.

    Convolutions are not depthwise: on a CPU the gradient of depthwise ones is bound by memory, at a tenth of the rate.

    Args:
        excite: Apply squeeze-and-excitation to the second convolution's output.
        drop_path: Share of recordings for which the convolutions are skipped in training, in [0, 1).
    """

    def __init__(self, channels_in: int, channels_out: int, excite: bool = True, drop_path: float = 0.0) -> None:
        super().__init__()
        self.first = ConvBlock(channels_in, channels_out)
        self.second = ConvBlock(channels_out, channels_out, rectify=False)
        self.excite = Excitation(channels_out) if excite else nn.Identity()
        self.drop_path = DropPath(drop_path)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, I, F, T)`` to ``(B, O, F, T)``."""
        branch = self.drop_path(self.excite(self.second(self.first(x))))
        return torch.relu(self.shortcut(x) + branch)


class Excitation(nn.Module):
    """Weights channels by a gate computed from their means (Hu et al., 2018, equations 2 to 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        fewer = max(4, channels // REDUCTION)
        self.gate = nn.Sequential(nn.Linear(channels, fewer), nn.ReLU(), nn.Linear(fewer, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Weight ``(B, C, F, T)``."""
        learns = x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        means: Tensor = _ChannelMeans.apply(x) if learns else x.mean(dim=(2, 3))  # type: ignore[no-untyped-call]
        gate: Tensor = self.gate(means)
        return x * gate[:, :, None, None]


class _ChannelMeans(torch.autograd.Function):
    """Means over positions ``(B, C, F, T)`` to ``(B, C)``, whose gradient is not written out.

    torch's mean copies 16-bit values to 32 bits first, and writes its gradient out in the plain layout: adding that to
    a channels-last gradient takes three times as long as adding the ``(B, C)`` numbers themselves.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        ctx.size = x.shape  # type: ignore[attr-defined]
        return avg_pool2d(x, x.shape[2:]).flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        size: torch.Size = ctx.size  # type: ignore[attr-defined]
        return (grad / (size[2] * size[3]))[:, :, None, None].expand(size)


class DropPath(nn.Module):
    """Sets the branch of a residual block to 0 for some recordings in training (Huang et al., 2016).

    The others are scaled up, so the expectation is that of evaluation.

    Args:
        p: Share of recordings, in [0, 1).

    Raises:
        UserError: If ``p`` is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = fraction("model.drop_path", p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop rows of ``(B, ...)``."""
        if not self.training or not self.p:
            return x
        kept = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.p)
        return x * kept.div_(1 - self.p)


CHANNELS = (32, 48, 128, 256, 320)  # of the stem, and of each stage


class AudioCNNv3(nn.Module):
    """A strided stem, four stages of residual blocks, a pool that attends to places, one linear layer.

    AudioCNNv2 spends most of its time moving the 64 full-size maps of its first layer through memory. Here the stem
    halves both axes and has half the channels, and maps are halved again before every stage but the first. The stem
    also gets the height of each band, since a convolution treats all bands alike.

    Args:
        dropout: Share of the units dropped before the head in training, in [0, 1).
        drop_path: Largest share of recordings for which a block is skipped in training, in [0, 1); it grows from 0 at
            the first block.
        width: Multiplies the channels of every layer.
        depth: Residual blocks a stage.
        stem_stride: Stride of the stem over time, 1 or more.
        excite: Squeeze and excitation in every block.
        heights: Give the stem the height of each band, from -1 to 1, as one more channel (Liu et al., 2018).
        pooling: ``mean``, ``mean_max``, ``gem`` or ``attention``.
        head: Last layer, ``linear`` or ``cosine``.
        scale: Scale of the cosine head's logits; None for 30.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.3,
        drop_path: float = 0.0,
        width: float = 1.0,
        depth: int = 1,
        stem_stride: int = 2,
        excite: bool = True,
        heights: bool = True,
        pooling: str = "attention",
        head: str = "linear",
        scale: float | None = None,
    ) -> None:
        super().__init__()
        whole("model.depth", depth, 1)
        whole("model.stem_stride", stem_stride, 1)
        self.heights = heights
        stem, *stages = (scale_channels(channels, width) for channels in CHANNELS)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels + heights, stem, (3, 5), (2, stem_stride), (1, 2), bias=False),
            nn.BatchNorm2d(stem),
            nn.MaxPool2d((1, 2), ceil_mode=True),  # before the ReLU, which it commutes with
            nn.ReLU(),
        )
        blocks: list[nn.Module] = []
        rates = torch.linspace(0.0, drop_path, len(stages) * depth).tolist()
        before = stem
        for i, channels in enumerate(stages):
            if i:
                blocks.append(nn.MaxPool2d(2, ceil_mode=True))
            for j in range(depth):
                blocks.append(ResidualBlock(channels if j else before, channels, excite, rates[i * depth + j]))
            before = channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = POOLS[choice("model.pooling", pooling, POOLS)](before)
        self.classifier = nn.Sequential(dropout_layer(dropout), classifier_layer(head, before, num_classes, scale))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, in_channels, F, T)`` to logits ``(B, K)``."""
        if self.heights:
            x = with_heights(x)
        logits: Tensor = self.classifier(self.pool(self.blocks(self.stem(x))))
        return logits


def with_heights(x: Tensor) -> Tensor:
    """Return ``(B, C, F, T)`` with one more channel: the height of each band, from -1 at the lowest to 1."""
    rows = torch.linspace(-1.0, 1.0, x.shape[2], dtype=x.dtype, device=x.device)
    return torch.cat([x, rows[:, None].expand(x.shape[0], 1, x.shape[2], x.shape[3])], dim=1)
