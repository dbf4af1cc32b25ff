"""Location of the sound in a file, by its bytes, and a view of a part of the file for libsndfile to decode."""

import io
import math
import re
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

ENDLESS: Final = 2**50
"""Length reported for an MP3, which makes libsndfile read it to its true end."""


class View(io.FileIO):
    """A part of a file with some bytes replaced, which libsndfile reads as if it were the file.

    Args:
        path: The file.
        begin: Offset of the first byte.
        patches: Replacement bytes, by offset in the view.
        end: Offset of the end; None for the end of the file.
        endless: Report a length of :data:`ENDLESS` bytes; bytes near that end are zero.
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
        self.beyond: int | None = None  # position near the reported end, where the file has no bytes
        self.seek(0)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Seek to a position, counted from the first byte of the view."""
        if whence == io.SEEK_END:
            end = super().seek(0, io.SEEK_END) if self.end is None else self.end
            offset += ENDLESS if self.endless else end - self.begin
        elif whence == io.SEEK_CUR:
            offset += self.tell()
        self.beyond = offset if self.endless and offset > ENDLESS // 2 else None
        return offset if self.beyond is not None else super().seek(self.begin + offset) - self.begin

    def tell(self) -> int:
        """Return the position in the view."""
        return super().tell() - self.begin if self.beyond is None else self.beyond

    def readinto(self, buffer: Any, /) -> int:
        """Read up to as many bytes as the buffer holds."""
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
    """Return bytes of a file; moves its position."""
    file.seek(place)
    return file.read(count) or b""


REST: Final = 2**16
"""Bytes after the samples that are inspected."""
_OPEN: Final = 2**32 - 1
"""Size in a header that was written to a pipe, before the length was known."""
_W64: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_NAME: Final = re.compile(rb"[A-Za-z0-9_(][A-Za-z0-9_). ]{3}")
_CHUNKS: Final = (
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"guan", b"cue ", b"smpl", b"fact", b"JUNK", b"junk", b"PAD "),
    b"_PMX",
)
_TAGS: Final = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")


class Extent(NamedTuple):
    """Location of the samples in an uncompressed file.

    Attributes:
        claimed: Bytes of samples according to the header; NaN where it gives no length, -1 in another kind of file.
        there: Bytes from the first sample to the end of the file.
        after: Offset of data after the samples that is neither a chunk nor a tag and may be sound; None for none.
        end: Offset at which the file must end for libsndfile, which may fail on what follows; None for its own end.
        patches: Header bytes that make libsndfile read all samples, by offset from the beginning of the sound.
    """

    claimed: float = -1
    there: int = -1
    after: int | None = None
    end: int | None = None
    patches: dict[int, bytes] = {}  # noqa: RUF012


class _Chunks(NamedTuple):
    """Layout of a format's chunks: bytes of a name, ``struct`` format of the size, alignment in bytes."""

    name: int
    size: str
    step: int
    whole: bool = False  # the size includes the chunk's name and size


def extent_of(file: io.FileIO, begin: int, end: int) -> Extent:
    """Return the extent of the WAV, RF64, W64, AIFF, CAF or AU sound that begins at a byte."""
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
    wide_at = 0  # offset of an RF64's size
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
    if size == 0 and after is not None:  # the recorder lost power before it wrote the size; the samples are there
        return Extent(0, there, patches=repaired)
    if size > there:
        return Extent(size, there, patches=repaired if chunks and chunks.step == 1 else {})
    # libsndfile reads a W64 to the end of the file, even past its samples.
    return Extent(size, there, after, body + size if chunks and chunks.whole and size < there else after)


def _walk(file: io.FileIO, begin: int, at: int, end: int, chunks: _Chunks) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield name, offset, offset of the content and size of each chunk."""
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
    """Return the offset of data after the samples that is neither a chunk nor a tag, or None."""
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
    """Return whether bytes begin a chunk, not another sound or samples."""
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
    """Return the offset of the next MPEG audio frame that is followed by two of the same kind, or None."""
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
    """Return a frame's length in bytes, 0 if it is not a frame, and the header bits equal in all frames of a file."""
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
    """Return whether the length is known: True unless it is an MP3 that does not state it in its first frame."""
    at = begin
    while (head := read_at(file, at, 10)).startswith(b"ID3") and len(head) == 10:
        at += 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    frame = next_frame(file, at, min(end, at + 4096))
    return frame is None or re.search(rb"Xing|Info|VBRI", read_at(file, frame, 200)) is not None
