"""Windows of a recording of any length, cut from its blocks in bounded memory."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from birdclf.audio.clip import AudioError, Waveform


class Window(NamedTuple):
    """A window of a recording."""

    start_s: float  # where it begins, in seconds
    end_s: float  # where the sound in it ends, in seconds; less than a window later where the recording is shorter
    samples: Waveform  # `(samples,)`, as many in every window


def windows_of(
    blocks: Iterable[Waveform], sample_rate_hz: int, samples: int, hop: int, padding: str
) -> Iterator[Window]:
    """Yield the windows, of ``samples`` samples each, of a waveform in blocks ``(n,)``, in bounded memory.

    One begins every ``hop`` samples. Where the last of them ends before the recording does, one more ends with it, so
    that all samples are covered, and none is invented. ``padding`` (``repeat`` or ``silence``) fills a recording
    shorter than a window.

    Raises:
        AudioError: If there is no sample, or one is not finite.
    """
    kept, begin = np.empty(0, np.float32), 0  # the samples from ``begin`` on that are still needed
    start = end = 0  # of the next window, and of the one before it

    def window(first: int) -> Window:
        cut = kept[first - begin : first - begin + samples].copy()
        return Window(first / sample_rate_hz, (first + len(cut)) / sample_rate_hz, cut)

    for block in blocks:
        if not np.isfinite(block).all():
            raise AudioError("holds samples that are not finite", "not_finite")
        kept = np.concatenate([kept, block])
        while start + samples <= begin + len(kept):
            yield window(start)
            start, end = start + hop, start + samples
        first = max(begin, min(start, begin + len(kept) - samples))
        kept, begin = kept[first - begin :], first
    length = begin + len(kept)
    if not length:
        raise AudioError("is empty", "empty")
    if length < samples:
        filled = np.resize(kept, samples) if padding == "repeat" else np.pad(kept, (0, samples - length))
        yield Window(0.0, length / sample_rate_hz, filled)
    elif end < length and start < length:
        yield window(length - samples)
