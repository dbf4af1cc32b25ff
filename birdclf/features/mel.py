"""Filters that gather a power spectrum into mel bands (Slaney's scale, of unit area), as librosa's are by default."""

import warnings
from typing import Any, Final

import numpy as np
import torch
import torchaudio
from torch import Tensor

from birdclf.errors import UserError

BANDS_A_BLOCK: Final = 16
HEARD_HZ: Final = (1_000, 10_000)
"""What :func:`level_filter` takes in: most song, and little of wind and voices."""


def mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float) -> Tensor:
    """Return the filters ``(n_fft // 2 + 1, n_mels)`` of bands between two frequencies."""
    filters: Tensor = torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, f_min_hz, f_max_hz, n_mels, sample_rate_hz, norm="slaney", mel_scale="slaney"
    )
    return filters


def filled_mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float) -> Tensor:
    """Return :func:`mel_filters` of bands that all hear something.

    Raises:
        UserError: If the frequencies are out of range, or a band lies between two frequencies of the transform.
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
    if deaf := int((~filters.any(dim=0)).sum()):
        raise UserError(
            f"features.n_mels is {n_mels}: {deaf} of the bands would be so narrow that no frequency of a transform of "
            f"features.n_fft={n_fft} samples lies in them. Choose fewer bands or a larger features.n_fft."
        )
    return filters


def level_filter(sample_rate_hz: int, n_fft: int, n_mels: int) -> Tensor:
    """Return the filter ``(n_fft // 2 + 1, 1)`` of the energy between 1 and 10 kHz, a sum of mel bands."""
    centres_hz = mel_centres_hz(sample_rate_hz, n_mels, 0.0, sample_rate_hz / 2)
    heard = torch.from_numpy((centres_hz >= HEARD_HZ[0]) & (centres_hz <= HEARD_HZ[1])).float()
    return mel_filters(sample_rate_hz, n_fft, n_mels, 0.0, sample_rate_hz / 2) @ heard.unsqueeze(1)


def mel_centres_hz(
    sample_rate_hz: int, n_mels: int, f_min_hz: float, f_max_hz: float
) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the centre of each mel band ``(n_mels,)``, in Hz, to 1/8192 of the sample rate."""
    banks = torchaudio.functional.melscale_fbanks(
        n_freqs=4097, f_min=f_min_hz, f_max=f_max_hz, n_mels=n_mels, sample_rate=sample_rate_hz, mel_scale="slaney"
    )
    return np.asarray(banks.argmax(dim=0).numpy() * (sample_rate_hz / 2) / 4096, dtype=np.float64)


def decibels(power: Tensor) -> Tensor:
    """Return power in dB, at least -100; the memory of ``power`` is used for it."""
    return power.clamp_min_(1e-10).log10_().mul_(10)


def filled_blocks(filters: Tensor) -> list[tuple[slice, slice]]:
    """Return ranges of rows and columns that hold all values of ``(bins, bands)`` filters that are not zero."""
    blocks = []
    for first in range(0, filters.shape[1], BANDS_A_BLOCK):
        bands = slice(first, first + BANDS_A_BLOCK)
        bins = filters[:, bands].any(dim=1).nonzero().flatten()  # none, where filters are narrower than a bin
        blocks.append((slice(int(bins[0]), int(bins[-1]) + 1) if len(bins) else slice(0, 1), bands))
    return blocks
