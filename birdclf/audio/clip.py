"""What a recording is to the rooms that read sound: a clip, and a reader that turns it into a waveform."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]


class AudioError(Exception):
    """One recording that cannot be used, with the reason; the job goes on without it."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, or a stretch of one.

    Attributes:
        recording_id: Unique and stable name.
        path: File to decode; empty where the sound is procedural.
        start_s: Where the stretch starts, in seconds.
        end_s: Where it ends, in seconds; ``inf`` for the end of the file.
    """

    recording_id: str
    path: str = ""
    start_s: float = 0.0
    end_s: float = float("inf")


class Reader(Protocol):
    """Turns clips into waveforms; picklable, so that worker processes can hold one."""

    def read(self, clip: Clip, sample_rate_hz: int) -> Waveform:
        """Return the clip as ``(samples,)`` mono float32 at ``sample_rate_hz``.

        Raises:
            AudioError: If this clip cannot be used.
        """
        ...

    def fingerprint(self) -> str:
        """Return a text that changes whenever a setting changes what :meth:`read` returns."""
        ...
