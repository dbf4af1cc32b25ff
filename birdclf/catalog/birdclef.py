"""The training recordings of a BirdCLEF competition, in the layouts of 2021 to 2025."""

import ast
import csv
import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Final, Unpack

import pandas as pd

from birdclf.audio.files import FileReader, read_header
from birdclf.catalog.catalog import COLUMNS, Catalog
from birdclf.catalog.folder import stamp_of
from birdclf.catalog.select import Selection, select
from birdclf.errors import UserError

# Table and audio folder of each layout: 2021, 2022 to 2024, 2025.
LAYOUTS: Final = (
    ("train_metadata.csv", "train_short_audio"),
    ("train_metadata.csv", "train_audio"),
    ("train.csv", "train_audio"),
)
LISTS: Final = ("secondary_labels", "type")
NUMBERS: Final = ("latitude", "longitude")


def birdclef_catalog(root: str, min_duration_s: float = 0.3, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of an unpacked BirdCLEF download; the year is told by what is there.

    A row's species is its ``primary_label``, always text; its group is the author. Further columns:
    ``quality`` (the rating, NaN where unrated), ``secondary_labels`` and ``type`` (joined by ``;``),
    ``scientific_name``, ``common_name``, ``license``, ``class_name`` from 2025's ``taxonomy.csv``, and the
    table's other columns as text. A row whose file is missing stays in the catalog: the reader sets it aside.

    Args:
        root: Folder with ``train_metadata.csv`` and ``train_short_audio`` (2021) or ``train_audio`` (2022 to
            2024), or with ``train.csv`` and ``train_audio`` (2025).
        min_duration_s: Shorter recordings are set aside, in seconds.
        **selection: Which of the recordings, see :func:`birdclf.catalog.select.select`.

    Raises:
        UserError: If the folder has none of the layouts or two of them, a table cannot be read, a row has no
            label or file name or one that leaves the audio folder, or none of the recordings is there.
    """
    base = Path(root).expanduser()
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
    made |= {str(name): table[name] for name in table if name not in {*made, *COLUMNS, "author", "rating"}}
    made |= _class_names(base / "taxonomy.csv", table)
    headers = [read_header(file) for file in files]
    made |= {
        "path": [os.path.realpath(file) for file in files],
        "stamp": [stamp_of(file) for file in files],
        "duration_s": [header.duration_s if header else float("nan") for header in headers],
        "sample_rate_hz": [header.sample_rate_hz if header else 0 for header in headers],
    }
    return select(
        Catalog(pd.DataFrame(made, index=table.index), FileReader(min_duration_s), f"BirdCLEF {base.name}"), **selection
    )


def _layout(base: Path, root: str) -> tuple[Path, Path]:
    if not base.is_dir():
        raise UserError(f"data.root={root} is not a folder. Point it at an unpacked BirdCLEF download.")
    found = [(base / table, base / audio) for table, audio in LAYOUTS if _is_pair(base / table, base / audio)]
    expected = "; or ".join(f"{table} and {audio}/" for table, audio in LAYOUTS)
    if not found:
        raise UserError(f"data.root={root} is not a BirdCLEF download: expected {expected} in it.")
    if len(found) > 1:
        raise UserError(
            f"data.root={root} holds {len(found)} BirdCLEF downloads at once. Keep each year in a folder of its own, "
            f"with either {expected}."
        )
    return found[0]


def _is_pair(table: Path, audio: Path) -> bool:
    return table.is_file() and audio.is_dir()


def _class_names(taxonomy: Path, table: pd.DataFrame) -> dict[str, object]:
    """Return the column ``class_name`` (Aves, Insecta, ...) where a taxonomy names it."""
    if not taxonomy.is_file() or "class_name" in table:
        return {}
    names = read_csv(taxonomy, needed=("primary_label",))
    if "class_name" not in names:
        return {}
    known = dict(zip(names.primary_label, names.class_name, strict=True))
    return {"class_name": [known.get(label, "") for label in table.primary_label]}


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

    Nothing is guessed: ``007`` and ``NA`` stay as they are, and an empty cell is the empty text.

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
    return table


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
    """Check that at least one file is there; single missing ones are left to the reader.

    Raises:
        UserError: If none is.
    """
    if files and not any(file.is_file() for file in files):
        raise UserError(
            f"{source}: none of its {len(files)} recordings is there, first {files[0]}. Unpack the recordings too, "
            f"or correct data.root."
        )


def text_column(table: pd.DataFrame, name: str) -> "pd.Series[str]":
    """Return a column, or empty texts where the table has none of that name."""
    return table[name] if name in table else pd.Series("", index=table.index, dtype=str)


def quality(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the column ``rating`` as numbers: 0.5 to 5, and NaN where it is 0 (unrated) or none."""
    rating = pd.to_numeric(text_column(table, "rating"), errors="coerce").astype(float)
    return rating.where(rating > 0)


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
