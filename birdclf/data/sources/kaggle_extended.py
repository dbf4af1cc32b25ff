"""The two halves of Kaggle's "Xeno-Canto bird recordings extended" (A-M and N-Z)."""

import csv
import logging
import os
import re
from io import StringIO
from pathlib import Path
from typing import Final, Unpack

import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.data.catalog import COLUMNS, Catalog, Selection, select
from birdclf.data.sources.secondary import label_sets
from birdclf.data.tables import inside, joined_lists, must_be_there, quality, read_csv, read_text, text_column
from birdclf.data.tree import data_root, folders_in, real_paths, stamp_of
from birdclf.errors import UserError

log = logging.getLogger(__name__)

HALVES: Final = ("A-M", "N-Z")
NEEDED: Final = ("xc_id", "ebird_code")
NUMBERS: Final = ("latitude", "longitude")


def kaggle_extended_catalog(root: str, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of Kaggle's extended Xeno-Canto recordings, of both halves or one.

    Each CSV may list both halves; a recording that occurs twice is kept once, and rows of a half that was not
    downloaded are left out. A row's species is its ``species`` (the English name, else the eBird code), its group the
    recordist, its id ``XC<xc_id>``. Further columns: ``quality`` (the rating, NaN where unrated), ``scientific_name``,
    ``common_name``, ``channels`` (a number, 0 where unknown), and the table's other columns as text. Durations and
    rates are those of the table. A row whose file is missing stays in the catalog; the audit sets it aside.

    Args:
        root: Folder with ``A-M/<ebird_code>/XC<id>.mp3``, ``N-Z/...`` and their CSV, directly or in one subfolder for
            each download.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If there is no half or no table, a folder or table cannot be read, a row has no id or code or one
            outside its folder, or none of the recordings exists.
    """
    base = data_root(root, "the unpacked A-M and N-Z downloads")
    places = [base, *folders_in(base)]
    halves = {half: place / half for place in reversed(places) for half in HALVES if os.path.isdir(place / half)}
    sources = [
        path
        for place in places
        if place.name not in HALVES
        for path in sorted(place.glob("*.csv"))
        if set(NEEDED) <= _header(path)
    ]
    if not halves or not sources:
        lacking = "no folder A-M or N-Z" if not halves else f"no CSV with the columns {', '.join(NEEDED)}"
        raise UserError(
            f"data.root={root} holds {lacking}: expected train_extended.csv, A-M/<ebird_code>/XC<id>.mp3 and "
            f"N-Z/<ebird_code>/XC<id>.mp3, or one of the halves."
        )
    table, files = _listed(sources, halves)
    must_be_there(files, sources[0])
    code = table.ebird_code
    name = text_column(table, "species")
    made: dict[str, object] = {
        "recording_id": "XC" + table.xc_id,
        "species": name.where(name != "", code),
        "group": text_column(table, "recordist"),
        "duration_s": pd.to_numeric(text_column(table, "duration"), errors="coerce").astype(float),
        "sample_rate_hz": [leading_number(text) for text in text_column(table, "sampling_rate")],
        "channels": [leading_number(text) for text in text_column(table, "channels")],
        "quality": quality(table),
        "scientific_name": text_column(table, "sci_name"),
        "common_name": name,
        "path": real_paths(files),
        "stamp": [stamp_of(file) for file in files],
        **{
            column: pd.to_numeric(table[column], errors="coerce").astype(float) for column in NUMBERS if column in table
        },
    }
    gone = {*made, *COLUMNS, "recordist", "duration", "sampling_rate", "rating", "sci_name"}
    made |= {str(column): table[column] for column in table if column not in gone}
    title = f"Kaggle extended {base.name}"
    if "secondary_labels" in table:
        made["secondary_labels"] = joined = joined_lists(table, "secondary_labels", sources[0])
        species = name.where(name != "", code)
        others = [names.split(";") for names in joined]
        made["labels"] = label_sets(species, others, title, text_column(table, "sci_name"), code)
    return select(Catalog(pd.DataFrame(made, index=table.index), FileReader(), title), **selection)


def leading_number(text: str) -> int:
    """Return the number at the beginning of a text such as ``44100 (Hz)`` or ``2 (stereo)``, or 0."""
    match = re.match(r"\s*(\d+)", text)
    return int(match[1]) if match else 0


def _header(file: Path) -> set[str]:
    first = next(csv.reader(StringIO(read_text(file), newline="")), [])
    return {name.strip() for name in first}


def _listed(sources: list[Path], halves: dict[str, Path]) -> tuple[pd.DataFrame, list[Path]]:
    """Return the rows of the halves that exist, each recording once, and the file of each."""
    tables = []
    for source in sources:
        table = read_csv(source, NEEDED)
        table["xc_id"] = table.xc_id.str.removeprefix("XC").str.removesuffix(".0")
        tables.append(table.assign(_where=[f"{source}: line {line}" for line in table.index]))
    table = pd.concat(tables, ignore_index=True).fillna("")
    listed = len(table)
    table = table.drop_duplicates("xc_id").reset_index(drop=True)
    home = {path.name: folder for folder in halves.values() for path in folders_in(folder)}
    files: list[Path | None] = []
    for code, number, where in zip(table.ebird_code, table.xc_id, table["_where"], strict=True):
        folder = home.get(code) or halves.get(HALVES[0] if code[0].upper() <= "M" else HALVES[1])
        files.append(inside(folder, f"{code}/XC{number}.mp3", where) if folder else None)
    kept = table[[file is not None for file in files]].drop(columns="_where")
    if listed > len(kept):
        log.info(
            "Kaggle extended: of %d rows, %d repeat a recording and %d are of a half that is not here",
            listed, listed - len(table), len(table) - len(kept),
        )  # fmt: skip
    return kept, [file for file in files if file is not None]
