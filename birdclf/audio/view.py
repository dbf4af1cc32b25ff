"""A file, or a part of it with some bytes replaced, as libsndfile is to see it."""

import io
from typing import Any, Final

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
