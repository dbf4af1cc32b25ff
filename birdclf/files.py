"""Files and folders: atomic writes, locks, hashes, refusal to overwrite, and messages for errors of the disk."""

import errno
import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from birdclf.errors import UserError

NOT_OURS: Final = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "ESTALE", "ENOTCONN", "EHOSTDOWN", "EACCES", "EPERM")
    if hasattr(errno, name)  # Windows lacks some
)
"""Error numbers that come from the disk and not from a mistake in a program."""
LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(file: Path) -> None:
    """Refuse the few lines that Git LFS leaves in place of a file which it has not fetched."""
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(LFS_POINTER))
    except OSError:
        return
    if begins == LFS_POINTER:
        raise UserError(f"{file} is a Git LFS pointer, not the file itself. Fetch the file in its folder: git lfs pull")


@contextmanager
def writing_to(folder: Path, way: str) -> Iterator[None]:
    """Turn an error of writing to a folder into a :class:`UserError`.

    Args:
        folder: Errors about files elsewhere, such as one that is read, pass through.
        way: What to do, after freeing some space or bringing the folder back.

    Raises:
        UserError: If the disk is full, or the folder is gone or read-only.
    """
    try:
        yield
    except Exception as error:
        cause = of_the_disk(error)
        # A full disk names no file.
        if cause is None or not (cause.filename is None or _within(os.fsdecode(cause.filename), folder)):
            raise
        raise UserError(
            f"{folder} cannot be written to: {reason(cause)}. Free some space or bring the folder back; {way}"
        ) from error


def of_the_disk(error: BaseException) -> OSError | None:
    """Return the system's error at the bottom of an error, which libraries may have wrapped; None if there is none."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError | UserError):
        found = found.__cause__
    return found if isinstance(found, OSError) else None


def reason(error: OSError) -> str:
    """Return the system's message for an error, without what a library added."""
    return os.strerror(error.errno) if error.errno else str(error)


def explain_disk(error: BaseException) -> str | None:
    """Return the message for an error of the disk, or None for any other error."""
    cause = of_the_disk(error)
    if cause is None or cause.errno not in NOT_OURS:
        return None
    where = os.fsdecode(cause.filename) if cause.filename is not None else "A file"
    return (
        f"{where} cannot be read or written: {reason(cause)}. Free some space, bring the folder back or allow access "
        f"to it, and give the command again; what was written before is kept."
    )


def write_whole(path: Path, content: str | bytes, alone: bool = False, sync: bool = False) -> None:
    """Write a file atomically: no process reads half of it, and a full disk leaves the old one unchanged.

    Args:
        path: The file.
        content: A text is written as UTF-8.
        alone: Whether no other process writes it: what a kill leaves is then replaced by the next write.
        sync: Whether to wait until it is on the disk.
    """
    temporary = path.with_name(f".{path.name}.tmp" if alone else f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: Path, way: str) -> None:
    """Refuse to write to an existing path or a broken link; ``way`` says what to do instead."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists already; nothing is overwritten. {way}")


def digest(content: bytes) -> str:
    """Return the hash of some bytes: BLAKE2b of 96 bits, in hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def file_hash(file: Path) -> str:
    """Return :func:`digest` of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=12)).hexdigest()


def check_writable(folder: Path) -> None:
    """Make a folder, and check that it has room for the first files of a command."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".room.{os.getpid()}.tmp"
    try:
        probe.write_bytes(bytes(2**16))
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


class LogFile(logging.FileHandler):
    """A log file; lines for which there is no room are lost, without a stack trace."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore errors of the disk."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, with or without its last lines."""
        with suppress(OSError):
            super().close()


def _within(path: str, folder: Path) -> bool:
    return Path(path).is_relative_to(folder) or folder.is_relative_to(path)


log = logging.getLogger(__name__)


@contextmanager
def lock_file(path: Path, busy: Exception | None = None, waits: str = "") -> Iterator[None]:
    """Hold a lock, which the system releases when this process dies.

    Args:
        path: File of the lock; it stays.
        busy: Raised where another process holds it; None to wait until it is free.
        waits: Line of the log before it waits.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if busy is not None:
            raise busy from None
        if waits:
            log.info("%s", waits)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def new_run(folder: Path) -> Path:
    """Make a run folder of this name or the next free one, and return it."""
    for name in names(folder):
        try:
            name.mkdir(parents=True)
            return name
        except FileExistsError:
            continue
    raise AssertionError("there is always another name")


def names(folder: Path) -> Iterator[Path]:
    """Yield a folder's name, and then the same with a number from 2."""
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}_{number}")
        number += 1
