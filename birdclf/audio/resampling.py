"""Resampling of an open clip to the sample rate of the features, block by block."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np
import soxr

from birdclf.audio.clip import AudioError, Clip, Reader, Waveform
from birdclf.audio.mixing import Mix


def resample_blocks(blocks: Iterable[Waveform], native_hz: int, sample_rate_hz: int) -> Iterator[Waveform]:
    """Yield a signal, in blocks ``(samples,)`` at ``native_hz``, at ``sample_rate_hz``, as if resampled whole.

    Raises:
        AudioError: If no sample is left.
    """
    if native_hz == sample_rate_hz:
        yield from blocks
        return
    blocks = iter(blocks)
    ahead = list(islice(blocks, 2))
    if len(ahead) == 1:  # resampling the whole signal is faster
        parts = iter([soxr.resample(ahead[0], native_hz, sample_rate_hz)])
    else:
        parts = _streamed(chain(ahead, blocks), native_hz, sample_rate_hz)
    samples = 0
    for part in parts:
        samples += len(part)
        yield part
    if not samples:
        raise AudioError(f"is too short to resample to {sample_rate_hz} Hz", "empty")


def _streamed(blocks: Iterable[Waveform], native_hz: int, sample_rate_hz: int) -> Iterator[Waveform]:
    stream = soxr.ResampleStream(native_hz, sample_rate_hz, num_channels=1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def read_waveform(reader: Reader, clip: Clip, sample_rate_hz: int, mix: Mix | None = None) -> Waveform:
    """Return a whole clip as ``(samples,)`` mono float32 at ``sample_rate_hz``, of any length.

    Raises:
        AudioError: If it cannot be decoded or is empty.
    """
    with reader.open(clip) as sound:
        mixer = (mix or Mix()).mixer(reader, clip, sound.channels)
        blocks = resample_blocks(map(mixer, sound.blocks), sound.sample_rate_hz, sample_rate_hz)
        waveform = np.concatenate([np.empty(0, np.float32), *blocks])
    if not len(waveform):
        raise AudioError("is empty", "empty")
    return waveform
