"""A CSV or Parquet table of recordings."""

from pathlib import Path
from typing import Unpack

import pandas as pd

from birdclf.audio.files import FileReader, read_header
from birdclf.catalog.catalog import Catalog
from birdclf.catalog.folder import stamp_of
from birdclf.catalog.select import Selection, select
from birdclf.errors import UserError


def manifest_catalog(path: str, min_duration_s: float = 0.3, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of a table with ``path`` and ``species``, one row a recording.

    Further columns: ``recording_id`` (else made from path and stretch), ``group``, ``start_s`` and ``end_s``
    (a stretch of the file, in seconds) and ``split``; any other column is carried along. Paths are relative to
    the table.

    Args:
        path: The table, ending in ``.csv`` or ``.parquet``.
        min_duration_s: Shorter recordings are set aside, in seconds.
        **selection: Which of the recordings, see :func:`birdclf.catalog.select.select`.

    Raises:
        UserError: If the table or a column is missing, or a row names a file that does not exist.
    """
    file = Path(path).expanduser()
    table = given = _read(file)
    missing = [column for column in ("path", "species") if column not in table.columns]
    if missing:
        raise UserError(
            f"data.path={path} lacks the column(s) {', '.join(missing)}; it has {', '.join(map(str, table.columns))}. "
            f"A manifest needs 'path' and 'species'."
        )
    for column in ("path", "species", "recording_id"):
        if column not in table.columns:
            continue
        if table[column].isna().any():
            row = int(table[column].isna().to_numpy().argmax())
            raise UserError(f"{path}: row {row + 1} has no {column}. Fill it in or drop the row.")
    files = [file.parent / str(name) for name in table.path]
    absent = [name for name, target in zip(table.path, files, strict=True) if not target.is_file()]
    if absent:
        raise UserError(
            f"{path}: {len(absent)} of {len(table)} rows name a file that does not exist, first {absent[0]!r}. "
            f"Paths are relative to {file.parent}."
        )
    table = table.astype({"species": str}).assign(
        path=[str(target.resolve()) for target in files],
        stamp=[stamp_of(target) for target in files],
        start_s=_seconds(table, "start_s", 0.0, path),
        end_s=_seconds(table, "end_s", float("inf"), path),
        group=table["group"].fillna("").astype(str) if "group" in table.columns else "",
    )
    backwards = table[(table.start_s < 0) | (table.end_s <= table.start_s)]
    if len(backwards):
        first = backwards.iloc[0]
        raise UserError(
            f"{path}: {first.path} has start_s={first.start_s:g} and end_s={first.end_s:g}; it must be "
            f"0 <= start_s < end_s."
        )
    if "recording_id" not in table.columns:
        names = [Path(str(name)).as_posix() for name in given.path]
        spans = [
            "" if start == 0 and end == float("inf") else f"#{start:g}-{end:g}"
            for start, end in zip(table.start_s, table.end_s, strict=True)
        ]
        table["recording_id"] = [name + span for name, span in zip(names, spans, strict=True)]
    headers = {name: read_header(Path(name)) for name in table.path.unique()}
    rates, lengths = [], []
    for name, start, end in zip(table.path, table.start_s, table.end_s, strict=True):
        header = headers[name]
        rates.append(header.sample_rate_hz if header else 0)
        lengths.append(max(0.0, min(end, header.duration_s) - start) if header else float("nan"))
    table = table.assign(sample_rate_hz=rates, duration_s=lengths)
    return select(Catalog(table, FileReader(min_duration_s), f"manifest {file.name}"), **selection)


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise UserError(f"data.path={file} does not exist. Point it at a .csv or .parquet manifest.")
    kind = file.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UserError(f"data.path={file} ends in {file.suffix!r}; a manifest is a .csv or a .parquet file.")
    try:
        # Names stay text: 007 is no number and NA is a name. Only an empty cell is empty.
        names = dict.fromkeys(("recording_id", "path", "species", "group", "split"), str)
        csv = {"dtype": names, "keep_default_na": False, "na_values": [""]}
        return pd.read_csv(file, **csv) if kind == ".csv" else pd.read_parquet(file)  # type: ignore[call-overload]
    except (ValueError, OSError) as error:
        raise UserError(f"data.path={file} cannot be read as a table: {error}") from error


def _seconds(table: pd.DataFrame, column: str, default: float, path: str) -> "pd.Series[float]":
    if column not in table.columns:
        return pd.Series(default, index=table.index, dtype=float)
    try:
        return pd.to_numeric(table[column]).astype(float).fillna(default)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: column {column} must hold seconds as numbers: {error}") from error
