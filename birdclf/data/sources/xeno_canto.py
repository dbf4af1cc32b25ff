"""A folder that ``birdclf fetch xeno-canto`` filled."""

import os
from pathlib import Path
from typing import Unpack

import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.data.catalog import GRADES, Catalog, Selection, select
from birdclf.data.sources.fetch.download import read_ledger
from birdclf.data.sources.secondary import label_sets
from birdclf.data.tables import text_column
from birdclf.data.tree import real_paths, stamp_of
from birdclf.errors import UserError

NEEDED = ("id", "species", "recordist", "quality", "length", "file")


def length_s(text: str) -> float:
    """Return the seconds of a length such as ``1:05`` or ``1:02:03``; NaN for any other text."""
    parts = text.strip().split(":")
    if not 1 < len(parts) < 4 or not all(part.isdecimal() for part in parts):
        return float("nan")
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return float(seconds)


def xeno_canto_catalog(root: str, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of a folder with ``recordings.csv``, as ``birdclf fetch xeno-canto`` writes it.

    ``recording_id`` is ``XC<id>``, ``species`` the English name (the scientific one where there is none) and ``group``
    the recordist; ``duration_s`` is the listed length; ``quality`` is 5 for A to 1 for E and NaN without a grade.
    ``scientific_name``, ``genus``, ``date``, ``licence`` and the other columns are kept.

    Args:
        root: The folder that was given to ``--out``.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If the folder has no ``recordings.csv`` or fetch did not write it, a file lies outside the folder, or
            none of the files exists.
    """
    base = Path(root).expanduser()
    table = _read(base, root)
    files = [base / name for name in table["file"]]
    outside = [name for name in table["file"] if Path(name).is_absolute() or {"..", "\0"} & {*Path(name).parts, *name}]
    if outside:
        raise UserError(
            f"{base / 'recordings.csv'} names a file outside its folder, {outside[0]!r}. Fetch the recordings again, "
            f"or list them in a manifest for data=manifest with data.allow_outside=true."
        )
    if not any(os.path.isfile(path) for path in files):
        raise UserError(
            f"data.root={root}: none of the {len(files)} files that recordings.csv lists is there. Run the birdclf "
            f"fetch command again; it fetches what is missing."
        )
    table = table.assign(
        recording_id="XC" + table["id"],
        group=table["recordist"],
        path=real_paths(files),
        stamp=[stamp_of(path) for path in files],
        quality=table["quality"].str.strip().str.upper().map(GRADES).astype(float),
        duration_s=[length_s(text) for text in table["length"]],
    )
    name = f"xeno-canto {base.name}"
    others = text_column(table, "also").str.split(r"\s*[;,|]\s*", regex=True)
    table["labels"] = label_sets(table["species"], others, name, text_column(table, "scientific_name"))
    return select(Catalog(table.drop(columns=["id", "file"]), FileReader(), name), **selection)


def _read(base: Path, root: str) -> pd.DataFrame:
    file = base / "recordings.csv"
    if not os.path.isfile(file):
        raise UserError(
            f"data.root={root} has no recordings.csv. Fill a folder with: "
            f'birdclf fetch xeno-canto "gen:turdus q:A" --out {root}'
        )
    header, rows = read_ledger(file)
    table = pd.DataFrame(list(rows.values()), columns=header, dtype=str)
    missing = [column for column in NEEDED if column not in table.columns]
    if missing:
        raise UserError(
            f"{file} lacks the column(s) {', '.join(missing)}, so birdclf fetch did not write it. Use data=manifest "
            f"for other tables."
        )
    return table
