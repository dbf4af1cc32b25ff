"""Fixtures of the tests of data and its sources."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return what takes the permission to read a file or folder away, from root too."""
    forbidden: set[str] = set()
    real_scandir, real_listdir, real_access = os.scandir, os.listdir, os.access

    def refuse(path: str | Path) -> None:
        if os.fspath(path) in forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

    def scandir(path: str | Path = "."):
        refuse(path)
        return real_scandir(path)

    def listdir(path: str | Path = "."):
        refuse(path)
        return real_listdir(path)

    def access(path: str | Path, mode: int) -> bool:
        return os.fspath(path) not in forbidden and real_access(path, mode)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(os, "access", access)
    return lambda path: forbidden.add(os.fspath(path))
