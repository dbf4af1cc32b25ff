"""Decoding of sound files with soundfile, block by block: no file is ever held whole."""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import soundfile

from birdclf.audio.clip import AudioError, Clip, Samples, Sound

EXTENSIONS: Final = frozenset({".wav", ".flac", ".ogg", ".mp3"})
BLOCK_S: Final = 60.0
"""Most recordings are one block, which is fastest; an hour is sixty."""
STREAMED: Final = 2**32 - 1
"""Size of the data in a WAV that was written to a pipe: its length was not known."""


class Header(NamedTuple):
    """What a file says of itself: duration in seconds and sample rate in Hz."""

    duration_s: float
    sample_rate_hz: int


def read_header(path: Path) -> Header | None:
    """Return a file's header, or None where it has none that can be read."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError):
        return None
    return Header(info.frames / info.samplerate, info.samplerate)


@dataclass(frozen=True)
class FileReader:
    """Reads clips from wav, flac, ogg and mp3 files, whatever their ending says.

    Example:
        >>> with FileReader().open(Clip("a", "song.flac")) as sound:
        ...     seconds = sum(len(block) for block in sound.blocks) / sound.sample_rate_hz
    """

    @contextmanager
    def open(self, clip: Clip) -> Iterator[Sound]:
        """Open a clip.

        Raises:
            AudioError: If it cannot be opened, or later decoded.
        """
        if not os.path.isfile(clip.path):  # a pipe would be waited for
            raise AudioError("cannot be decoded (no such file)")
        try:
            file = soundfile.SoundFile(clip.path)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(f"cannot be decoded ({_reason(error)})") from error
        with file:
            rate = file.samplerate
            start = min(round(clip.start_s * rate), file.frames)
            asked = math.inf if math.isinf(clip.end_s) else round(clip.end_s * rate) - round(clip.start_s * rate)
            header_duration_s = min(_claimed_frames(file) - start, asked) / rate
            yield Sound(rate, file.channels, header_duration_s, _blocks(file, start, asked))

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes the sound."""
        return "files-2"


def _blocks(file: soundfile.SoundFile, start: int, asked: float) -> Iterator[Samples]:
    try:
        if start:
            file.seek(start)
        block = round(BLOCK_S * file.samplerate)
        while asked > 0:
            samples = file.read(int(min(block, asked)), dtype="float32", always_2d=True)
            if not len(samples):
                return
            asked -= len(samples)
            yield samples
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"cannot be decoded ({_reason(error)})") from error


def _claimed_frames(file: soundfile.SoundFile) -> float:
    """Return how many frames a file's header claims; libsndfile quietly corrects a WAV that was cut off."""
    data = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if not data:
        return float(file.frames)
    claimed, there = int(data[1]), int(data[2])
    if claimed in (0, STREAMED) or there <= 0:
        return math.nan
    return float(file.frames * claimed / there)


def _reason(error: Exception) -> str:
    text = str(error)
    return text.rsplit(": ", 1)[-1].rstrip(". ") if text else type(error).__name__
