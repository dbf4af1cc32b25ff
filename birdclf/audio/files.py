"""Decoding of sound files with soundfile, block by block to their true end; no file is held in memory whole."""

import ctypes
import io
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import soundfile

from birdclf.audio.clip import AudioError, Clip, Samples, Sound
from birdclf.audio.extent import View, extent_of, is_counted, next_frame, read_at
from birdclf.audio.formats import other_kind

_lock = threading.Lock()
_depth = 0
_before: int | None = None


@contextmanager
def silence_c_stderr() -> Iterator[None]:
    """Suppress what C libraries print to stderr; without effect where the C library is not glibc."""
    global _depth, _before
    found = _stderr_and_nothing()
    if found is None:
        yield
        return
    stderr, nothing = found
    with _lock:
        if _depth == 0:
            _before, stderr.value = stderr.value, nothing
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                stderr.value = _before


@cache
def _stderr_and_nothing() -> tuple[ctypes.c_void_p, int] | None:
    """Return glibc's variable ``stderr`` and a stream to ``/dev/null``."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # elsewhere the variable may be read-only  # noqa: B018
        stderr = ctypes.c_void_p.in_dll(libc, "stderr")
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    libc.fopen.restype = ctypes.c_void_p
    nothing = libc.fopen(b"/dev/null", b"w")
    return (stderr, nothing) if nothing else None


BLOCK_S: Final = 60.0
"""Length of a block: most recordings are one block, which is fastest."""
UNKNOWN: Final = 2**40
"""Samples; libsndfile reports more than this where it does not know the number."""
LEAST_S: Final = 0.1
"""A shorter rest after the decoded part is not reported, where its length is known."""
HEAD: Final = 2**16
"""Bytes that are inspected at one position."""
BEHIND: Final = 2**14
"""Bytes that libsndfile may have read beyond the end of a sound."""
_OGG_BEGIN: Final = re.compile(rb"OggS\0[\x02\x06]\0{8}")
_FLAC_BEGIN: Final = re.compile(rb"fLaC\0\0\0\x22")


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read sequentially, without seeking.

    After each read soundfile seeks to its position. That fails at the end of a FLAC file without a length, and goes
    back in a damaged MP3, part of which is then decoded twice.
    """

    def seekable(self) -> bool:
        """Return False, which keeps soundfile from seeking."""
        return False


