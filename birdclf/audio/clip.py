"""Clips, and the interface of the readers that open them as blocks of samples."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""``(samples, channels)`` at a file's own rate, full scale 1."""
Waveform = NDArray[np.float32]
"""``(samples,)`` mono."""


MAX_HEADER_ERROR_S: Final = 0.5
"""Tolerance in seconds for formats that round the length; a recording shorter than its header by more is damaged."""


class AudioError(Exception):
    """One recording that cannot be used, with the reason; the job continues without it.

    Args:
        reason: Rest of a sentence that begins with the recording's name.
        problem: Name of the problem in the audit: ``undecodable``, ``empty``, ``not_finite`` or ``no_vector``.
    """

    def __init__(self, reason: str, problem: str = "undecodable") -> None:
        super().__init__(reason)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, or an interval of one."""

    recording_id: str  # unique and stable name
    path: str = ""  # file to decode; empty where the sound is procedural
    start_s: float = 0.0
    end_s: float = float("inf")  # `inf` for the end of the file


@dataclass(frozen=True)
class Sound:
    """A clip that is open for reading, once, from its beginning to its end.

    Attributes:
        sample_rate_hz: Native sample rate.
        channels: Number of channels.
        header_duration_s: Length of the clip according to the file's header, in seconds; NaN if unknown.
        blocks: The samples in blocks of a bounded length; raises :class:`AudioError` where they cannot be decoded.
        goes_on: Returns, once all blocks are read, a description of what follows them in the file; empty for nothing.
    """

    sample_rate_hz: int
    channels: int
    header_duration_s: float
    blocks: Iterator[Samples]
    goes_on: Callable[[], str] = str

    def missing_part(self, decoded_s: float) -> str:
        """Return a description of the part of a recording that was not decoded; empty if there is none."""
        if self.header_duration_s - decoded_s > MAX_HEADER_ERROR_S:
            return f"lasts {decoded_s:.1f} s, by its header {self.header_duration_s:.1f} s"
        return self.goes_on()


class Reader(Protocol):
    """Opens clips; picklable, for worker processes."""

    def open(self, clip: Clip) -> AbstractContextManager[Sound]:
        """Return the clip's sound, for a ``with`` statement.

        Raises:
            AudioError: If this clip cannot be used.
        """
        ...

    def fingerprint(self) -> str:
        """Return a text that changes whenever a setting changes the sound."""
        ...
