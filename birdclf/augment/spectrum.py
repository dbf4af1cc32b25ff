"""Power of mel bands as power of a sound: what a signal-to-noise ratio is a ratio of."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from birdclf.features.representation import Representation

LOWEST_DB: Final = -100.0
"""Power of digital silence, as the features see it."""


class Spectrum(nn.Module):
    """Centres and widths of mel bands, and what white noise is in them.

    A click has the same power at every frequency: its loudest frame shows how bands weigh it, whatever area the
    filters have and whatever was done to the sound before. The power of a sound is the sum over bands of power over
    that of white noise, times width.

    Attributes:
        centres_hz: ``(M,)``.
        share: ``(M,)`` width of each band over that of all.
        white: ``(M,)`` power of white noise of unit power.

    Args:
        features: Feature module whose bands they are.
    """

    centres_hz: Tensor
    share: Tensor
    white: Tensor

    def __init__(self, features: Representation) -> None:
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
        """Return the mean power of windows ``(R,)``, of power by band ``(R, M, T)``."""
        return power.mean(dim=2) @ (self.share / self.white)

    def noise(self, exponent: Tensor) -> Tensor:
        """Return noise of unit power ``(R, M)`` whose power a Hz falls as ``f ** -exponent``, of ``(R,)`` exponents."""
        density = torch.pow(self.centres_hz / 1000, -exponent[:, None])
        return self.white * density / (density @ self.share)[:, None]


def floor_db(db: Tensor, top_db: float) -> Tensor:
    """Return where features would clip each window ``(R, 1, 1)``, of power ``(R, M, T)``, in dB."""
    return (db.amax(dim=(1, 2), keepdim=True) - top_db).clamp_min(LOWEST_DB)


def to_power_(db: Tensor) -> Tensor:
    """Return power of dB, in its memory."""
    return db.mul_(math.log(10) / 10).exp_()


def to_db_(power: Tensor) -> Tensor:
    """Return power in dB, in its memory, never lower than features go."""
    return power.clamp_min_(10 ** (LOWEST_DB / 10)).log10_().mul_(10.0)
