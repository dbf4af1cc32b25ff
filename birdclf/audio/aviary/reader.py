"""The reader that sings a recording instead of decoding it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ, RecordingName
from birdclf.audio.aviary.scene import render
from birdclf.audio.clip import AudioError, Clip, Sound
from birdclf.checks import is_number
from birdclf.errors import UserError

VERSION = 1
"""Raise it whenever the same recording id comes to sound different: stored features are then built anew."""
SNR_LIMITS_DB = (-40.0, 60.0)


@dataclass(frozen=True)
class AviaryReader:
    """Procedural bird song: the waveform follows from the recording id and the settings here alone.

    Example:
        >>> read_waveform(AviaryReader(), Clip("house-sparrow_r0007_00001"), 32_000).dtype
        dtype('float32')

    Attributes:
        snr_db: Lowest and highest signal-to-noise ratio of a recording in dB, within [-40, 60].

    Raises:
        UserError: If ``snr_db`` is not two finite numbers in this range, the lower one first.
    """

    snr_db: Sequence[float] = (0.0, 24.0)

    def __post_init__(self) -> None:
        given = tuple(self.snr_db) if isinstance(self.snr_db, Sequence) else (self.snr_db,)
        low, high = SNR_LIMITS_DB
        if len(given) != 2 or not all(is_number(v) for v in given) or not low <= given[0] <= given[1] <= high:
            raise UserError(
                f"snr_db is {list(given)}; give two numbers in dB between {low:g} and {high:g}, "
                "the lower one first, for example [0, 24]."
            )
        object.__setattr__(self, "snr_db", (float(given[0]), float(given[1])))

    @contextmanager
    def open(self, clip: Clip) -> Iterator[Sound]:
        """Sing a clip: mono at 32 kHz, in [-1, 1].

        Raises:
            AudioError: If the id names no procedural recording or the clip lies outside it.
        """
        whole = render(RecordingName.parse(clip.recording_id), (self.snr_db[0], self.snr_db[1]))
        start = round(clip.start_s * SAMPLE_RATE_HZ)
        end = len(whole) if math.isinf(clip.end_s) else min(len(whole), round(clip.end_s * SAMPLE_RATE_HZ))
        if not 0 <= start < end:
            raise AudioError(
                f"{clip.recording_id}: the stretch from {clip.start_s:g} s to {clip.end_s:g} s holds no sound; "
                f"the recording lasts {len(whole) / SAMPLE_RATE_HZ:g} s.",
                "empty",
            )
        samples = np.ascontiguousarray(whole[start:end, None], dtype=np.float32)
        yield Sound(SAMPLE_RATE_HZ, 1, len(samples) / SAMPLE_RATE_HZ, iter([samples]))

    def fingerprint(self) -> str:
        """Return a text that changes whenever a setting changes the sound."""
        return f"aviary {VERSION} snr_db={self.snr_db[0]!r}..{self.snr_db[1]!r}"
