"""Power of a sound from the power of its mel bands, for signal-to-noise ratios."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from birdclf.features.mel import MelFeatures

LOWEST_DB: Final = -100.0
"""Power of digital silence in the features."""


class Spectrum(nn.Module):
    """Centres and widths of mel bands, and the power of white noise in them.

    A click has the same power at every frequency, so its loudest frame measures the weight of each band, including the
    area of its filter and all preprocessing. The power of a sound is the sum over bands of power over that of white
    noise, times width.

    Attributes:
        centres_hz: ``(M,)``.
        share: ``(M,)`` width of each band over the total.
        white: ``(M,)`` band powers of white noise of unit power.
    """

    centres_hz: Tensor
    share: Tensor
    white: Tensor

    def __init__(self, features: MelFeatures) -> None:
        super().__init__()
        centres_hz = features.centres_hz.detach().double().cpu()
        width = torch.gradient(centres_hz)[0] if len(centres_hz) > 1 else torch.ones_like(centres_hz)
        click = torch.zeros(features.frames * features.hop)
        click[features.frames // 2 * features.hop] = 1.0
        db = features.to_db(features.analyse(click).bands).double()
        white = 10 ** (db[:, db.mean(dim=0).argmax()] / 10)
        self.register_buffer("centres_hz", centres_hz.float().clamp_min(1.0), persistent=False)
        self.register_buffer("share", (width / width.sum()).float(), persistent=False)
        self.register_buffer("white", (white / white.mean()).float(), persistent=False)

    def mean_power(self, power: Tensor) -> Tensor:
        """Return the mean power of windows ``(R,)`` from power by band ``(R, M, T)``."""
        return power.mean(dim=2) @ (self.share / self.white)

    def noise(self, exponent: Tensor) -> Tensor:
        """Return noise of unit power ``(R, M)`` with a power density of ``f ** -exponent``, for ``(R,)`` exponents."""
        density = torch.pow(self.centres_hz / 1000, -exponent[:, None])
        return self.white * density / (density @ self.share)[:, None]


def floor_db(db: Tensor, top_db: float) -> Tensor:
    """Return the level in dB ``(R, 1, 1)`` at which features clip each window, from power ``(R, M, T)`` in dB."""
    return (db.amax(dim=(1, 2), keepdim=True) - top_db).clamp_min(LOWEST_DB)


def to_power_(db: Tensor) -> Tensor:
    """Convert dB to power, in place."""
    return db.mul_(math.log(10) / 10).exp_()


def to_db_(power: Tensor) -> Tensor:
    """Convert power to dB, in place, at least ``LOWEST_DB``."""
    return power.clamp_min_(10 ** (LOWEST_DB / 10)).log10_().mul_(10.0)
