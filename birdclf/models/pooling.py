"""Ways from a map of features over frequency and time to one value a channel."""

import torch
from torch import Tensor, nn

from birdclf.errors import UserError


class MeanPool(nn.Module):
    """The mean over frequency and time.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, F, T)`` to ``(B, C)``."""
        return x.mean(dim=(2, 3))


class MeanMaxPool(nn.Module):
    """The mean over frequency, and of that the mean and the maximum over time added (Kong et al., 2020).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, F, T)`` to ``(B, C)``."""
        rows = x.mean(dim=2)
        return rows.mean(dim=2) + rows.amax(dim=2)


class GeMPool(nn.Module):
    """The generalised mean with a learned exponent (Radenovic et al., 2019, equation 1), for values from 0.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, F, T)``, at least 0, to ``(B, C)``."""
        exponent = self.exponent.clamp(1.0, 8.0)
        with torch.autocast(x.device.type, enabled=False):
            return x.float().clamp_min(1e-6).pow(exponent).mean(dim=(2, 3)).pow(1 / exponent)


class AttentionPool(nn.Module):
    """A mean weighted by attention to places: a recording is silent for most of its time.

    Each of four groups of channels has weights of its own, a softmax over all places (Ilse et al., 2018, equation 7).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = next(groups for groups in (4, 2, 1) if channels % groups == 0)
        self.score = nn.Conv2d(channels, self.groups, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, F, T)`` to ``(B, C)``."""
        weights = self.score(x).flatten(2).softmax(dim=2)  # (B, G, F T)
        places = x.reshape(x.shape[0], self.groups, -1, x.shape[2] * x.shape[3])  # (B, G, C / G, F T)
        return torch.einsum("bgp,bgcp->bgc", weights, places).flatten(1)


POOLS: dict[str, type[nn.Module]] = {
    "mean": MeanPool,
    "mean_max": MeanMaxPool,
    "gem": GeMPool,
    "attention": AttentionPool,
}


def pooling_layer(pooling: str, channels: int) -> nn.Module:
    """Return a layer that maps ``(B, channels, F, T)`` to ``(B, channels)``.

    Raises:
        UserError: If there is none of that name.
    """
    if pooling not in POOLS:
        raise UserError(f"model.pooling is {pooling!r}; it must be one of {', '.join(POOLS)}.")
    return POOLS[pooling](channels)