class Decoder:
    """The sounds in one file, read one after the other.

    Attributes:
        part: The sound that is being read.
        claimed: Samples of the first sound according to its header; NaN if unknown.
        goes_on: Description of what follows the decoded part, available at the end; empty for nothing.

    Raises:
        AudioError: If it is not a sound file.
        LibsndfileError: If it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path, self.goes_on = path, ""
        self.raw = self.file = io.FileIO(path)
        self.part: Any = None
        try:
            self.end = os.fstat(self.raw.fileno()).st_size
            self._open_first()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        if self.part is not None:
            self.part.close()
        self.file.close()
        self.raw.close()

    def blocks(self, start: int, asked: float) -> Iterator[Samples]:
        """Yield up to ``asked`` samples from sample ``start`` on.

        Raises:
            AudioError: If the first sound cannot be decoded.
        """
        try:
            skip = self._seek(start) if start else 0
            block = round(BLOCK_S * self.part.samplerate)
            while asked > 0:
                samples = self._read(int(min(block, skip + asked)))
                if not len(samples):
                    if not self._next():
                        return
                    continue
                kept = samples[skip:]
                skip = max(0, skip - len(samples))
                if len(kept):
                    asked -= len(kept)
                    yield kept
        except (soundfile.LibsndfileError, OSError) as error:
            if self.begin == self.first:
                raise AudioError(f"cannot be decoded ({reason_of(error)})") from error
            self.goes_on = self._left(self.begin, f", which cannot be decoded ({reason_of(error)})")

    def _open_first(self) -> None:
        head = read_at(self.raw, 0, 64)
        if kind := other_kind(head if head.strip(b"\0") else read_at(self.raw, 0, HEAD)):
            raise AudioError(f"is not a sound file that can be read (it is {kind})")
        extent = extent_of(self.raw, 0, self.end)
        self.counted = not head.startswith((b"ID3", b"\xff")) or is_counted(self.raw, 0, self.end)
        try:
            doubtful = extent.patches or extent.end is not None
            self._open(View(self.path, 0, extent.patches, extent.end) if doubtful else self.raw)
        except soundfile.LibsndfileError:
            frame = next_frame(self.raw, 0, min(self.end, 4 * HEAD))  # other bytes may precede an MP3's first frame
            if frame is None:
                raise
            self.counted = is_counted(self.raw, frame, self.end)
            self._open(View(self.path, frame, endless=True))
        self.first, frames = self.begin, float(self.part.frames)
        if not self.counted or frames > UNKNOWN or math.isnan(extent.claimed):
            self.claimed = math.nan
        elif extent.claimed == 0 or extent.claimed > extent.there > 0:
            self.claimed = frames * extent.claimed / extent.there if frames else 0.0
        else:
            self.claimed = frames

    def _open(self, file: io.FileIO) -> None:
        """Open a sound in place of the previous one; a file that cannot be opened is closed."""
        file.seek(0)
        # A file descriptor is read without calls into Python; on Windows libraries do not share descriptors.
        given = file.fileno() if file is self.raw and os.name == "posix" else file
        try:
            with silence_c_stderr():
                part = _SoundFile(given, closefd=False)
        except BaseException:
            if file is not self.raw:
                file.close()
            raise
        if self.part is not None:
            self.part.close()
        if self.file is not self.raw:
            self.file.close()
        self.part, self.file, self.at = part, file, 0
        self.begin = file.begin if isinstance(file, View) else 0

    def _seek(self, start: int) -> int:
        """Seek to a sample of the first sound, or near its end; return the number of samples still to skip."""
        place = start if start < self.part.frames else max(0, self.part.frames - self.part.samplerate)
        if self._sought(place):
            return start - place
        self._open_first()
        return start

    def _sought(self, place: int) -> bool:
        """Seek to a sample of the sound; return False where that fails: a FLAC without a length, a damaged MP3."""
        try:
            with silence_c_stderr():
                reached = self.part.seek(place)
        except soundfile.LibsndfileError:
            return False
        self.at = place
        return bool(reached == place)

    def _read(self, count: int) -> Samples:
        if self.part.frames <= UNKNOWN:
            count = max(0, min(count, self.part.frames - self.at))
        with silence_c_stderr():
            samples: Samples = self.part.read(count, dtype="float32", always_2d=True)
        self.at += len(samples)
        return samples

    def _next(self) -> bool:
        """Open the next sound in the file; where that is not possible, set :attr:`goes_on` and return False."""
        begin, place = self.begin, io.FileIO.tell(self.file)
        format, rate, channels = self.part.format, self.part.samplerate, self.part.channels
        if format == "MP3" and self.file is self.raw and not self.counted and place < self.end:
            at = self.at
            self._open(View(self.path, endless=True))  # it is longer than libsndfile estimated
            if self._sought(at):
                return True
        found = next_sound(self.raw, format, begin, place, self.end)
        if found is None:
            return False
        frames = self.part.frames
        extent = extent_of(self.raw, found, self.end)
        how = ""
        try:
            self._open(View(self.path, found, extent.patches, extent.end, endless=format == "MP3"))
        except soundfile.LibsndfileError:
            extent = extent_of(self.raw, begin, self.end)
            if self.end - found < LEAST_S * rate * extent.claimed / max(frames, 1):
                return False
        else:
            if (self.part.samplerate, self.part.channels) == (rate, channels):
                return True
            how = f", at {self.part.samplerate:,} Hz, channels: {self.part.channels}"
        self.goes_on = self._left(found, how)
        return False

    def _left(self, begin: int, how: str) -> str:
        return f"continues for {self.end - begin:,} bytes after the decoded part{how}"


def next_sound(file: io.FileIO, format: str, begin: int, at: int, end: int) -> int | None:
    """Return the offset of the next sound of the same format in a file, or None."""
    if format == "MP3":
        return next_frame(file, max(at, begin + 1), end)
    if format == "OGG":
        return _find(file, _OGG_BEGIN, max(_after_first_pages(file, begin), at - BEHIND), end)
    if format == "FLAC":
        return _find(file, _FLAC_BEGIN, max(begin + 1, at - BEHIND), end)
    return extent_of(file, begin, end).after


def _find(file: io.FileIO, pattern: re.Pattern[bytes], at: int, end: int) -> int | None:
    while at < end:
        chunk = read_at(file, at, min(16 * HEAD, end - at))
        if found := pattern.search(chunk):
            return at + found.start()
        at += max(1, len(chunk) - 16)
        if len(chunk) <= 16:
            break
    return None


def _after_first_pages(file: io.FileIO, at: int) -> int:
    """Return the offset after the pages that begin the streams of an OGG file, which together are one sound."""
    while _OGG_BEGIN.match(head := read_at(file, at, 27 + 255)):
        segments = head[26]
        at += 27 + segments + sum(head[27 : 27 + segments])
    return at


def reason_of(error: Exception) -> str:
    """Return an error's message without the leading file name."""
    text = str(error)
    return text.rsplit(": ", 1)[-1].rstrip(". ") if text else type(error).__name__


