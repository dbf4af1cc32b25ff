"""Keeps notes of the MP3 decoder off the terminal: they name no file, and what they tell of is in the audit.

libmpg123 inside libsndfile prints them with ``fprintf(stderr, ...)`` and libsndfile passes no option to stop it. The C
library's variable ``stderr`` is pointed elsewhere meanwhile; file descriptor 2 and Python's ``sys.stderr`` stay.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_lock = threading.Lock()
_depth = 0
_before: int | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Let no C library print to stderr; does nothing where the C library is not glibc."""
    global _depth, _before
    found = _stderr_and_nothing()
    if found is None:
        yield
        return
    stderr, nothing = found
    with _lock:
        if _depth == 0:
            _before, stderr.value = stderr.value, nothing
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                stderr.value = _before


@cache
def _stderr_and_nothing() -> tuple[ctypes.c_void_p, int] | None:
    """Return glibc's variable ``stderr`` and a stream that leads nowhere."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # elsewhere the variable may be read-only  # noqa: B018
        stderr = ctypes.c_void_p.in_dll(libc, "stderr")
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    libc.fopen.restype = ctypes.c_void_p
    nothing = libc.fopen(b"/dev/null", b"w")
    return (stderr, nothing) if nothing else None
