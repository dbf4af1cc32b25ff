"""A folder of results: what is done is kept file by file, and what the user changed is left alone."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import xxhash
from filelock import FileLock, Timeout

from birdclf.data.sources.tree import stamp_of
from birdclf.detection.formats import Written
from birdclf.detection.inputs import Recording
from birdclf.detection.results import Result
from birdclf.errors import UserError

SETTINGS: Final = "predict.json"
JOURNAL: Final = "predict.jsonl"
LOCK: Final = "predict.lock"


@contextmanager
def results_folder(path: Path, settings: Mapping[str, Any]) -> "Iterator[ResultsFolder]":
    """Open a folder of results, made if it is not there, and keep other processes out while it is open.

    Args:
        path: The folder.
        settings: Plain values that decide the results.

    Raises:
        UserError: If another process writes there, or it holds something else, results of other settings, or a journal
            that cannot be read.
        OSError: If it cannot be written.
    """
    if path.exists() and not (path.is_dir() and _is_ours(path)):
        raise UserError(f"{path} exists and holds no results of birdclf predict. Choose a new folder with --out.")
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{path} is being written to by another process. Wait for it.") from error
    try:
        yield ResultsFolder(path, settings)
    finally:
        lock.release()


def _is_ours(path: Path) -> bool:
    """Return whether a folder holds results, or nothing but what a start that was cut short leaves."""
    return (path / SETTINGS).exists() or all(
        name == LOCK or name.startswith(f".{SETTINGS}.") for name in os.listdir(path)
    )


class ResultsFolder:
    """Results below one folder that no other process writes to, see :func:`results_folder`.

    Args:
        path: The folder.
        settings: Plain values that decide the results.

    Raises:
        UserError: If it holds results of other settings, or a journal that cannot be read.
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._known: dict[str, list[str]] = {}
        """Hashes of each file as we wrote it: what is there, and what may be taking its place."""
        self._settings = json.loads(json.dumps(settings))
        self._stamps: dict[str, str] = {}
        if (path / SETTINGS).exists():
            self._go_on()
        else:
            self._save()
        self._done = dict(self._read())

    def _go_on(self) -> None:
        file = self.path / SETTINGS
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            was, self._known = dict(content["settings"]), {k: list(v) for k, v in content["written"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file} cannot be read: {error}. Choose a new folder with --out.") from error
        for name in sorted(was.keys() | self._settings.keys()):
            if was.get(name) != self._settings.get(name):
                raise UserError(
                    f"{self.path} holds results of other settings: {name} was {was.get(name)!r} and is "
                    f"{self._settings.get(name)!r} now. Choose a new folder with --out, or set it back."
                )

    def _save(self) -> None:
        content = {"settings": self._settings, "written": self._known}
        write_bytes(self.path / SETTINGS, json.dumps(content, indent=1).encode())

    def _read(self) -> Iterator[tuple[str, tuple[str, Result]]]:
        """Yield what the journal holds; a line that a kill cut short is taken off."""
        file = self.path / JOURNAL
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(file, whole)
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                values = json.loads(line)
                yield values["file"], (values["stamp"], Result.read(values))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{file}: line {number} is damaged. Restore it, or choose a new folder.") from error

    def names(self) -> dict[str, str]:
        """Return the name of each recording by its real path."""
        return {file: result.name for file, (_, result) in self._done.items()}

    def left(self, recordings: Iterable[Recording]) -> list[Recording]:
        """Return the recordings that are not done, or have changed since."""
        left = []
        for one in recordings:
            self._stamps[one.file] = stamp = stamp_of(one.file)  # as it is before it is heard
            if self._done.get(one.file, ("",))[0] != stamp:
                left.append(one)
        return left

    def add(self, recording: Recording, result: Result) -> None:
        """Keep the result of a recording that was left to do.

        Raises:
            OSError: If it cannot be written.
        """
        stamp = self._stamps[recording.file]
        line = json.dumps({"file": recording.file, "stamp": stamp} | result.plain())
        with open(self.path / JOURNAL, "ab") as journal:
            journal.write(line.encode() + b"\n")
        self._done[recording.file] = (stamp, result)

    def results(self) -> list[Result]:
        """Return all results, each recording's last, in the order in which recordings were first heard."""
        return [result for _, result in self._done.values()]

    def write(self, files: Iterable[Written]) -> list[str]:
        """Write files, each whole; those that somebody has changed since are left as they are.

        Returns:
            Names of those that were left.

        Raises:
            OSError: If one cannot be written.
        """
        kept = []
        waiting: list[Written] = []
        for file in files:
            digest = xxhash.xxh3_128_hexdigest(file.content)
            there = self._digest(file.name)
            if there == digest or (there is None and not file.needed):
                continue
            if there is not None and there not in self._known.get(file.name, ()):
                kept.append(file.name)
                continue
            self._known[file.name] = [one for one in (there, digest) if one is not None]
            waiting.append(file)
        self._save()  # before they are written: a kill in between leaves no file that nobody knows
        for file in waiting:
            write_bytes(self.path / file.name, file.content)
        return kept

    def _digest(self, name: str) -> str | None:
        try:
            return xxhash.xxh3_128_hexdigest((self.path / name).read_bytes())
        except FileNotFoundError:
            return None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole, and the folders above it, where no other process writes.

    What a kill leaves of it is taken by the next one that writes the same file.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def without_problems(results: Sequence[Result]) -> list[Result]:
    """Return the results of recordings of which something was heard."""
    return [one for one in results if one.windows]
