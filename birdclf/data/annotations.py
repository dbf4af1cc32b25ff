"""Annotation files of Raven and Audacity, and the recordings that they belong to."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from birdclf.audio.formats import FORMAT_OF, is_sound
from birdclf.data.tables import distinct_columns, read_text
from birdclf.data.tree import walk
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
# Parts that programs insert between a recording's name and the .txt of its annotations.
_ENDING = re.compile(
    rf"(\.(selections?|table|results|birdnet|table\.\d+|\d+)|{'|'.join(map(re.escape, FORMAT_OF))})$", re.IGNORECASE
)


class Annotation(NamedTuple):
    """A labelled interval of a recording: times in seconds, frequencies in Hz; NaN and empty where not given."""

    file: Path
    start_s: float
    end_s: float
    species: str
    low_hz: float = float("nan")
    high_hz: float = float("nan")
    confidence: float = float("nan")
    annotator: str = ""


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text file with any line endings.

    Raises:
        UserError: If it cannot be read.
    """
    return read_text(file).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def seconds(text: str, where: str) -> float:
    """Return a number, with a decimal point or comma.

    Raises:
        UserError: If it is not a finite number.
    """
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} has {text.strip()[:60]!r} instead of a number. Correct or delete the line.")
    return value


def interval(start: str, end: str, where: str) -> tuple[float, float]:
    """Return start and end in seconds.

    Raises:
        UserError: If one is not a number, the start is negative or the end is before the start.
    """
    start_s, end_s = seconds(start, where), seconds(end, where)
    if not 0 <= start_s <= end_s:
        raise UserError(
            f"{where} runs from {start_s:g} to {end_s:g} s; it must be 0 <= start <= end. Correct the line."
        )
    return start_s, end_s


class AnnotationIndex:
    """Recordings and annotation files below a folder, by name.

    Args:
        base: Folder of the recordings.
        endings: Of annotation files, in lower case.
        elsewhere: Folder of annotation files that has the same subfolders; None takes those below ``base``.

    Raises:
        UserError: If it cannot be read.
    """

    def __init__(self, base: Path, endings: tuple[str, ...] = (".txt",), elsewhere: Path | None = None) -> None:
        self.base = base
        self.texts_base = elsewhere or base
        self.texts: list[Path] = []
        self.by_name: defaultdict[str, list[Path]] = defaultdict(list)
        self._beside: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
        for folder, names in walk(base, lambda name: is_sound(name) or name.lower().endswith(endings)):
            for name in names:
                path = Path(folder, name)
                if is_sound(name):
                    for key in {path.name, path.stem}:
                        self.by_name[key.casefold()].append(path)
                        self._beside[path.parent, key].append(path)
                elif elsewhere is None:
                    self.texts.append(path)
        if elsewhere is not None:
            for folder, names in walk(elsewhere, lambda name: name.lower().endswith(endings)):
                self.texts += [Path(folder, name) for name in names]

    @property
    def recordings(self) -> list[Path]:
        """All recordings, sorted."""
        return sorted({path for paths in self.by_name.values() for path in paths})

    def recording_of(self, text: Path) -> Path | None:
        """Return the recording beside a text file, or at its place below the base, that has its name, or None.

        ``a.txt``, ``a.wav.txt``, ``a.selections.txt`` and ``a.Table.1.selections.txt`` belong to ``a.wav``.

        Raises:
            UserError: If two recordings have the name.
        """
        name, folder = text.stem, text.parent
        if folder.is_relative_to(self.texts_base):
            folder = self.base / folder.relative_to(self.texts_base)
        while True:
            beside = self._beside.get((folder, name), [])
            if len(beside) > 1:
                names = " and ".join(path.name for path in beside)
                raise UserError(f"{text} may belong to {names}. Name it {beside[0].name}.txt, or keep one of them.")
            if beside:
                return beside[0]
            ending = _ENDING.search(name)
            if not ending:
                return None
            name = name[: ending.start()]

    def named(self, given: str, file: Path, where: str) -> Path | None:
        """Return the recording that a table names: beside the table, else the one with the best matching path, or None.

        Only the last part of the name is joined to a folder, so a table cannot name a file outside the root.

        Args:
            given: Name or path of the recording, possibly on another computer.
            file: The table.
            where: Its line, for messages.

        Raises:
            UserError: If it is no file's name, or matches several recordings.
        """
        tail = given.replace("\\", "/").rstrip("/").split("/")[::-1]
        name = tail[0]
        if name in ("", ".", "..") or "\0" in name:
            raise UserError(f"{where} names {given!r}, which is not a file. Correct or delete the line.")
        found = self.by_name.get(name.casefold(), [])
        exact = [path for path in found if path.name == name] or found
        beside = [path for path in exact if path.parent == file.parent]
        if len(beside) == 1 or not exact:
            return beside[0] if beside else None
        tail = [part.casefold() for part in tail]
        fits = [_common(tail, path.relative_to(self.base).as_posix().casefold().split("/")[::-1]) for path in exact]
        best = [path for path, fit in zip(exact, fits, strict=True) if fit == max(fits)]
        if len(best) > 1:
            places = ", ".join(str(path) for path in best[:3])
            raise UserError(
                f"{where} names {given!r}, which may be any of {places}. Put the table beside its recording."
            )
        return best[0]


