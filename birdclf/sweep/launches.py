"""Sweep folders and their launches, ordered by a count, not by the clock; no two sweeps share a folder."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from birdclf.files import names, write_whole

SWEEP: Final = "sweep.json"
"""Holds the overrides of a sweep, which identify it when it is launched again, and the number of the launch."""


def words_of(folder: Path) -> list[str] | None:
    """Return the words of the sweep that a folder holds, or None if it holds none."""
    try:
        return list(_read(folder)["words"])
    except (KeyError, TypeError):
        return None


def launch_of(folder: Path) -> int:
    """Return the number of a sweep folder's last launch, counted over its parent folder; 0 if it is unknown."""
    number = _read(folder).get("launch")
    return number if isinstance(number, int) else 0


def launched_before(parent: Path, words: list[str]) -> Path | None:
    """Return the folder of those with a sweep of these words that was launched last, or None if there is none."""
    same = [path.parent for path in parent.glob(f"*/{SWEEP}") if words_of(path.parent) == words]
    return max(same, key=launch_of) if same else None


def note_launch(folder: Path, words: list[str]) -> None:
    """Count a launch of a sweep in a folder, which is made where missing.

    Raises:
        OSError: If it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SWEEP, _content(folder.parent, words))


def new_sweep(folder: Path, words: list[str], share: bool) -> Path:
    """Make a folder for a sweep, of this name or the next free one, and return it.

    Another sweep may have begun in the same second, or the clock was set back. ``share`` takes an existing folder of
    the same words: the same sweep, launched at the same moment.

    Raises:
        OSError: If it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    made.mkdir()
    try:
        (made / SWEEP).write_text(_content(folder.parent, words))
        for name in names(folder):
            try:
                made.rename(name)  # atomic: no process finds it without its words
                return name
            except OSError:
                if not name.exists():
                    raise
            if share and words_of(name) == words:
                return name
    finally:
        shutil.rmtree(made, ignore_errors=True)
    raise AssertionError("there is always another name")


def _content(parent: Path, words: list[str]) -> str:
    launch = 1 + max((launch_of(path.parent) for path in parent.glob(f"*/{SWEEP}")), default=0)
    return json.dumps({"words": words, "launch": launch}, indent=1)


def _read(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / SWEEP).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
