"""A waveform that arrives in blocks, cut into windows that may overlap."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from birdclf.audio.clip import AudioError, Waveform


class Window(NamedTuple):
    """A window of a recording.

    Attributes:
        start_s: Where it begins, in seconds.
        end_s: Where the sound in it ends, in seconds; less than a window later where the recording is shorter.
        samples: ``(samples,)``, as many in every window.
    """

    start_s: float
    end_s: float
    samples: Waveform


def windows_of(
    blocks: Iterable[Waveform], sample_rate_hz: int, samples: int, hop: int, padding: str
) -> Iterator[Window]:
    """Yield the windows of a recording, in bounded memory.

    One begins every ``hop`` samples. Where the last of them ends before the recording does, one more ends with it, so
    that no sound is left out and none is made up.

    Args:
        blocks: The waveform in pieces, each ``(samples,)``.
        sample_rate_hz: Its sample rate.
        samples: Samples a window.
        hop: Samples from the beginning of one window to that of the next.
        padding: What fills a recording shorter than a window: ``repeat`` or ``silence``.

    Raises:
        AudioError: If there is no sample, or one is not finite.
    """
    kept, begin = np.empty(0, np.float32), 0  # the samples from ``begin`` on that are still wanted
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
        wanted = max(begin, min(start, begin + len(kept) - samples))
        kept, begin = kept[wanted - begin :], wanted
    heard = begin + len(kept)
    if not heard:
        raise AudioError("is empty", "empty")
    if heard < samples:
        filled = np.resize(kept, samples) if padding == "repeat" else np.pad(kept, (0, samples - heard))
        yield Window(0.0, heard / sample_rate_hz, filled)
    elif end < heard and start < heard:
        yield window(heard - samples)