def audacity_annotations(file: Path, recording: Path) -> Iterator[Annotation]:
    """Yield the labels of an Audacity label track.

    Raises:
        UserError: If a line cannot be read.
    """
    last: Annotation | None = None
    for number, line in enumerate(lines_of(file), start=1):
        where = f"{file}: line {number}"
        words = line.split("\t", 2)
        if not line.strip():
            continue
        if line.startswith("\\"):
            if last is None or len(words) < 3:
                raise UserError(f"{where} is a frequency range without a label or a value. Correct or delete the line.")
            low, high = (math.nan if value < 0 else value for value in (seconds(w, where) for w in words[1:]))
            last = Annotation(last.file, last.start_s, last.end_s, last.species, low, high)
            continue
        if last:
            yield last
        if len(words) < 2:
            raise UserError(f"{where} is {line[:60]!r}; an Audacity label is start<TAB>end<TAB>label, in seconds.")
        label = words[2].strip() if len(words) > 2 else ""
        last = Annotation(recording, *interval(words[0], words[1], where), label)
    if last:
        yield last


def raven_annotations(
    file: Path, index: AnnotationIndex, column: str | None = None, setting: str = "data.annotation"
) -> list[Annotation] | None:
    """Return the selections of a Raven table, or None if a text file is not one.

    A recording that is missing keeps its name, beside the table. Selections without times are NaN.

    Args:
        file: The text file.
        index: Recordings that it may belong to.
        column: Name of the column of labels, in any case; None takes the first usual one.
        setting: That names the column, for messages.

    Raises:
        UserError: If the table lacks a necessary column or has two of one name, a line cannot be read, or a file's name
            matches several recordings.
    """
    table = _table(file)
    return None if table is None else list(_selections(file, *table, index, column, setting))


def _table(file: Path) -> tuple[list[str], list[_Row]] | None:
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
    file: Path, header: list[str], rows: list[_Row], index: AnnotationIndex, annotation: str | None, setting: str
) -> Iterator[Annotation]:
    if not rows:
        return
    column = _label_column(file, header, annotation, setting)
    named = [_file_name(row) for _, row in rows]
    cumulative = len({name for name in named if name}) > 1
    if cumulative and OFFSET not in rows[0][1]:
        raise UserError(
            f"{file} belongs to several recordings and lacks 'File Offset (s)': its times are cumulative over the "
            f"files. Add that measurement in Raven and save the table again."
        )
    for (where, row), name in zip(rows, named, strict=True):
        low_hz, high_hz = _number(row, "low freq (hz)", where), _number(row, "high freq (hz)", where)
        if row[BEGIN] or row[END] or (math.isnan(low_hz) and math.isnan(high_hz)):
            start_s, end_s = interval(row[BEGIN], row[END], where)
        else:
            start_s = end_s = math.nan
        if name and row.get(OFFSET):
            length_s = end_s - start_s
            start_s, _ = interval(row[OFFSET], row[OFFSET], where)
            end_s = round(start_s + length_s, 6)  # microseconds, so that ids hold no rounding error
        elif cumulative:
            raise UserError(f"{where} has no file name or no 'File Offset (s)', in a table of several recordings.")
        recording = index.named(name, file, where) if name else None
        if recording is None and not cumulative:
            recording = index.recording_of(file)
        if recording is None:  # the audit will set it aside
            stem = re.split(r"\.(?:table|selection)", file.stem, flags=re.IGNORECASE)[0]
            recording = file.parent / (name.rpartition("/")[2] or f"{stem}.wav")
        confidence = _number(row, "confidence", where)
        annotator = row.get("annotator", "")
        yield Annotation(recording, start_s, end_s, row[column], low_hz, high_hz, confidence, annotator)


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


def _label_column(file: Path, header: list[str], annotation: str | None, setting: str) -> str:
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
            f"Name the one that holds the labels, such as {setting}='{others[-1]}'."
            if others
            else "None of these holds labels: add an annotation column in Raven, such as Species, and fill it in."
        )
    )


def _file_name(row: Mapping[str, str]) -> str:
    """Return the path or name of a row's recording on the annotator's computer, with slashes."""
    given = next((row[key] for key in NAMES if row.get(key)), "")
    return given.replace("\\", "/").rstrip("/")


def _common(one: list[str], other: list[str]) -> int:
    same = [a == b for a, b in zip(one, other, strict=False)]
    return same.index(False) if False in same else len(same)


def _number(row: Mapping[str, str], key: str, where: str) -> float:
    return seconds(row[key], where) if row.get(key) else math.nan
