"""AudioCNNv3: residual, with channel attention, and quicker than AudioCNNv2 at about its size."""

import torch
from torch import Tensor, nn

from birdclf.checks import whole
from birdclf.models.blocks import dropout_layer, scaled
from birdclf.models.head import classifier_layer
from birdclf.models.pooling import pooling_layer
from birdclf.models.residual import ResidualBlock

CHANNELS = (32, 48, 128, 256, 320)  # of the stem, and of each stage


class AudioCNNv3(nn.Module):
    """A strided stem, four stages of residual blocks, a pool that attends to places, one linear layer.

    AudioCNNv2 spends most of its time moving the 64 full-size maps of its first layer through memory. Here the stem
    halves both axes and has half the channels, and maps are halved again before every stage but the first. The stem
    also sees how high each band lies, for a convolution treats all alike.

    Args:
        num_classes: K.
        in_channels: Channels of the features.
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
        scale: Of the cosine head's logits; None for 30.

    Raises:
        UserError: If a knob is out of range.
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
        stem, *stages = (scaled(channels, width) for channels in CHANNELS)
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
        self.pool = pooling_layer(pooling, before)
        self.classifier = nn.Sequential(dropout_layer(dropout), classifier_layer(head, before, num_classes, scale))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, in_channels, F, T)`` to logits ``(B, K)``."""
        if self.heights:
            x = with_heights(x)
        logits: Tensor = self.classifier(self.pool(self.blocks(self.stem(x))))
        return logits


def with_heights(x: Tensor) -> Tensor:
    """Return ``(B, C, F, T)`` with a channel more: the height of each band, from -1 at the lowest to 1."""
    rows = torch.linspace(-1.0, 1.0, x.shape[2], dtype=x.dtype, device=x.device)
    return torch.cat([x, rows[:, None].expand(x.shape[0], 1, x.shape[2], x.shape[3])], dim=1)
