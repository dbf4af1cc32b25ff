"""A folder a species, any depth below it."""

import os
from pathlib import Path
from typing import Unpack

import pandas as pd

from birdclf.audio.files import EXTENSIONS, FileReader, read_header
from birdclf.catalog.catalog import Catalog
from birdclf.catalog.select import Selection, select
from birdclf.errors import UserError


def stamp_of(path: Path) -> str:
    """Return a text that changes when the file is written anew: its size and time of change."""
    try:
        status = path.stat()
    except OSError:  # a dangling link: the reader will say so
        return "absent"
    return f"{status.st_size}-{status.st_mtime_ns}"


def folder_catalog(root: str, min_duration_s: float = 0.3, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of ``root/<species>/**/*.{wav,flac,ogg,mp3}``.

    Args:
        root: Folder with one folder a species; hidden files and folders are passed over.
        min_duration_s: Shorter recordings are set aside, in seconds.
        **selection: Which of the recordings, see :func:`birdclf.catalog.select.select`.

    Raises:
        UserError: If the folder does not exist, holds no recording, or files outside a species' folder only.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise UserError(f"data.root={root} is not a folder. Point it at a folder that holds one folder a species.")
    rows = []
    for path in _audio_files(base):
        relative = path.relative_to(base)
        if len(relative.parts) < 2:
            continue
        header = read_header(path)
        rows.append(
            {
                "recording_id": relative.as_posix(),
                "species": relative.parts[0],
                "path": str(path.resolve()),
                "duration_s": header.duration_s if header else float("nan"),
                "sample_rate_hz": header.sample_rate_hz if header else 0,
                "stamp": stamp_of(path),
            }
        )
    if not rows:
        raise UserError(
            f"data.root={root} holds no recording: expected {root}/<species>/<name> with one of the endings "
            f"{', '.join(sorted(EXTENSIONS))}."
        )
    return select(Catalog(pd.DataFrame(rows), FileReader(min_duration_s), f"folder {base.name}"), **selection)


def _audio_files(base: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(base):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(folder, name)
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    return found
