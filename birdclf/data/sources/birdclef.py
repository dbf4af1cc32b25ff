"""The training recordings of a BirdCLEF competition, in the layouts of 2021 to 2025."""

import os
from pathlib import Path
from typing import Final, Unpack

import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.data.catalog import COLUMNS, Catalog, Selection, select
from birdclf.data.sources.secondary import label_sets
from birdclf.data.tables import inside, joined_lists, must_be_there, quality, read_csv, text_column
from birdclf.data.tree import data_root, real_paths, stamp_of
from birdclf.errors import UserError

# Table and audio folder of each layout: 2021, 2022 to 2024, 2025.
LAYOUTS: Final = (
    ("train_metadata.csv", "train_short_audio"),
    ("train_metadata.csv", "train_audio"),
    ("train.csv", "train_audio"),
)
LISTS: Final = ("secondary_labels", "type")
NUMBERS: Final = ("latitude", "longitude")


def birdclef_catalog(root: str, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of an unpacked BirdCLEF download; its layout decides the year.

    A row's species is its ``primary_label``, always text; its group is the author. Further columns: ``quality`` (the
    rating, NaN where unrated), ``secondary_labels`` (which also are in ``labels``, where they are a species of this
    source) and ``type`` (joined by ``;``), ``scientific_name``,
    ``common_name``, ``license``, ``class_name`` from 2025's ``taxonomy.csv``, and the table's other columns as text. A
    row whose file is missing stays in the catalog; the audit sets it aside.

    Args:
        root: Folder with ``train_metadata.csv`` and ``train_short_audio`` (2021) or ``train_audio`` (2022 to
            2024), or with ``train.csv`` and ``train_audio`` (2025).
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If the folder has none of the layouts or two of them, a table cannot be read, a row has no label or
            file name or one outside the audio folder, or none of the recordings exists.
    """
    base = data_root(root, "an unpacked BirdCLEF download")
    source, audio = _layout(base, root)
    table = read_csv(source, needed=("primary_label", "filename"))
    files = [
        inside(audio, name if "/" in name else f"{label}/{name}", f"{source}: line {line}")  # 2021: the bare name
        for line, label, name in zip(table.index, table.primary_label, table.filename, strict=True)
    ]
    must_be_there(files, source)
    made: dict[str, object] = {
        "recording_id": [file.relative_to(audio).as_posix() for file in files],
        "species": table.primary_label,
        "group": text_column(table, "author"),
        "quality": quality(table),
        **{name: joined_lists(table, name, source) for name in LISTS if name in table},
        **{name: pd.to_numeric(table[name], errors="coerce").astype(float) for name in NUMBERS if name in table},
    }
    title = f"BirdCLEF {base.name}"
    secondary = pd.Series(made.get("secondary_labels", ""), index=table.index).str.split(";")
    made["labels"] = label_sets(table.primary_label, secondary, title)
    made |= {str(name): table[name] for name in table if name not in {*made, *COLUMNS, "author", "rating"}}
    made |= _class_names(base / "taxonomy.csv", table)
    made |= {"path": real_paths(files), "stamp": [stamp_of(file) for file in files]}
    return select(Catalog(pd.DataFrame(made, index=table.index), FileReader(), title), **selection)


def _layout(base: Path, root: str) -> tuple[Path, Path]:
    pairs = [(base / table, base / audio) for table, audio in LAYOUTS]
    found = [pair for pair in pairs if os.path.isfile(pair[0]) and os.path.isdir(pair[1])]
    expected = "; or ".join(f"{table} and {audio}/" for table, audio in LAYOUTS)
    if not found:
        raise UserError(f"data.root={root} is not a BirdCLEF download: expected {expected} in it.")
    if len(found) > 1:
        raise UserError(
            f"data.root={root} holds {len(found)} BirdCLEF downloads at once. Keep each year in a folder of its own, "
            f"with either {expected}."
        )
    return found[0]


def _class_names(taxonomy: Path, table: pd.DataFrame) -> dict[str, object]:
    """Return the column ``class_name`` (Aves, Insecta, ...) if the taxonomy has it."""
    if not os.path.isfile(taxonomy) or "class_name" in table:
        return {}
    names = read_csv(taxonomy, needed=("primary_label",))
    if "class_name" not in names:
        return {}
    known = dict(zip(names.primary_label, names.class_name, strict=True))
    return {"class_name": [known.get(label, "") for label in table.primary_label]}