class Header(NamedTuple):
    """Duration in seconds (NaN if unknown) and sample rate in Hz according to a file's header."""

    duration_s: float
    sample_rate_hz: int


def read_header(path: Path) -> Header | None:
    """Return a file's header, or None if it cannot be read."""
    try:
        with FileReader().open(Clip("", str(path))) as sound:
            return Header(sound.header_duration_s, sound.sample_rate_hz)
    except AudioError:
        return None


@dataclass(frozen=True)
class FileReader:
    """Reads clips from the files that libsndfile decodes, independently of their extension.

    A file is read to its true end: concatenated files and chained OGG streams one after the other, an MP3 past damage
    and past the length that its first frame states, a WAV past a header that states 0 bytes.

    Example:
        >>> with FileReader().open(Clip("a", "song.flac")) as sound:
        ...     seconds = sum(len(block) for block in sound.blocks) / sound.sample_rate_hz
    """

    @contextmanager
    def open(self, clip: Clip) -> Iterator[Sound]:
        """Open a clip.

        Raises:
            AudioError: If it cannot be opened or decoded.
        """
        with closing(_opened(clip.path)) as decoder:
            rate = decoder.part.samplerate
            start = round(clip.start_s * rate)
            asked = math.inf if math.isinf(clip.end_s) else round(clip.end_s * rate) - start
            claimed = decoder.claimed - start if start <= decoder.claimed else math.nan
            blocks = decoder.blocks(start, asked)
            yield Sound(rate, decoder.part.channels, min(claimed, asked) / rate, blocks, lambda: decoder.goes_on)

    def fingerprint(self) -> str:
        """Return a text that changes whenever decoding changes."""
        return "files-3"


def read_format(path: Path) -> str:
    """Return libsndfile's name of a file's format, such as ``WAV``.

    Raises:
        AudioError: If the file cannot be opened.
    """
    with closing(_opened(str(path))) as decoder:
        return str(decoder.part.format)


def _opened(path: str) -> Decoder:
    if not os.path.isfile(path):  # opening a pipe would block
        raise AudioError("cannot be decoded (no such file)")
    try:
        return Decoder(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"cannot be decoded ({reason_of(error)})") from error
