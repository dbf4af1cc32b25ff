"""Strict reading of the users' text tables: nothing is guessed, and errors name the line."""

import ast
import codecs
import csv
import logging
import math
import os
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Final

import pandas as pd

from birdclf.errors import UserError
from birdclf.files import refuse_pointer
from birdclf.text import printable

log = logging.getLogger(__name__)


def read_text(file: Path) -> str:
    """Return the content of a text file: UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Raises:
        UserError: If it cannot be read, is in another encoding, or is a Git LFS pointer.
    """
    refuse_pointer(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}. Check its permissions.") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise UserError(
                f"{file} begins as UTF-16 but continues in another encoding. Save the file as UTF-8."
            ) from error
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file}: line {line} is not UTF-8 (byte 0x{error.object[error.start]:02X}). Save the file as UTF-8, "
            f"such as with: iconv -f CP1252 -t UTF-8 OLD > NEW"
        ) from error
    if "\0" in text[:2]:
        order = "BE" if text[0] == "\0" else "LE"
        raise UserError(f"{file} is UTF-16. Save it as UTF-8, such as with: iconv -f UTF-16{order} -t UTF-8 OLD > NEW")
    return text


def rows_of(text: str, file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV text and its rows, each with the number of the line where it begins.

    Raises:
        UserError: If another character than a comma separates its columns, a quote is not closed or stands within a
            quoted value, or a row has more or fewer values than the header.
    """
    lines = StringIO(text, newline="").readlines()
    first = re.sub('"[^"]*"', "", next((line for line in lines if line.strip()), ""))
    for character, name in ((";", "semicolons"), ("\t", "tabs")):
        if character in first and "," not in first:
            raise UserError(
                f"{file}: its columns are separated by {name}. Save it with commas between columns, and with points in "
                f"decimal numbers (0.5, not 0,5)."
            )
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    rows, begin = [], 1
    try:
        for row in reader:
            if header is None:
                header = row or None
            elif row and len(row) != len(header):
                where = f"line {begin}" if begin == reader.line_num else f"lines {begin} to {reader.line_num}, one row,"
                raise UserError(
                    f"{file}: {where} has {len(row)} values for {len(header)} columns. Quote values that hold a comma, "
                    f"close each quote, or download the file again."
                )
            elif row:
                rows.append((begin, row))
                more = lines[begin : reader.line_num]
                if any(line.partition('"')[0].count(",") >= len(header) - 1 > 0 for line in more):
                    log.warning(
                        "%s: lines %d to %d are one row, by the quotes around a value. If they are several, close the "
                        "quote of line %d.",
                        printable(file), begin, reader.line_num, _opening(lines, begin, reader.line_num),
                    )  # fmt: skip
            begin = reader.line_num + 1
    except csv.Error as error:
        endless = "end of data" in str(error) or "limit" in str(error)
        line = _opening(lines, begin, reader.line_num + endless)
        closed = "is not closed" if endless else f"is closed within a value, in line {reader.line_num}"
        raise UserError(
            f"{file}: the quote that opens in line {line} {closed}. Close it where its value ends, or double it where "
            f'it belongs to a quoted value ("").'
        ) from error
    return header or [], rows


def _opening(lines: Sequence[str], begin: int, end: int) -> int:
    """Return the last of the lines ``begin`` to ``end - 1`` that opens a quote without closing it, else the first."""
    opening, inside = begin, False
    for number in range(begin, end):
        if lines[number - 1].count('"') % 2:
            inside = not inside
            opening = number if inside else begin
    return opening


def read_csv(file: Path, needed: Sequence[str] = ()) -> pd.DataFrame:
    """Return a CSV table whose cells are all text, stripped, indexed by the number of their line.

    ``007`` and ``NA`` stay as they are, and an empty cell is the empty text. Columns without a name, such as an old row
    number, are dropped.

    Raises:
        UserError: If it cannot be read, is empty, has two columns of one name, lacks a needed column or value,
            or :func:`birdclf.data.tables.rows_of` refuses it.
    """
    header, rows = rows_of(read_text(file), file)
    stripped = [(line, [cell.strip() for cell in row]) for line, row in rows]
    table = _framed([name.strip() for name in header], stripped, file, needed)
    for name in needed:
        if (empty := table[name] == "").any():
            raise UserError(f"{file}: line {table.index[empty][0]} has no {name}. Fill it in or drop the line.")
    return table.drop(columns="", errors="ignore")


def read_own(file: Path, needed: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table written by :func:`csv_text`, with names such as ``NA``, ``007`` or the empty text unchanged.

    Raises:
        UserError: If it is missing or empty, lacks a needed column, or :func:`birdclf.data.tables.rows_of` refuses it.
    """
    if not file.exists():
        raise UserError(f"{file} does not exist. Restore it.")
    header, rows = rows_of(read_text(file), file)
    if not header:
        raise UserError(f"{file} cannot be read as a table: it is empty. Restore it.")
    return _framed(header, rows, file, needed)


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV that :func:`read_own` reads back exactly."""
    text = table.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # csv does not quote it, but readers take it for the end of a line
        text = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return text


def _framed(header: list[str], rows: list[tuple[int, list[str]]], file: Path, needed: Sequence[str]) -> pd.DataFrame:
    distinct_columns(header, file)
    missing = [name for name in needed if name not in header]
    if missing:
        raise UserError(f"{file} lacks the column(s) {', '.join(missing)}; it has {', '.join(header) or 'none'}.")
    index = pd.Index([line for line, _ in rows], dtype=int)
    return pd.DataFrame([row for _, row in rows], columns=header, index=index, dtype=str)


def read_names(file: Path) -> list[str]:
    """Return the names in a list: one per line, with comments after ``#``; or a CSV with a column ``species``.

    Raises:
        UserError: If it cannot be read, or has no name.
    """
    if file.suffix.lower() == ".csv":
        names = read_csv(file, ["species"]).species.tolist()
    else:
        lines = read_text(file).splitlines()
        names = [name for line in lines if (name := re.split(r"(?:^|\s)#", line)[0].strip())]
    if not names:
        raise UserError(f"{file} names no species. Write one per line, as spelled in the run's per_class.csv.")
    return names


def distinct_columns(header: Sequence[str], file: Path) -> None:
    """Check that no two columns share a name."""
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{file} has {header.count(name)} columns named {name!r}. Rename or drop all but one.")


def inside(base: Path, name: str, where: str) -> Path:
    """Return ``base / name``; links below ``base`` are followed.

    Raises:
        UserError: If the name leaves ``base`` or is not a valid file name; the message begins with ``where``.
    """
    tidy = os.path.normpath(name)
    if os.path.isabs(name) or tidy.split(os.sep)[0] in ("..", ".") or "\0" in name:
        raise UserError(f"{where} names {name!r}, which is not a file below {base}. Correct or delete the line.")
    return base / tidy


def must_be_there(files: Sequence[Path], source: Path) -> None:
    """Check that at least one file exists; the audit reports single missing ones."""
    if files and not any(os.path.isfile(file) for file in files):
        raise UserError(
            f"{source}: none of its {len(files)} recordings is there, first {files[0]}. Unpack the recordings too, "
            f"or correct data.root."
        )


def decimal(value: float) -> str:
    """Return a number for an id: at most six decimals, without trailing zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)


