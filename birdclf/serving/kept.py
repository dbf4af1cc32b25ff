"""The folder of a page: uploads are kept in it, beside the corrections, and nothing is written elsewhere."""

import json
import os
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from birdclf.disk import check_writable, write_whole
from birdclf.errors import UserError

MARK: Final = "serve.json"
LOCK: Final = "serve.lock"
RECORDINGS: Final = "recordings"
FORMAT: Final = 1
PREFIX: Final = 16
"""Hexadecimal digits of the content's SHA-256 in a name: 64 bits."""
LONGEST_STEM: Final = 50
"""Characters, of four bytes at most: with all that is put round them below the 255 bytes of a file's name."""


class KeptFolder:
    """Uploads and corrections.

    Args:
        path: The folder; made if it is not there.

    Raises:
        UserError: If it holds something else, or leads elsewhere by a link.
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recordings = path / RECORDINGS
        mark = path / MARK
        if not mark.is_file():
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise UserError(f"{path} exists and holds no uploads of birdclf serve. Choose a new folder: --folder.")
            check_writable(path)
            write_whole(mark, json.dumps({"format": FORMAT}))
        _check_format(mark)
        check_writable(self.recordings)
        if self.recordings.resolve().parent != path.resolve():
            raise UserError(f"{self.recordings} is a link to another folder, and is not written to. Put it back.")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out, and clear away what an upload left that was cut short.

        Raises:
            UserError: If another one is here.
        """
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"{self.path} is used by another birdclf serve. End that one, or choose another --folder."
            ) from error
        try:
            for left in self.recordings.glob(".upload.*.tmp"):
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def temporary(self) -> Path:
        """Return a new name for an upload that is not whole yet."""
        return self.recordings / f".upload.{secrets.token_hex(8)}.tmp"

    def keep(self, temporary: Path, digest: str, name: str, ending: str) -> tuple[Path, bool]:
        """Give an upload its name, unless its content is there already.

        Args:
            temporary: The upload, all of it.
            digest: SHA-256 of its content, in hexadecimal digits.
            name: What its user calls it; nothing of it but letters, digits and a few signs is used.
            ending: Such as ``.wav``.

        Returns:
            The file, and whether it is new.

        Raises:
            OSError: If it cannot be renamed.
        """
        prefix = digest[:PREFIX]
        there = sorted(self.recordings.glob(f"{prefix}_*"))
        if there:
            return there[0], False
        file = self.recordings / f"{prefix}_{safe_stem(name)}{ending}"
        os.replace(temporary, file)
        return file, True

    def relative(self, file: Path) -> str:
        """Return a kept file's path from the folder, with slashes."""
        return f"{RECORDINGS}/{file.name}"


def safe_stem(name: str) -> str:
    """Return a name without its folders and its ending, of letters, digits, spaces and ``-_.()`` alone.

    It begins with a letter or digit, and is ``recording`` where nothing is left.
    """
    base = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    stem = os.path.splitext(base)[0]
    tidy = "".join(c if c.isalnum() or c in "-_.()" else " " for c in stem)
    tidy = " ".join(tidy.split())[:LONGEST_STEM]
    while tidy and not tidy[0].isalnum():
        tidy = tidy[1:]
    return tidy.rstrip(" .") or "recording"


def _check_format(mark: Path) -> None:
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{mark} cannot be read: {error}. Restore it, or choose another --folder.") from error
    if found != FORMAT:
        raise UserError(
            f"{mark} is of format {found!r}; this birdclf knows {FORMAT}. Update it, or use another --folder."
        )
