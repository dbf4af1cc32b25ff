"""Power of mel bands as power of a sound: what a signal-to-noise ratio is a ratio of."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from birdclf.features.mfcc import MFCCStack

LOWEST_DB: Final = -100.0
"""Power of digital silence, as the features see it."""


class Spectrum(nn.Module):
    """Centres and widths of mel bands.

    Filters have unit area (Slaney), so that a band holds power a Hz and white noise is flat. The power of a sound is
    the sum over bands of this density times width.

    Attributes:
        centres_hz: ``(M,)``.
        share: ``(M,)`` width of each band over that of all.

    Args:
        features: Feature module whose bands they are.
    """

    centres_hz: Tensor
    share: Tensor

    def __init__(self, features: MFCCStack) -> None:
        super().__init__()
        centres_hz = features.centres_hz.detach().double().cpu()
        (width,) = torch.gradient(centres_hz)
        self.register_buffer("centres_hz", centres_hz.float().clamp_min(1.0), persistent=False)
        self.register_buffer("share", (width / width.sum()).float(), persistent=False)

    def mean_power(self, power: Tensor) -> Tensor:
        """Return the mean power of windows ``(R,)``, of density ``(R, M, T)``."""
        return power.mean(dim=2) @ self.share


def floor_db(db: Tensor, top_db: float) -> Tensor:
    """Return where features would clip each window ``(R, 1, 1)``, of power ``(R, M, T)``, in dB."""
    return (db.amax(dim=(1, 2), keepdim=True) - top_db).clamp_min(LOWEST_DB)


def to_power_(db: Tensor) -> Tensor:
    """Return power of dB, in its memory."""
    return db.mul_(math.log(10) / 10).exp_()


def to_db_(power: Tensor) -> Tensor:
    """Return power in dB, in its memory, never lower than features go."""
    return power.clamp_min_(10 ** (LOWEST_DB / 10)).log10_().mul_(10.0)
