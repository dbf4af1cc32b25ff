"""Standard output and standard error that cannot stop the work: what they do not take is replaced or lost, and told."""

import codecs
import errno
import io
import json
import os
import sys
from typing import Any, Final

from birdclf.errors import UserError


class LossyStream(io.RawIOBase):
    """The bytes below a standard stream; those that cannot be written are lost, so that no print and no log fails.

    Args:
        raw: Where they go; None for a stream that is closed.

    Attributes:
        lost: Why some were lost, the first time; None if none were.
    """

    def __init__(self, raw: io.RawIOBase | None) -> None:
        self.raw = raw
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes, or lose them; return how many are dealt with."""
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
"""Way with characters that an encoding lacks: as in JSON, which then stays JSON."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(ESCAPE, _escaped)


def prepare_output() -> None:
    """Let standard output and error take whatever is printed from now on; may be called more than once.

    Characters that the terminal's encoding lacks are replaced. Streams that others have put in their place, such as a
    notebook's, are left as they are.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:  # closed: a file opened later would be written to instead
        os.set_inheritable(spare, True)
    os.close(spare)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115, as long as the process lasts
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lenient("stdout", "replace")  # one character by one, so that bars and tables keep their width
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lenient("stderr", "backslashreplace")


def _lenient(name: str, errors: str) -> io.TextIOWrapper:
    stream = getattr(sys, name)
    if stream is None:
        _prepared[name] = LossyStream(None)
        return io.TextIOWrapper(io.BufferedWriter(_prepared[name]), "utf-8", errors)
    stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)  # Python may have been told to buffer nothing
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
    """Return why standard output lost some of what was printed since this was asked last; None if it did not."""
    sys.stdout.flush()
    stream = _prepared.get("stdout")
    if stream is None:
        return None
    lost, stream.lost = stream.lost, None
    return lost


def print_result(text: str) -> None:
    """Print what a command was given for, to the last character, and stop where it cannot be printed.

    Characters that the terminal's encoding lacks are escaped.

    Raises:
        BrokenPipeError: If nobody reads on.
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
