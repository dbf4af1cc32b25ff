"""A waveform that arrives in blocks, cut into stretches for a short-time Fourier transform."""

from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

FRAMES_A_STRETCH: Final = 256
"""Spectra that are computed together: 2 MB, which stays in a processor's cache."""


def framed(blocks: Iterable[Tensor], n_fft: int, hop: int, centred: bool = True) -> Iterator[Tensor]:
    """Yield stretches of a waveform whose frames, taken every ``hop`` samples, are those of a transform.

    Args:
        blocks: The waveform in pieces of any length, each ``(samples,)``.
        n_fft: Samples a frame.
        hop: Samples from one frame to the next, at most ``n_fft``.
        centred: Whether the first frame lies around the first sample; else it begins there.

    Yields:
        ``((frames - 1) * hop + n_fft,)`` samples, zeros before the beginning and after the end; together
        ``samples // hop`` frames, and one more if they are centred.
    """
    kept = torch.zeros(n_fft // 2 if centred else 0)
    samples = done = 0
    for block in blocks:
        samples += len(block)
        kept = torch.cat([kept, block])
        while (frames := min((len(kept) - n_fft) // hop + 1, FRAMES_A_STRETCH)) > 0:
            yield kept[: (frames - 1) * hop + n_fft]
            kept, done = kept[frames * hop :], done + frames
    # There is none, where a frame is shorter than two hops and the last one was full.
    if rest := samples // hop + centred - done:
        yield functional.pad(kept, (0, (rest - 1) * hop + n_fft - len(kept)))


def at_least(blocks: Iterable[Tensor], samples: int, padding: str) -> Iterator[Tensor]:
    """Yield a waveform, padded where it is shorter than ``samples``.

    Args:
        blocks: The waveform in pieces of any length, each ``(samples,)``; one sample at least.
        samples: Least length.
        padding: ``repeat`` the recording or add ``silence``.
    """
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
