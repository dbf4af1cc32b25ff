"""A file lock between processes, on one machine or on several that share a file system."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock, and say so where another process has to be waited for.

    Args:
        path: File of the lock; it stays.
        what: What the lock guards, for the message.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is building %s; waiting for it", what)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does; yield whether it is held."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except OSError:  # held, or not ours to open
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
