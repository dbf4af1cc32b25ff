"""Where sound lies in a file, by its bytes, and a view of a part of it that libsndfile takes for a file."""

import io
import math
import re
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

ENDLESS: Final = 2**50
"""Length that an MP3 is said to have so that it is read to its true end."""


class View(io.FileIO):
    """A file from one of its bytes on, with others in place of some: what libsndfile is to take for the file.

    Args:
        path: The file.
        begin: Byte that is the first.
        patches: What stands in place of its own bytes, by place in the view.
        end: Byte that ends it; None for the end of the file.
        endless: Whether it says that it is :data:`ENDLESS` bytes long; what is read at that end is zero.
    """

    def __init__(
        self,
        path: str,
        begin: int = 0,
        patches: dict[int, bytes] | None = None,
        end: int | None = None,
        endless: bool = False,
    ) -> None:
        super().__init__(path)
        self.begin, self.patches, self.end, self.endless = begin, patches or {}, end, endless
        self.beyond: int | None = None  # place near an end that is not there
        self.seek(0)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, counted from the first byte of the view."""
        if whence == io.SEEK_END:
            end = super().seek(0, io.SEEK_END) if self.end is None else self.end
            offset += ENDLESS if self.endless else end - self.begin
        elif whence == io.SEEK_CUR:
            offset += self.tell()
        self.beyond = offset if self.endless and offset > ENDLESS // 2 else None
        return offset if self.beyond is not None else super().seek(self.begin + offset) - self.begin

    def tell(self) -> int:
        """Return the place in the view."""
        return super().tell() - self.begin if self.beyond is None else self.beyond

    def readinto(self, buffer: Any, /) -> int:
        """Read as many bytes as there are."""
        if self.beyond is not None:
            count = max(0, min(len(buffer), ENDLESS - self.beyond))
            buffer[:count] = bytes(count)
            self.beyond += count
            return count
        place = self.tell()
        if self.end is not None:
            buffer = memoryview(buffer)[: max(0, self.end - self.begin - place)]
        count = super().readinto(buffer) or 0
        for at, new in self.patches.items():
            first, last = max(at, place), min(at + len(new), place + count)
            if first < last:
                buffer[first - place : last - place] = new[first - at : last - at]
        return count


def read_at(file: io.FileIO, place: int, count: int) -> bytes:
    """Return bytes of a file; moves its place."""
    file.seek(place)
    return file.read(count) or b""


REST: Final = 2**16
"""Bytes after the samples that are looked at: of zeros there may be more, of sound more than these."""
_OPEN: Final = 2**32 - 1
"""Size in a header that was written before the length was known, to a pipe."""
_W64: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_NAME: Final = re.compile(rb"[A-Za-z0-9_(][A-Za-z0-9_). ]{3}")
_CHUNKS: Final = (
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"guan", b"cue ", b"smpl", b"fact", b"JUNK", b"junk", b"PAD "),
    b"_PMX",
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
    file: io.FileIO, begin: int, body: int, size: int, end: int, chunks: _Chunks | None, patch: tuple[int, bytes] | None
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


CHUNK: Final = 2**16
_FRAME: Final = re.compile(rb"\xff[\xe2-\xff]")
_KBPS: Final = {
    (1, 1): tuple(range(32, 449, 32)),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by MPEG version and layer (ISO/IEC 11172-3 and 13818-3), from index 1 on."""


def next_frame(file: io.FileIO, at: int, end: int) -> int | None:
    """Return where the next MPEG audio frame begins that two of its kind follow, or None."""
    while at < end:
        chunk = read_at(file, at, min(CHUNK, end - at))
        for match in _FRAME.finditer(chunk, 0, max(1, len(chunk) - 3)):
            place, kinds = at + match.start(), set()
            for _ in range(3):
                length, kind = _frame(read_at(file, place, 4))
                kinds.add(kind)
                place += length
                if not length or len(kinds) > 1:
                    break
            else:
                return at + match.start()
        at += max(1, len(chunk) - 3)
    return None


def _frame(header: bytes) -> tuple[int, bytes]:
    """Return the bytes of a frame, and what its header shares with its neighbours'; 0 bytes where it is none."""
    if len(header) < 4 or header[0] != 255 or header[1] & 0xE0 != 0xE0:
        return 0, b""
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    index, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or index in (0, 15) or rate == 3:
        return 0, b""
    kbps = _KBPS[1 if version == 3 else 2, layer][index - 1]
    rate_hz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == 1:
        length = (12_000 * kbps // rate_hz + padding) * 4
    else:
        length = (72_000 if layer == 3 and version != 3 else 144_000) * kbps // rate_hz + padding
    return length, bytes([header[1] & 0xFE, header[2] & 0x0C])


def is_counted(file: io.FileIO, begin: int, end: int) -> bool:
    """Return whether an MP3 says in its first frame how many there are (else libsndfile guesses); True of others."""
    at = begin
    while (head := read_at(file, at, 10)).startswith(b"ID3") and len(head) == 10:
        at += 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    frame = next_frame(file, at, min(end, at + 4096))
    return frame is None or re.search(rb"Xing|Info|VBRI", read_at(file, frame, 200)) is not None
