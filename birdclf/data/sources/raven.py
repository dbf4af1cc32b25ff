"""Raven selection tables beside recordings: each selection is a clip."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Unpack

from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.sources.annotations import (
    BESIDE,
    Annotation,
    AnnotationIndex,
    clips_catalog,
    interval,
    lines_of,
    seconds,
)
from birdclf.data.tables import distinct_columns
from birdclf.data.tree import data_root
from birdclf.errors import UserError

BEGIN: Final = "begin time (s)"
END: Final = "end time (s)"
OFFSET: Final = "file offset (s)"
NAMES: Final = ("begin path", "begin file")  # the path first, which distinguishes files of the same name
# Columns that may hold the species, in order of preference.
LABELS: Final = ("species", "common name", "scientific name", "species code", "annotation", "label", "tags", "class")
# Columns that Raven fills in itself: numbers, files, times, and measurements with a unit in parentheses.
_MEASURED: Final = re.compile(
    r"^(selection|view|channel|occupancy|score|confidence|(begin|end) (file|path|date|clock time|date time))$"
    r"|\((m?s|k?hz|db[^()]*|samples?|frames|bits|u)\)$",
    re.IGNORECASE,
)
_Row = tuple[str, Mapping[str, str]]
"""Location of a row, for messages, and its values by lower-case column."""


def raven_catalog(root: str, annotation: str | None = None, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of the selections in Raven tables (``*.txt``) beside recordings, at any depth.

    ``a.txt``, ``a.selections.txt`` and ``a.Table.1.selections.txt`` belong to ``a.wav``. A table with the columns
    ``Begin File`` or ``Begin Path`` may belong to several recordings, found by name beside it or anywhere below
    ``root``; ``File Offset (s)`` is then the start of a selection, since ``Begin Time (s)`` is cumulative over the
    files. A selection's rows in several views are one clip. A row's species is its annotation, its group the recording,
    its id ``<path>#<start>-<end>``; ``low_hz`` and ``high_hz`` are its frequency range. Selections without annotation
    or length are skipped, as are text files that are not tables. A selection whose recording is missing stays in the
    catalog; the audit sets it aside.

    Args:
        root: Folder of recordings and selection tables; hidden files and folders are skipped.
        annotation: Column with the species' name, in any case; ``None`` takes the first of Species, Common Name,
            Scientific Name, Species Code, Annotation, Label, Tags and Class that a table has.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If the folder does not exist or holds no annotated selection, a table lacks a necessary column or has
            two of one name, a line cannot be read, or a file's name matches several recordings.
    """
    base = data_root(root, BESIDE)
    index = AnnotationIndex(base)
    found = {}
    for file in index.texts:
        table = _table(file)
        if table:
            found[file] = list(_selections(file, *table, index, annotation))
    hint = f"expected Raven tables such as <name>.selections.txt beside <name>.wav, with {BEGIN!r} and {END!r}"
    return select(clips_catalog(base, found, f"Raven {base.name}", hint), **selection)


def _table(file: Path) -> tuple[list[str], list[_Row]] | None:
    """Return a text file's header and rows, or None if it is not a Raven table."""
    try:
        lines = lines_of(file)
    except UserError:
        if _is_table(file):
            raise
        return None  # a note in another encoding
    header = [name.strip() for name in lines[0].split("\t")]
    keys = [name.casefold() for name in header]
    if BEGIN in keys and END in keys:
        distinct_columns(keys, file)
        return header, list(_rows(file, lines, keys))
    if not _is_table(file):
        return None  # a note, a licence
    if any(line.strip() for line in lines):
        raise UserError(
            f"{file} lacks 'Begin Time (s)' or 'End Time (s)' in its first line; it is not a Raven table, which has "
            f"tabs between its columns."
        )
    return header, []


