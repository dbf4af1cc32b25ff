"""Frames of MPEG audio, found by their headers without decoding them."""

import io
import re
from typing import Final

from birdclf.audio.view import read_at

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
