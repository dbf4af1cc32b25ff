"""Decoding of sound files with soundfile, block by block to their true end: no file is ever held whole."""

import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import soundfile

from birdclf.audio.clip import AudioError, Clip, Sound
from birdclf.audio.decoder import Decoder, reason_of


class Header(NamedTuple):
    """What a file says of itself: duration in seconds, NaN where it does not say, and sample rate in Hz."""

    duration_s: float
    sample_rate_hz: int


def read_header(path: Path) -> Header | None:
    """Return a file's header, or None where it has none that can be read."""
    try:
        with FileReader().open(Clip("", str(path))) as sound:
            return Header(sound.header_duration_s, sound.sample_rate_hz)
    except AudioError:
        return None


@dataclass(frozen=True)
class FileReader:
    """Reads clips from the files that libsndfile decodes, whatever their ending says.

    A file is read to its true end: joined files and chained OGG streams one after the other, an MP3 past damage and
    past what its first frame makes of it, a WAV past a header that says 0 bytes.

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
        with closing(_opened(clip.path)) as decoder:
            rate = decoder.part.samplerate
            start = round(clip.start_s * rate)
            asked = math.inf if math.isinf(clip.end_s) else round(clip.end_s * rate) - start
            claimed = decoder.claimed - start if start <= decoder.claimed else math.nan
            blocks = decoder.blocks(start, asked)
            yield Sound(rate, decoder.part.channels, min(claimed, asked) / rate, blocks, lambda: decoder.goes_on)

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes the sound."""
        return "files-3"


def read_format(path: Path) -> str:
    """Return libsndfile's name of a file's format, such as ``WAV``.

    Raises:
        AudioError: If the file cannot be opened.
    """
    with closing(_opened(str(path))) as decoder:
        return str(decoder.part.format)


def _opened(path: str) -> Decoder:
    if not os.path.isfile(path):  # a pipe would be waited for
        raise AudioError("cannot be decoded (no such file)")
    try:
        return Decoder(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"cannot be decoded ({reason_of(error)})") from error
