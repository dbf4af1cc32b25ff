"""Text tables as users have them: read without guessing, refused with the line that is wrong."""

import ast
import csv
import math
import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pandas as pd

from birdclf.errors import UserError


def read_text(file: Path) -> str:
    """Return a text file's content, UTF-8 with or without a byte-order mark.

    Raises:
        UserError: If it cannot be read or is not UTF-8.
    """
    try:
        data = file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}. Check its permissions.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file}: line {line} is not UTF-8 (byte 0x{error.object[error.start]:02X}). Save the file as UTF-8, "
            f"such as with: iconv -f LATIN1 -t UTF-8 OLD > NEW"
        ) from error


def read_csv(file: Path, needed: Sequence[str] = ()) -> pd.DataFrame:
    """Return a CSV table whose cells are all text, stripped, indexed by the number of their line.

    Nothing is guessed: ``007`` and ``NA`` stay as they are, and an empty cell is the empty text. Columns without a
    name, such as an old row number, are dropped.

    Args:
        file: The table.
        needed: Columns that must be there, with a value in every row.

    Raises:
        UserError: If it cannot be read, is empty, has two columns of one name, lacks a needed column or value,
            or a line has more or fewer values than the header.
    """
    reader = csv.reader(StringIO(read_text(file), newline=""))
    rows, numbers = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        for row in reader:
            if len(row) == len(header):
                rows.append([cell.strip() for cell in row])
                numbers.append(reader.line_num)
            elif row:
                raise UserError(
                    f"{file}: line {reader.line_num} has {len(row)} values for {len(header)} columns. Quote values "
                    f"that hold a comma, or download the file again."
                )
    except csv.Error as error:
        raise UserError(f"{file}: line {reader.line_num} cannot be read as a table: {error}.") from error
    distinct_columns(header, file)
    missing = [name for name in needed if name not in header]
    if missing:
        raise UserError(f"{file} lacks the column(s) {', '.join(missing)}; it has {', '.join(header) or 'none'}.")
    table = pd.DataFrame(rows, columns=header, index=pd.Index(numbers, dtype=int), dtype=str)
    for name in needed:
        if (empty := table[name] == "").any():
            raise UserError(f"{file}: line {table.index[empty][0]} has no {name}. Fill it in or drop the line.")
    return table.drop(columns="", errors="ignore")


def distinct_columns(header: Sequence[str], file: Path) -> None:
    """Check that no two columns share a name.

    Raises:
        UserError: If two do.
    """
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{file} has {header.count(name)} columns named {name!r}. Rename or drop all but one.")


def inside(base: Path, name: str, where: str) -> Path:
    """Return ``base / name``; links that lie below ``base`` are the user's own and are followed.

    Raises:
        UserError: If the name leaves ``base`` or cannot be a file's name; the message opens with ``where``.
    """
    tidy = os.path.normpath(name)
    if os.path.isabs(name) or tidy.split(os.sep)[0] in ("..", ".") or "\0" in name:
        raise UserError(f"{where} names {name!r}, which is not a file below {base}. Correct or drop the line.")
    return base / tidy


def must_be_there(files: Sequence[Path], source: Path) -> None:
    """Check that at least one file is there; single missing ones are left to the audit.

    Raises:
        UserError: If none is.
    """
    if files and not any(os.path.isfile(file) for file in files):
        raise UserError(
            f"{source}: none of its {len(files)} recordings is there, first {files[0]}. Unpack the recordings too, "
            f"or correct data.root."
        )


def decimal(value: float) -> str:
    """Return a number for use in an id: no more than six decimals, and no zeros at its end."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)


def text_column(table: pd.DataFrame, name: str) -> "pd.Series[str]":
    """Return a column, or empty texts where the table has none of that name."""
    return table[name] if name in table else pd.Series("", index=table.index, dtype=str)


def joined_lists(table: pd.DataFrame, name: str, source: Path) -> list[str]:
    """Return a column of Python lists such as ``['a', 'b']`` as ``a;b``; a cell that is no list stays as it is.

    Raises:
        UserError: If a cell opens like a list and is none.
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
    """Return the column ``rating`` as numbers: 0.5 to 5, and NaN where it is 0 (unrated) or none."""
    rating = pd.to_numeric(text_column(table, "rating"), errors="coerce").astype(float)
    return rating.where(rating > 0)
