"""Frames, power spectra and mel bands of a waveform."""

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from birdclf.errors import UserError

CHUNK_FRAMES: Final = 256
"""Frames that are transformed together: 2 MB, which fit the processor's cache."""


def frame_chunks(blocks: Iterable[Tensor], n_fft: int, hop: int, centred: bool = True) -> Iterator[Tensor]:
    """Yield overlapping chunks of a waveform, each of which holds whole frames of a transform.

    Args:
        blocks: Parts of the waveform of any length, each ``(samples,)``.
        n_fft: Samples per frame.
        hop: Samples from one frame to the next, at most ``n_fft``.
        centred: Whether the first frame is centred on the first sample; else it begins there.

    Yields:
        ``((frames - 1) * hop + n_fft,)`` samples, padded with zeros at both ends of the waveform; together
        ``samples // hop`` frames, and one more if they are centred.
    """
    kept = torch.zeros(n_fft // 2 if centred else 0)
    samples = done = 0
    for block in blocks:
        samples += len(block)
        kept = torch.cat([kept, block])
        while (frames := min((len(kept) - n_fft) // hop + 1, CHUNK_FRAMES)) > 0:
            yield kept[: (frames - 1) * hop + n_fft]
            kept, done = kept[frames * hop :], done + frames
    # Nothing is left if a frame is shorter than two hops and the last chunk was full.
    if rest := samples // hop + centred - done:
        yield functional.pad(kept, (0, (rest - 1) * hop + n_fft - len(kept)))


def pad_short(blocks: Iterable[Tensor], samples: int, padding: str) -> Iterator[Tensor]:
    """Yield a waveform of 1 sample or more, in blocks ``(n,)``, padded to ``samples`` by ``repeat`` or ``silence``."""
    short: Tensor | None = torch.empty(0)
    for block in blocks:
        if short is None:
            yield block
            continue
        short = torch.cat([short, block]) if len(short) else block
        if len(short) >= samples:
            yield short
            short = None
    if short is None:
        return
    if padding == "silence":
        yield functional.pad(short, (0, samples - len(short)))
    else:
        yield short.repeat(-(-samples // len(short)))[:samples]


class PowerSpectrum(nn.Module):
    """Power spectrum ``(..., n_fft // 2 + 1)`` of frames ``(..., n)``, zero-padded to ``n_fft`` samples."""

    def __init__(self, n_fft: int) -> None:
        super().__init__()
        self.n_fft = n_fft

    def forward(self, frames: Tensor) -> Tensor:
        """Return the power spectrum of each frame."""
        spectrum = torch.fft.rfft(frames, n=self.n_fft)
        power: Tensor = spectrum.real.square().add_(spectrum.imag.square())
        return power


class PowerByProducts(PowerSpectrum):
    """Power spectrum of frames of ``samples`` by matrix products, for export formats without an FFT."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, n_fft: int, samples: int) -> None:
        super().__init__(n_fft)
        turns = torch.outer(torch.arange(samples), torch.arange(n_fft // 2 + 1)) % n_fft  # integers, which are exact
        angle = turns.double() * (2 * math.pi / n_fft)
        self.register_buffer("cosines", angle.cos().float(), persistent=False)
        self.register_buffer("sines", angle.sin().float(), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the power spectrum of each frame."""
        power: Tensor = (frames @ self.cosines).square() + (frames @ self.sines).square()
        return power


BANDS_A_BLOCK: Final = 16
LEVEL_HZ: Final = (1_000, 10_000)
"""Frequency range of the level: most song, and little of wind and voices."""


def mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float) -> Tensor:
    """Return the filters ``(n_fft // 2 + 1, n_mels)`` of bands between two frequencies."""
    filters: Tensor = torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, f_min_hz, f_max_hz, n_mels, sample_rate_hz, norm="slaney", mel_scale="slaney"
    )
    return filters


def filled_mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float) -> Tensor:
    """Return :func:`mel_filters` without an empty band.

    Raises:
        UserError: If the frequencies are out of range, or a band contains no frequency of the transform.
    """
    nyquist_hz = sample_rate_hz / 2
    if not f_max_hz <= nyquist_hz:
        raise UserError(
            f"features.f_max_hz is {f_max_hz:g}, but sound at features.sample_rate_hz={sample_rate_hz} ends at "
            f"{nyquist_hz:g} Hz. Set features.f_max_hz={nyquist_hz:g} or lower, or raise features.sample_rate_hz."
        )
    if not 0 <= f_min_hz < f_max_hz:
        raise UserError(f"features.f_min_hz is {f_min_hz:g}; it must be 0 or more, and below f_max_hz={f_max_hz:g}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torchaudio warns of is refused below
        filters = mel_filters(sample_rate_hz, n_fft, n_mels, f_min_hz, f_max_hz)
    if empty := int((~filters.any(dim=0)).sum()):
        raise UserError(
            f"features.n_mels is {n_mels}: {empty} of the bands would be so narrow that no frequency of a transform of "
            f"features.n_fft={n_fft} samples lies in them. Choose fewer bands or a larger features.n_fft."
        )
    return filters


def level_filter(sample_rate_hz: int, n_fft: int, n_mels: int) -> Tensor:
    """Return the filter ``(n_fft // 2 + 1, 1)`` of the energy between 1 and 10 kHz, a sum of mel bands."""
    centres_hz = mel_centres_hz(sample_rate_hz, n_mels, 0.0, sample_rate_hz / 2)
    inside = torch.from_numpy((centres_hz >= LEVEL_HZ[0]) & (centres_hz <= LEVEL_HZ[1])).float()
    return mel_filters(sample_rate_hz, n_fft, n_mels, 0.0, sample_rate_hz / 2) @ inside.unsqueeze(1)


def mel_centres_hz(
    sample_rate_hz: int, n_mels: int, f_min_hz: float, f_max_hz: float
) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the centre of each mel band ``(n_mels,)`` in Hz, with a resolution of 1/8192 of the sample rate."""
    banks = torchaudio.functional.melscale_fbanks(
        n_freqs=4097, f_min=f_min_hz, f_max=f_max_hz, n_mels=n_mels, sample_rate=sample_rate_hz, mel_scale="slaney"
    )
    return np.asarray(banks.argmax(dim=0).numpy() * (sample_rate_hz / 2) / 4096, dtype=np.float64)


def decibels(power: Tensor) -> Tensor:
    """Convert power to dB, in place, at least -100."""
    return power.clamp_min_(1e-10).log10_().mul_(10)


def filled_blocks(filters: Tensor) -> list[tuple[slice, slice]]:
    """Return ranges of rows and columns that contain all nonzero values of ``(bins, bands)`` filters."""
    blocks = []
    for first in range(0, filters.shape[1], BANDS_A_BLOCK):
        bands = slice(first, first + BANDS_A_BLOCK)
        bins = filters[:, bands].any(dim=1).nonzero().flatten()  # none, where filters are narrower than a bin
        blocks.append((slice(int(bins[0]), int(bins[-1]) + 1) if len(bins) else slice(0, 1), bands))
    return blocks
