"""Sound files that a table lists, with groups and intervals."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow.parquet
from pandas.api.types import infer_dtype

from birdclf.data.tables import decimal, distinct_columns, read_csv
from birdclf.data.tree import ABSENT, real_paths, stamp_of
from birdclf.errors import UserError
from birdclf.files import refuse_pointer

TEXT: Final = ("string", "integer", "categorical", "empty")
NUMERIC: Final = ("string", "floating", "integer", "mixed-integer-float", "decimal", "empty")
NUMBERS: Final = {"start_s": 0.0, "end_s": float("inf"), "duration_s": float("nan"), "sample_rate_hz": 0}
"""Columns of numbers, and their values where there is none."""


def listed(
    path: str, key: str, needed: Sequence[str], allow_outside: bool = False, allow_absent: bool = False
) -> pd.DataFrame:
    """Return the rows of a table of sound files, with the columns of a catalog that can be known from it.

    Args:
        path: The table, ending in ``.csv`` or ``.parquet``, as :func:`birdclf.data.sources.manifest.manifest_catalog`
            describes it.
        key: The setting that names it, for messages.
        needed: Columns that it must have and fill in, ``path`` among them.
        allow_outside: Allow files outside the table's folder, after links are resolved.
        allow_absent: Allow some of the files, not all, to be missing.

    Raises:
        UserError: If the table or a column is missing, two columns share a name, a cell cannot be read, or a row names
            a file that does not exist or lies outside the table's folder and that is not allowed.
    """
    file = Path(path).expanduser()
    table = _read(file, key)
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise UserError(
            f"{key}={path} lacks the column(s) {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns)) or 'none'}. A manifest needs {' and '.join(map(repr, needed))}."
        )
    for column in (*needed, "recording_id"):
        if column not in table.columns:
            continue
        if (kind := infer_dtype(table[column], skipna=True)) not in TEXT:
            raise UserError(f"{path}: column {column} holds values of the type {kind}; save it as text.")
        empty = (table[column].isna() | (table[column] == "")).to_numpy()
        if empty.any():
            raise UserError(f"{path}: row {int(empty.argmax()) + 1} has no {column}. Fill it in or drop the row.")
    names = table.path.astype(str).tolist()
    resolved, stamps = _located(file, key, names, allow_outside, allow_absent)
    numbers = {column: _numbers(table, column, file) for column in NUMBERS}
    start_s, end_s = numbers["start_s"], numbers["end_s"]
    backwards = ~((start_s >= 0) & (end_s > start_s)).to_numpy()
    if backwards.any():
        row = int(backwards.argmax())
        raise UserError(
            f"{path}: {names[row]} has start_s={start_s.iloc[row]:g} and end_s={end_s.iloc[row]:g}; it must be "
            f"0 <= start_s < end_s."
        )
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
    return table


def _read(file: Path, key: str) -> pd.DataFrame:
    """Return the table; a CSV's empty cells are missing values, as they are in Parquet."""
    if not os.path.isfile(file):
        raise UserError(f"{key}={file} does not exist. Point it at a .csv or .parquet manifest.")
    kind = file.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UserError(f"{key}={file} ends in {file.suffix!r}; a manifest is a .csv or a .parquet file.")
    if kind == ".csv":
        table = read_csv(file)
        return table.mask(table == "")
    refuse_pointer(file)
    try:
        distinct_columns(pyarrow.parquet.read_schema(file).names, file)
        return pd.read_parquet(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{key}={file} cannot be read as a table: {error}") from error


def _located(
    file: Path, key: str, names: list[str], allow_outside: bool, allow_absent: bool
) -> tuple[list[str], list[str]]:
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
        way = "accept such files with data.allow_outside=true" if key == "data.path" else "move the table above them"
        raise UserError(
            f"{file}: {len(outside)} of {len(names)} rows name a file outside {folder}, first {outside[0]!r}. "
            f"Correct the path, or {way}."
        )
    return resolved, stamps


def _numbers(table: pd.DataFrame, column: str, file: Path) -> "pd.Series[float]":
    """Return a column as numbers, its default where it is missing or empty; durations become seconds."""
    default = NUMBERS[column]
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
