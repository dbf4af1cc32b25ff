"""Disks that fill up, may only be read, or go away: real ones wherever the system allows it."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

MOUNTABLE = os.geteuid() == 0


class SmallDisk:
    """A file system of a few megabytes in memory.

    Attributes:
        folder: Where it is mounted.
        full: What the system says of it when it is full.
    """

    full = "No space left on device"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no byte; what is open keeps the rest of its last page."""
        with open(self.folder / "ballast", "wb", buffering=0) as file:
            size = 2**16
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Give the space back."""
        (self.folder / "ballast").unlink(missing_ok=True)


class LimitedFiles:
    """A folder of an ordinary disk; once full, no file of this process may have a byte more. It takes no privilege."""

    full = "File too large"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        """Let the system refuse every byte."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self.before[1]))

    def free(self) -> None:
        """Let it take them again."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


Disk = SmallDisk | LimitedFiles


@contextmanager
def small_disk(folder: Path, real: bool = MOUNTABLE) -> Iterator[Disk]:
    """Make a disk that can be filled: a mounted one if possible, and a limit on files if not, or if so asked."""
    folder.mkdir()
    mounted = real and _mount("-t", "tmpfs", "-o", "size=24m", "tmpfs", folder)
    disk: Disk = SmallDisk(folder) if mounted else LimitedFiles(folder)
    try:
        yield disk
    finally:
        disk.free()
        if mounted:
            _unmount(folder)


@contextmanager
def only_to_be_read(folder: Path) -> Iterator[None]:
    """Make a folder read-only: for root by mounting it over itself, for others by its permissions."""
    if os.geteuid() != 0:
        below = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for path in below:
            path.chmod(0o555)
        try:
            yield
        finally:
            for path in below:
                path.chmod(0o755)
    elif _mount("--bind", folder, folder):
        try:
            if not _mount("-o", "remount,ro,bind", folder):
                pytest.skip("permissions do not bind root, and no read-only file system may be mounted")
            yield
        finally:
            _unmount(folder)
    else:
        pytest.skip("permissions do not bind root, and nothing may be mounted")


@contextmanager
def network_folder(server: Path, folder: Path) -> Iterator[None]:
    """Mount a folder in another place, from which :func:`lose` takes it away."""
    folder.mkdir()
    if not (MOUNTABLE and _mount("--bind", server, folder)):
        pytest.skip("nothing may be mounted here")
    try:
        yield
    finally:
        lose(folder)


def lose(folder: Path) -> None:
    """Take a mounted folder away under whoever uses it; the empty mount point is left."""
    _unmount(folder)


def when(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int, action: Any) -> None:
    """Let something happen just before a call of a function or method."""
    usual, calls = getattr(owner, name), [0]

    def first(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            action()
        return usual(*arguments, **named)

    patch.setattr(owner, name, first)


def _mount(*words: str | Path) -> bool:
    with suppress(OSError):
        return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0
    return False


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True)
