"""Per-channel energy normalisation of mel bands (Wang et al., 2017; Lostanlen et al., 2019)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Final

import torch
from torch import Tensor

from birdclf.checks import require
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Analysis
from birdclf.features.spectrum import CHUNK_FRAMES, decibels

SCALE: Final = 2.0**30
"""Scales power to that of 16-bit integers, so ``eps`` is below the noise of any recorder."""
LOUDEST: Final = 1e30
"""Limit of the scaled power, far above full scale, that prevents an overflow of float32."""
LEAST: Final = 1e-2
"""Least value of a band at its mean level; float16 represents it, and values 1,000 times smaller, with 10 bits."""


class PCEN(MelFeatures):
    """PCEN of a window: waveform to normalised mel bands, and those to ``(C, n_mels, frames)``.

    With power E of a mel band and its mean M over the past, ``M(t) = (1 - b) M(t - 1) + b E(t)``, a band is
    ``(E / (eps + M)^gain + bias)^power - bias^power`` (Wang et al., 2017, equations 1 and 2). The mean starts at the
    recording's first frame, and the result is stored instead of E: a mean that started at a window's first frame would
    depend on the window for several time constants. So another ``gain``, ``bias``, ``power``, ``time_constant_s`` or
    ``eps`` needs another store. Values agree with ``librosa.pcen`` of a spectrogram scaled by 2^30, with its filter
    starting at the first frame.

    The arguments are those of :class:`MelFeatures` and five more: ``gain`` (exponent of the mean level, above 0, at
    most 1), ``bias`` (level below which bands are linear instead of compressed, 0 or more), ``power`` (exponent of the
    compression, above 0, at most 1, which is none), ``time_constant_s`` (of the mean, in seconds) and ``eps`` (added to
    the mean, in units of power of samples times 2^30).

    Raises:
        UserError: If a size is out of range, a window is not a whole number of frames, or values would not fit float16.
    """

    stored_as: ClassVar[str] = "pcen-1"

    smoother: Tensor
    decay: Tensor

    def __init__(
        self,
        sample_rate_hz: int = 32_000,
        window_s: float = 5.0,
        hop: int = 320,
        n_fft: int = 1024,
        n_mels: int = 128,
        f_min_hz: float = 50.0,
        f_max_hz: float = 16_000.0,
        gain: float = 0.98,
        bias: float = 2.0,
        power: float = 0.5,
        time_constant_s: float = 0.4,
        eps: float = 1e-6,
        channels: Sequence[str] = ("static",),
        delta_width: int | None = None,
        padding: str = "repeat",
    ) -> None:
        super().__init__(
            sample_rate_hz=sample_rate_hz, window_s=window_s, hop=hop, n_fft=n_fft, n_mels=n_mels, channels=channels,
            delta_width=delta_width, padding=padding, f_min_hz=f_min_hz, f_max_hz=f_max_hz,
        )  # fmt: skip
        require(0 < gain <= 1, "features.gain", gain, "above 0, at most 1")
        require(0 <= bias < math.inf, "features.bias", bias, "0 or more")
        require(0 < power <= 1, "features.power", power, "above 0, at most 1")
        require(0 < time_constant_s < math.inf, "features.time_constant_s", time_constant_s, "above 0 s")
        require(0 < eps < math.inf, "features.eps", eps, "above 0")
        self.gain, self.bias, self.power, self.eps = float(gain), float(bias), float(power), float(eps)
        self.settings |= {
            "f_min_hz": float(f_min_hz), "f_max_hz": float(f_max_hz), "gain": self.gain, "bias": self.bias,
            "power": self.power, "time_constant_s": float(time_constant_s), "eps": self.eps,
        }  # fmt: skip
        frames = time_constant_s * sample_rate_hz / hop
        share = (math.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)  # b; 3 dB at the time constant, as in librosa
        ago = torch.arange(CHUNK_FRAMES)[:, None] - torch.arange(CHUNK_FRAMES)
        weights = share * (1 - share) ** ago.clamp_min(0).double()
        self.register_buffer("smoother", torch.where(ago >= 0, weights, 0).float(), persistent=False)
        decay = (1 - share) ** (1 + torch.arange(CHUNK_FRAMES, dtype=torch.float64))
        self.register_buffer("decay", decay.float()[:, None], persistent=False)
        self._check_range(share)

    @torch.no_grad()
    def analyse_blocks(self, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield the result of :meth:`analyse` in parts, in bounded memory, from blocks ``(samples,)`` float32."""
        held: Analysis | None = None
        mean: Tensor | None = None
        for piece in self._powers(blocks):
            for power in torch.split(piece, CHUNK_FRAMES):
                energy = (power[:, :-1] * SCALE).clamp_max_(LOUDEST)  # (frames, n_mels)
                means = self._means(energy, energy[:1] if mean is None else mean)
                mean = means[-1:]
                bands = self._compressed(energy * (self.eps + means) ** -self.gain).T
                now = Analysis(bands, decibels(power[:, -1].clone()))
                if held is not None:
                    yield held
                held = now
        if held is not None and len(held.level_db) > 1:  # the last frame of a centred transform is cropped
            yield Analysis(held.bands[:, :-1], held.level_db[:-1])

    def analyse_windows(self, waveforms: Tensor) -> Tensor:
        """Return the stored bands ``(B, n_mels, frames)`` of windows ``(B, samples)``, each as a whole recording."""
        energy = (self._window_power(waveforms)[..., :-1] * SCALE).clamp(max=LOUDEST)  # (B, frames + 1, n_mels)
        mean, parts = energy[:, :1], []
        for part in torch.split(energy, CHUNK_FRAMES, dim=1):
            parts.append(self._means(part, mean))
            mean = parts[-1][:, -1:]
        bands = self._compressed(energy * (self.eps + torch.cat(parts, dim=1)) ** -self.gain)
        return bands[:, : self.frames].transpose(1, 2)

    def _means(self, energy: Tensor, before: Tensor) -> Tensor:
        """Return the mean over the past of energy ``(..., T, n_mels)``, continuing a mean ``(..., 1, n_mels)``."""
        n = energy.shape[-2]
        means: Tensor = self.smoother[:n, :n] @ energy + self.decay[:n] * before
        return means

    def to_db(self, bands: Tensor) -> Tensor:
        """Return power by mel band relative to its mean, ``E / (eps + M)^gain``, in dB ``(..., n_mels, T)``."""
        bands = bands.float().clamp_min(0)
        if not self.bias:
            return decibels(bands ** (1 / self.power))
        return decibels(self.bias * torch.expm1(torch.log1p(bands / self.bias**self.power) / self.power))

    def from_db(self, db: Tensor) -> Tensor:
        """Return stored bands ``(..., n_mels, T)`` of power relative to its mean, in dB."""
        return self._compressed(10 ** (db.float() / 10))

    def _compressed(self, relative: Tensor) -> Tensor:
        """Return ``(relative + bias)^power - bias^power``, exact for small values, within float16."""
        if self.bias:
            values: Tensor = torch.expm1(self.power * torch.log1p(relative / self.bias)) * self.bias**self.power
        else:
            values = relative**self.power
        return torch.clamp(values, max=torch.finfo(torch.float16).max)

    def _check_range(self, share: float) -> None:
        """Refuse settings with which full-scale sound overflows float16, or sound at its mean level underflows."""
        loudest = SCALE * float(self.banks.max()) * self.n_fft * float(self.window.square().sum())  # by Parseval
        most = loudest ** (1 - self.gain) / share**self.gain  # the mean is at least b times the current energy
        if self.bias:
            high, low = ((x + self.bias) ** self.power - self.bias**self.power for x in (most, 1.0))
        else:
            high, low = most**self.power, 1.0
        require(
            high < torch.finfo(torch.float16).max and low > LEAST,
            "features.gain, bias and power",
            (self.gain, self.bias, self.power),
            f"such that the store's float16 holds the bands: sound at its mean level gives {low:.3g}, which has to be "
            f"more than {LEAST:g}, and the loudest onset {high:.3g}, which has to be less than 65504; "
            f"try a gain nearer to 1 or a smaller power or bias",
        )
