"""Residual blocks (He et al., 2016) with squeeze and excitation, and their stochastic depth."""

import torch
from torch import Tensor, nn

from birdclf.errors import UserError
from birdclf.models.blocks import ConvBlock

REDUCTION = 8  # channels of a block to those that its excitation is computed from


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ``(B, I, F, T)`` to ``(B, O, F, T)``.

    Convolutions are whole ones: on a CPU the gradient of depthwise ones is bound by memory, at a tenth of their rate.

    Args:
        channels_in: I.
        channels_out: O.
        excite: Weigh channels by a squeeze-and-excitation of the second convolution's output.
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
    """Weights channels by a gate computed from their means (Hu et al., 2018, equations 2 to 4).

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(4, channels // REDUCTION)
        self.gate = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, channels), nn.Sigmoid()
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Weigh ``(B, C, F, T)``."""
        gate: Tensor = self.gate(x.mean(dim=(2, 3)))
        return x * gate[:, :, None, None]


class DropPath(nn.Module):
    """Sets the branch of a residual block to 0 for some recordings in training (Huang et al., 2016).

    What is kept is enlarged, so that its expectation is that of evaluation.

    Args:
        p: Share of recordings, in [0, 1).

    Raises:
        UserError: If ``p`` is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"model.drop_path is {p}; it must be at least 0 and below 1.")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop rows of ``(B, ...)``."""
        if not self.training or not self.p:
            return x
        kept = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.p)
        return x * kept.div_(1 - self.p)
