"""Folders of recordings, one per species."""

import os
from pathlib import Path
from typing import Unpack

import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.audio.formats import ENDINGS, is_sound
from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.tree import data_root, real_paths, stamp_of, walk
from birdclf.errors import UserError


def folder_catalog(root: str, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of ``root/<species>/**/*`` with the endings of :mod:`birdclf.audio.formats`.

    Links to files and folders are followed, except links to folders that are listed anyway. A folder that cannot be
    read, and files with other extensions, are logged and skipped; a file that cannot be read, or a broken link, stays
    in the catalog, and the audit sets it aside.

    Args:
        root: Folder with one folder per species; hidden files and folders are skipped.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If the folder does not exist, cannot be read, or has no recording in a species' folder.
    """
    base = data_root(root, "a folder that holds one folder per species")
    ids: list[str] = []
    files: list[str] = []
    for folder, names in walk(base, is_sound):
        below = Path(folder).relative_to(base).as_posix()
        if below != ".":
            ids += [f"{below}/{name}" for name in names]
            files += [os.path.join(folder, name) for name in names]
    if not ids:
        raise UserError(
            f"data.root={root} holds no recording: expected {root}/<species>/<name> with one of the endings {ENDINGS}."
        )
    table = pd.DataFrame(
        {
            "recording_id": ids,
            "species": [name.partition("/")[0] for name in ids],
            "path": real_paths(files),
            "stamp": [stamp_of(file) for file in files],
        }
    )
    return select(Catalog(table, FileReader(), f"folder {base.name}"), **selection)