def _selections(
    file: Path, header: list[str], rows: list[_Row], index: AnnotationIndex, annotation: str | None
) -> Iterator[Annotation]:
    if not rows:
        return
    column = _label_column(file, header, annotation)
    named = [_file_name(row) for _, row in rows]
    cumulative = len({name for name in named if name}) > 1
    if cumulative and OFFSET not in rows[0][1]:
        raise UserError(
            f"{file} belongs to several recordings and lacks 'File Offset (s)': its times are cumulative over the "
            f"files. Add that measurement in Raven and save the table again."
        )
    for (where, row), name in zip(rows, named, strict=True):
        start_s, end_s = interval(row[BEGIN], row[END], where)
        if name and row.get(OFFSET):
            length_s = end_s - start_s
            start_s, _ = interval(row[OFFSET], row[OFFSET], where)
            end_s = round(start_s + length_s, 6)  # microseconds, so that ids hold no rounding error
        elif cumulative:
            raise UserError(f"{where} has no file name or no 'File Offset (s)', in a table of several recordings.")
        recording = _named_recording(file, index, row, where) if name else None
        if recording is None and not cumulative:
            recording = index.recording_of(file)
        if recording is None:  # the audit will set it aside
            stem = re.split(r"\.(?:table|selection)", file.stem, flags=re.IGNORECASE)[0]
            recording = file.parent / (name.rpartition("/")[2] or f"{stem}.wav")
        range_hz = (_hertz(row, f"{edge} freq (hz)", where) for edge in ("low", "high"))
        yield Annotation(recording, start_s, end_s, row[column], *range_hz)


def _is_table(file: Path) -> bool:
    """Return whether a text file is meant as a table, by its name or its first bytes."""
    if re.search(r"\.selections?\.txt$", file.name, re.IGNORECASE):
        return True
    try:
        with file.open("rb") as opened:
            return BEGIN.encode() in opened.read(4096).lower()
    except OSError:
        return False


def _rows(file: Path, lines: list[str], keys: list[str]) -> Iterator[_Row]:
    """Yield the location and values of each row; missing values at its end are empty."""
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        words = [word.strip() for word in line.split("\t")]
        if any(words[len(keys) :]):
            raise UserError(f"{where} has {len(words)} values for {len(keys)} columns. Correct or delete the line.")
        yield where, dict.fromkeys(keys, "") | dict(zip(keys, words, strict=False))


def _label_column(file: Path, header: list[str], annotation: str | None) -> str:
    wanted = LABELS if annotation is None else (annotation.strip().casefold(),)
    keys = {name.casefold() for name in header}
    for key in wanted:
        if key in keys and not _MEASURED.search(key):
            return key
    asked = "none of the usual columns for the species" if annotation is None else f"no column {annotation!r}"
    if annotation and wanted[0] in keys:
        asked = f"measurements in {annotation!r}, and no labels"
    others = [name for name in header if name and not _MEASURED.search(name)]
    raise UserError(
        f"{file} has {asked}; it has {', '.join(filter(None, header))}. "
        + (
            f"Name the one that holds the labels, such as data.annotation='{others[-1]}'."
            if others
            else "None of these holds labels: add an annotation column in Raven, such as Species, and fill it in."
        )
    )


def _file_name(row: Mapping[str, str]) -> str:
    """Return the path or name of a row's recording on the annotator's computer, with slashes."""
    given = next((row[key] for key in NAMES if row.get(key)), "")
    return given.replace("\\", "/").rstrip("/")


def _named_recording(file: Path, index: AnnotationIndex, row: Mapping[str, str], where: str) -> Path | None:
    """Return the recording that a row names: beside its table, else the one with the best matching path, or None.

    Only the last part of the name is joined to a folder, so a table cannot name a file outside the root.
    """
    given = _file_name(row)
    name = given.rpartition("/")[2]
    if name in ("", ".", "..") or "\0" in name:
        raise UserError(f"{where} names {given!r}, which is not a file. Correct or delete the line.")
    found = index.by_name.get(name.casefold(), [])
    exact = [path for path in found if path.name == name] or found
    beside = [path for path in exact if path.parent == file.parent]
    if len(beside) == 1 or not exact:
        return beside[0] if beside else None
    tail = given.casefold().split("/")[::-1]
    fits = [_common(tail, path.relative_to(index.base).as_posix().casefold().split("/")[::-1]) for path in exact]
    best = [path for path, fit in zip(exact, fits, strict=True) if fit == max(fits)]
    if len(best) > 1:
        places = ", ".join(str(path) for path in best[:3])
        raise UserError(f"{where} names {given!r}, which may be any of {places}. Put the table beside its recording.")
    return best[0]


def _common(one: list[str], other: list[str]) -> int:
    same = [a == b for a, b in zip(one, other, strict=False)]
    return same.index(False) if False in same else len(same)


def _hertz(row: Mapping[str, str], key: str, where: str) -> float:
    return seconds(row[key], where) if row.get(key) else math.nan
