"""Where the samples of an uncompressed file lie: libsndfile reads as many as the header says."""

import io
import math
import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from birdclf.audio.view import read_at

REST: Final = 2**16
"""Bytes after the samples that are looked at: of zeros there may be more, of sound more than these."""
_OPEN: Final = 2**32 - 1
"""Size in a header that was written before the length was known, to a pipe."""
_W64: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_NAME: Final = re.compile(rb"[A-Za-z0-9_(][A-Za-z0-9_). ]{3}")
_CHUNKS: Final = frozenset(
    (
        b"LIST",
        b"id3 ",
        b"ID3 ",
        b"bext",
        b"iXML",
        b"guan",
        b"cue ",
        b"smpl",
        b"fact",
        b"JUNK",
        b"junk",
        b"PAD ",
        b"_PMX",
    )
)
_TAGS: Final = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")


class Extent(NamedTuple):
    """Where the samples of an uncompressed file lie.

    Attributes:
        claimed: How many bytes they have by the header; NaN where it leaves that open, -1 in a file of another kind.
        there: How many bytes there are from the first of them to the end of the file.
        after: Where something follows that is neither a chunk nor a tag, and may be sound; None where nothing does.
        end: Where libsndfile must take the file to end, lest it stumble over what follows; None for its own end.
        patches: What makes libsndfile read them all, by place from the beginning of the sound.
    """

    claimed: float = -1
    there: int = -1
    after: int | None = None
    end: int | None = None
    patches: dict[int, bytes] = {}  # noqa: RUF012


class _Chunks(NamedTuple):
    """How a format lays its chunks: bytes of a name, size for ``struct``, multiple at which one begins."""

    name: int
    size: str
    step: int
    whole: bool = False  # whether the size counts name and size too


def extent_of(file: io.FileIO, begin: int, end: int) -> Extent:
    """Return where the samples lie of the WAV, RF64, W64, AIFF, CAF or AU sound that begins at a byte."""
    head = read_at(file, begin, 24)
    magic, kind = head[:4], head[8:12]
    if magic in (b".snd", b"dns.") and len(head) == 24:
        offset, size = struct.unpack(">II" if magic == b".snd" else "<II", head[4:12])
        return _samples(file, begin, begin + offset, size, end, None, (8, b"\xff" * 4))
    if magic in (b"RIFF", b"RIFX", b"RF64") and kind == b"WAVE":
        chunks, first = _Chunks(4, ">I" if magic == b"RIFX" else "<I", 2), 12
    elif magic == b"FORM" and kind in (b"AIFF", b"AIFC"):
        chunks, first = _Chunks(4, ">I", 2), 12
    elif head[:16] == _W64:
        chunks, first = _Chunks(16, "<Q", 8, whole=True), 40
    elif magic == b"caff":
        chunks, first = _Chunks(4, ">Q", 1), 8
    else:
        return Extent()
    wide_at = 0  # where an RF64 has its size
    for name, at, body, size in _walk(file, begin, begin + first, end, chunks):
        if name == b"ds64":
            wide_at = body + 8
        elif name in (b"data", b"SSND"):
            patch = None  # W64 and AIFF need none
            if magic == b"RF64" and wide_at:
                size = int.from_bytes(read_at(file, wide_at, 8), "little")
                patch = wide_at - begin, (end - body).to_bytes(8, "little")
            elif magic == b"caff":
                patch = at + 4 - begin, (end - body).to_bytes(8, "big")
            elif magic != b"FORM" and not chunks.whole:
                patch = at + 4 - begin, b"\xff" * 4
            return _samples(file, begin, body, size, end, chunks, patch)
    return Extent()


def _samples(
    file: io.FileIO,
    begin: int,
    body: int,
    size: int,
    end: int,
    chunks: _Chunks | None,
    patch: tuple[int, bytes] | None,
) -> Extent:
    there = end - body
    repaired = dict([patch]) if patch else {}
    if size == 2**64 - 1 or (size == _OPEN and size > there):
        return Extent(math.nan, there, patches=repaired)
    after = _after(file, begin, body, size, end, chunks) if size < there else None
    if size == 0 and after is not None:  # the recorder lost power: its samples are there
        return Extent(0, there, patches=repaired)
    if size > there:
        return Extent(size, there, patches=repaired if chunks and chunks.step == 1 else {})
    # libsndfile reads a W64 to the end of the file, whatever follows its samples.
    return Extent(size, there, after, body + size if chunks and chunks.whole and size < there else after)


def _walk(file: io.FileIO, begin: int, at: int, end: int, chunks: _Chunks) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield name, place, first byte of the content and size of each chunk."""
    width = chunks.name + struct.calcsize(chunks.size)
    while len(head := read_at(file, at, width)) == width:
        (size,) = struct.unpack(chunks.size, head[chunks.name :])
        if chunks.whole and size < 2**63:
            size = max(0, size - width)
        yield head[:4], at, at + width, size
        at += width + size
        at += -(at - begin) % chunks.step
        if at >= end:
            return


def _after(file: io.FileIO, begin: int, body: int, size: int, end: int, chunks: _Chunks | None) -> int | None:
    """Return where after the samples something follows that is neither a chunk nor a tag."""
    at = body + size
    if chunks is not None:
        if not _is_chunk(read_at(file, at, 24), end - at, chunks):  # some programs leave the padding out
            at += -(at - begin) % chunks.step
        while _is_chunk(head := read_at(file, at, 24), end - at, chunks):
            _, _, body, size = next(_walk(file, begin, at, end, chunks), (b"", at, end, 0))
            at = min(end, body + size + -(body + size - begin) % chunks.step)
    head = read_at(file, at, REST)
    return None if head.startswith(_TAGS) or not head.strip(b"\0") else at


def _is_chunk(head: bytes, left: int, chunks: _Chunks) -> bool:
    """Return whether bytes begin a chunk, and not a sound of its own or samples."""
    width = chunks.name + struct.calcsize(chunks.size)
    if len(head) < width or not _NAME.fullmatch(head[:4]) or (head[:4] in (b"RIFF", b"RF64", b"FORM", b"riff")):
        return False
    (size,) = struct.unpack(chunks.size, head[chunks.name : width])
    return bool(size <= left) or head[:4] in _CHUNKS
