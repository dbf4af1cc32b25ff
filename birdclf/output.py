"""Standard output and standard error that never raise: characters are replaced, lost output is reported at the end."""

import codecs
import errno
import io
import json
import os
import sys
from typing import Any, Final

from birdclf.errors import UserError


class LossyStream(io.RawIOBase):
    """Raw stream below a standard stream that drops bytes which cannot be written, instead of raising.

    Args:
        raw: The stream to write to; None if it is closed.

    Attributes:
        lost: Error of the first lost bytes; None if none were lost.
    """

    def __init__(self, raw: io.RawIOBase | None) -> None:
        self.raw = raw
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write or drop bytes; return their number."""
        try:
            if self.raw is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            written = self.raw.write(data)
            if written is None:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return written
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self.raw is not None and self.raw.isatty()

    def fileno(self) -> int:
        """Return the number of the open file."""
        if self.raw is None:
            raise io.UnsupportedOperation("fileno")
        return self.raw.fileno()


_prepared: dict[str, LossyStream] = {}
ESCAPE: Final = "birdclf.escape"
"""Error handler that escapes characters as JSON does, so that JSON stays valid."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(ESCAPE, _escaped)


def prepare_output() -> None:
    """Make standard output and error accept anything from now on; may be called more than once.

    Characters that the terminal's encoding lacks are replaced. Replaced streams, such as a notebook's, are unchanged.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:  # closed: its number would go to the next opened file
        os.set_inheritable(spare, True)
    os.close(spare)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115, as long as the process lasts
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lenient("stdout", "replace")  # one for one: bars and tables keep their width
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lenient("stderr", "backslashreplace")


def _lenient(name: str, errors: str) -> io.TextIOWrapper:
    stream = getattr(sys, name)
    if stream is None:
        _prepared[name] = LossyStream(None)
        return io.TextIOWrapper(io.BufferedWriter(_prepared[name]), "utf-8", errors)
    stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)  # Python may run unbuffered
    lenient: Any = LossyStream(raw)
    _prepared[name] = lenient
    return io.TextIOWrapper(
        lenient if raw is stream.buffer else io.BufferedWriter(lenient),
        stream.encoding,
        errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def take_lost() -> OSError | None:
    """Return the error by which standard output lost text since the last call; None if nothing was lost."""
    sys.stdout.flush()
    stream = _prepared.get("stdout")
    if stream is None:
        return None
    lost, stream.lost = stream.lost, None
    return lost


def print_result(text: str) -> None:
    """Print a command's result completely, or raise.

    Characters that the terminal's encoding lacks are escaped.

    Raises:
        BrokenPipeError: If the reader has closed the pipe.
        UserError: If standard output is full or closed.
    """
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, ESCAPE).decode(encoding), end="", flush=True)
    lost = take_lost()
    if isinstance(lost, BrokenPipeError):
        raise lost
    if lost is not None:
        raise UserError(
            f"standard output cannot be written to: {lost.strerror}. Free some space or send it elsewhere, or give a "
            f"folder with --out DIR."
        )
