"""A CSV or Parquet table of recordings."""

import os
from pathlib import Path
from typing import Final, Unpack

import pandas as pd
import pyarrow.parquet
from pandas.api.types import infer_dtype

from birdclf.audio.files import FileReader
from birdclf.data.catalog import COLUMNS, Catalog, Selection, select
from birdclf.data.tables import decimal, distinct_columns, joined_lists, read_csv
from birdclf.data.tree import ABSENT, real_paths, stamp_of
from birdclf.errors import UserError
from birdclf.files import refuse_pointer
from birdclf.targets import NONE

NEEDED: Final = ("path", "species")
TEXT: Final = ("string", "integer", "categorical", "empty")
NUMERIC: Final = ("string", "floating", "integer", "mixed-integer-float", "decimal", "empty")
NUMBERS: Final = ("start_s", "end_s", "duration_s", "sample_rate_hz")


def manifest_catalog(
    path: str, allow_outside: bool = False, allow_absent: bool = False, **selection: Unpack[Selection]
) -> Catalog:
    """Return the catalog of a table with ``path`` and ``species``, one row a recording.

    Further columns: ``labels`` (all species that are heard: a list, or separated by ``;``; by default ``species``
    alone), ``recording_id`` (by default from path and interval), ``group``, ``start_s`` and ``end_s`` (an
    interval of the file, in seconds), ``duration_s``, ``sample_rate_hz`` and ``split``; any other column is kept. Paths
    are relative to the table. A CSV is UTF-8; its cells are text except the numbers listed here. In Parquet, names are
    text or whole numbers, and times may be durations.

    Args:
        path: The table, ending in ``.csv`` or ``.parquet``.
        allow_outside: Allow files outside the table's folder, after links are resolved.
        allow_absent: Allow some of the files, not all, to be missing.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If the table or a column is missing, two columns share a name, a cell cannot be read, or a row names
            a file that does not exist or lies outside the table's folder and that is not allowed.
    """
    file = Path(path).expanduser()
    table = _read(file)
    missing = [column for column in NEEDED if column not in table.columns]
    if missing:
        raise UserError(
            f"data.path={path} lacks the column(s) {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns)) or 'none'}. A manifest needs 'path' and 'species'."
        )
    for column in (*NEEDED, "recording_id"):
        if column not in table.columns:
            continue
        if (kind := infer_dtype(table[column], skipna=True)) not in TEXT:
            raise UserError(f"{path}: column {column} holds values of the type {kind}; save it as text.")
        empty = (table[column].isna() | (table[column] == "")).to_numpy()
        if empty.any():
            raise UserError(f"{path}: row {int(empty.argmax()) + 1} has no {column}. Fill it in or drop the row.")
    names = table.path.astype(str).tolist()
    resolved, stamps = _located(file, names, allow_outside, allow_absent)
    numbers = {column: _numbers(table, column, file) for column in NUMBERS}
    start_s, end_s = numbers["start_s"], numbers["end_s"]
    backwards = ~((start_s >= 0) & (end_s > start_s)).to_numpy()
    if backwards.any():
        row = int(backwards.argmax())
        raise UserError(
            f"{path}: {names[row]} has start_s={start_s.iloc[row]:g} and end_s={end_s.iloc[row]:g}; it must be "
            f"0 <= start_s < end_s."
        )
    if "labels" in table.columns:
        table["labels"] = pd.Series(pd.array(_labels(table, file), dtype=object), index=table.index)
    table = table.assign(
        path=resolved,
        stamp=stamps,
        group=table["group"].astype(object).fillna("") if "group" in table.columns else "",
        **numbers,
    )
    if "recording_id" not in table.columns:
        table["recording_id"] = [
            Path(name).as_posix() + ("" if (start, end) == (0, float("inf")) else f"#{decimal(start)}-{decimal(end)}")
            for name, start, end in zip(names, start_s, end_s, strict=True)
        ]
    return select(Catalog(table, FileReader(), f"manifest {file.name}"), **selection)


def _read(file: Path) -> pd.DataFrame:
    """Return the table; a CSV's empty cells are missing values, as they are in Parquet."""
    if not os.path.isfile(file):
        raise UserError(f"data.path={file} does not exist. Point it at a .csv or .parquet manifest.")
    kind = file.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UserError(f"data.path={file} ends in {file.suffix!r}; a manifest is a .csv or a .parquet file.")
    if kind == ".csv":
        table = read_csv(file)
        return table.mask(table == "")
    refuse_pointer(file)
    try:
        distinct_columns(pyarrow.parquet.read_schema(file).names, file)
        return pd.read_parquet(file)
    except (ValueError, OSError) as error:
        raise UserError(f"data.path={file} cannot be read as a table: {error}") from error


def _labels(table: pd.DataFrame, file: Path) -> list[set[str]]:
    """Return the labels of each row, its species among them."""
    texts = table.labels.map(lambda cell: "" if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell)
    texts = texts.map(lambda cell: cell if isinstance(cell, str) else ";".join(map(str, cell)))
    made = []
    for joined, species in zip(joined_lists(table.assign(labels=texts), "labels", file), table.species, strict=True):
        names = {name.strip() for name in joined.split(";")} - {"", NONE}
        if names and species == NONE:
            raise UserError(f"{file}: a row of the species {NONE!r} has the labels {joined!r}. Empty or correct it.")
        made.append(names | ({str(species)} - {NONE}))
    return made


def _located(file: Path, names: list[str], allow_outside: bool, allow_absent: bool) -> tuple[list[str], list[str]]:
    """Return the resolved paths of the files that a manifest names, and their stamps."""
    folder = os.fspath(file.parent)
    files = [os.path.join(folder, name) for name in names]
    stamps = [stamp_of(target) for target in files]
    absent = [name for name, stamp in zip(names, stamps, strict=True) if stamp == ABSENT]
    if absent and not (allow_absent and len(absent) < len(names)):
        raise UserError(
            f"{file}: {len(absent)} of {len(names)} rows name a file that does not exist, first {absent[0]!r}. "
            f"Paths are relative to {folder}."
        )
    resolved = real_paths(files)
    home = os.path.join(os.path.realpath(folder), "")
    outside = [name for name, target in zip(names, resolved, strict=True) if not target.startswith(home)]
    if outside and not allow_outside:
        raise UserError(
            f"{file}: {len(outside)} of {len(names)} rows name a file outside {folder}, first {outside[0]!r}. "
            f"Correct the path, or accept such files with data.allow_outside=true."
        )
    return resolved, stamps


def _numbers(table: pd.DataFrame, column: str, file: Path) -> "pd.Series[float]":
    """Return a column as numbers, its default where it is missing or empty; durations become seconds."""
    default = COLUMNS[column]
    if column not in table.columns:
        return pd.Series(default, index=table.index)
    given, kind = table[column], infer_dtype(table[column], skipna=True)
    try:
        if kind.startswith("timedelta") and column.endswith("_s"):
            numbers = pd.to_timedelta(given).dt.total_seconds()
        elif kind in NUMERIC:
            numbers = pd.to_numeric(given).astype(float)
        else:
            raise UserError(f"{file}: column {column} holds values of the type {kind}; save it as numbers.")
        return numbers.fillna(default).astype(type(default))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{file}: column {column} must hold numbers, with a point before decimals: {error}. Correct the cell."
        ) from error