def text_column(table: pd.DataFrame, name: str) -> "pd.Series[str]":
    """Return a column, or empty texts if the table has no such column."""
    return table[name] if name in table else pd.Series("", index=table.index, dtype=str)


def joined_lists(table: pd.DataFrame, name: str, source: Path) -> list[str]:
    """Return a column of Python lists such as ``['a', 'b']`` as ``a;b``; other cells are not changed.

    Raises:
        UserError: If a cell begins like a list but is not one.
    """
    joined = []
    for line, cell in zip(table.index, table[name], strict=True):
        if cell.startswith("["):
            try:
                cell = ";".join(str(item).strip() for item in ast.literal_eval(cell) if str(item).strip())
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
                raise UserError(
                    f"{source}: line {line} has {name} {cell[:80]!r}, which is not a list such as ['a', 'b']. "
                    f"Correct the line or download the file again."
                ) from error
        joined.append(cell)
    return joined


def quality(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the column ``rating`` as numbers: 0.5 to 5, and NaN where it is 0 (unrated) or not a number."""
    rating = pd.to_numeric(text_column(table, "rating"), errors="coerce").astype(float)
    return rating.where(rating > 0)


LONGEST_BYTES: Final = 200  # file systems allow 255; an extension and a hash are added
RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""


def safe_name(text: str) -> str:
    """Return a name that is valid on every file system and stays in its folder; empty if no character is left."""
    kept = re.sub(r"[^\w.\- ]", "_", text).strip(" .")
    cut = kept.encode("utf-8")[:LONGEST_BYTES].decode("utf-8", errors="ignore").rstrip(" .")
    return f"_{cut}" if RESERVED.fullmatch(cut) else cut
