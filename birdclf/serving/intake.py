"""An upload on its way in: measured while it arrives, and tried before it is kept."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import FileReader, read_format
from birdclf.audio.formats import FORMAT_OF
from birdclf.serving.settings import Limits, RefusedError

KINDS: Final = {
    "WAV": (".wav", "audio/wav"),
    "WAVEX": (".wav", "audio/wav"),
    "RF64": (".wav", "audio/wav"),
    "FLAC": (".flac", "audio/flac"),
    "OGG": (".ogg", "audio/ogg"),
    "MP3": (".mp3", "audio/mpeg"),
    "MPEG": (".mp3", "audio/mpeg"),
}
"""Ending and media type by what libsndfile finds in the content: what browsers play."""
ACCEPTED: Final = ",".join(ending for ending, format in FORMAT_OF.items() if format in KINDS)
PLAYED: Final = "WAV, FLAC, OGG or MP3"
STANDSTILL_S: Final = 60.0
LEAST_RATE_HZ: Final = 1000
MOST_SAMPLES_A_S: Final = 2_000_000
"""Of all channels: a minute, which is decoded at once, is then below 0.5 GB."""


class Sort(NamedTuple):
    """What an upload turned out to be.

    Attributes:
        ending: Such as ``.wav``.
        media_type: Such as ``audio/wav``.
        duration_s: How long it says it is, in seconds; NaN where it does not.
    """

    ending: str
    media_type: str
    duration_s: float


async def store(body: AsyncIterator[bytes], file: Path, limits: Limits) -> str:
    """Write what arrives to a file, and stop as soon as it is too large, whatever was announced.

    Returns:
        SHA-256 of the content, in hexadecimal digits.

    Raises:
        RefusedError: If it is empty, too large or at a standstill. What was written is left for the caller to remove.
        OSError: If it cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    with file.open("xb") as opened:
        async for block in _flowing(body):
            size += len(block)
            if size > limits.bytes:
                raise limits.too_large
            digest.update(block)
            opened.write(block)
    if not size:
        raise RefusedError("The file is empty. Choose a recording.")
    return digest.hexdigest()


async def _flowing(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what arrives, until nothing does for a while: the place is needed for others."""
    while True:
        try:
            async with asyncio.timeout(STANDSTILL_S):
                block = await anext(body, None)
        except TimeoutError as error:
            raise RefusedError(f"Nothing arrived for {STANDSTILL_S:g} s. Upload the file again.", 408) from error
        if block is None:
            return
        yield block


def tried(file: Path, limits: Limits) -> Sort:
    """Return what an upload is, after decoding its first minute.

    Raises:
        RefusedError: If it is no recording, or one that is too long or cannot be used.
    """
    try:
        format = read_format(file)
    except AudioError as error:
        raise RefusedError(f"The file {error}. Choose a {PLAYED} file.") from error
    if format not in KINDS:
        raise RefusedError(f"The file is {format}, which browsers cannot play. Choose {PLAYED}.")
    try:
        with FileReader().open(Clip("upload", str(file))) as sound:
            rate_hz, channels, duration_s = sound.sample_rate_hz, sound.channels, sound.header_duration_s
            if rate_hz < LEAST_RATE_HZ or rate_hz * channels > MOST_SAMPLES_A_S:
                raise RefusedError(
                    f"The recording has {channels} channels at {rate_hz:,} Hz; from {LEAST_RATE_HZ:,} Hz to "
                    f"{MOST_SAMPLES_A_S:,} samples a second of all channels are taken. Convert it."
                )
            if duration_s > limits.minutes * 60:
                raise limits.too_long(f"is {duration_s / 60:.1f} minutes long")
            first = next(sound.blocks, None)
    except AudioError as error:
        raise RefusedError(f"The recording {error}. Choose another file.") from error
    if first is None:
        raise RefusedError("The recording is empty: it holds no sound. Choose another file.")
    return Sort(*KINDS[format], duration_s)
