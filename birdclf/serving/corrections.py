"""Users' corrections of detections: a manifest to train on, and beside it the detections that are no bird.

Other rows of the files, and columns that the user added, stay as they are.
"""

import csv
import io
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from birdclf.data.tables import decimal, distinct_columns, read_text, rows_of
from birdclf.detection.detections import DIGITS, Detection
from birdclf.errors import UserError
from birdclf.files import write_whole
from birdclf.serving.settings import RefusedError
from birdclf.targets import NONE

UNCHECKED: Final = ""
CONFIRMED: Final = "confirmed"
CORRECTED: Final = "corrected"
NO_BIRD: Final = "no bird"
LONGEST_NAME: Final = 100
TOGETHER_S: Final = 0.25
"""Overlap from which a species is a label of a stretch, as of soundscapes, in seconds."""


@dataclass(frozen=True)
class Row:
    """A stretch of a recording."""

    start_s: float  # where it begins, in seconds
    end_s: float  # where it ends, in seconds
    predicted: str  # species that was detected; empty in a row that a user wrote into the file by hand
    confidence: float | None  # of the detection; None likewise
    verdict: str = UNCHECKED  # one of the words above
    species: tuple[str, ...] = ()  # what the user says is heard; empty unless confirmed or corrected
    windows: int = 0  # how many windows it was found in; 0 if it is known from the file alone
    p_right: float | None = None  # probability that the detection is right, where the species has a threshold

    @property
    def key(self) -> tuple[float, float, str]:
        """Identifies it among the rows of its recording."""
        return round(self.start_s, DIGITS), round(self.end_s, DIGITS), self.predicted

    @property
    def is_label(self) -> bool:
        """Whether a user says which species it is."""
        return self.verdict in (CONFIRMED, CORRECTED)

    def overlaps(self, other: "Row") -> bool:
        """Whether both are heard together long enough to be labels of each other's stretch."""
        return min(self.end_s, other.end_s) - max(self.start_s, other.start_s) >= TOGETHER_S


def table_rows(found: Iterable[Detection], saved: Iterable[Row]) -> list[Row]:
    """Return one row per detection with its earlier verdict, and earlier rows that are not detected now."""
    known = {row.key: row for row in saved}
    rows = []
    for one in found:
        row = Row(one.start_s, one.end_s, one.species, one.confidence, windows=one.windows, p_right=one.p_right)
        earlier = known.pop(row.key, None)
        rows.append(replace(row, verdict=earlier.verdict, species=earlier.species) if earlier else row)
    return sorted([*rows, *known.values()], key=lambda row: row.start_s)


def apply_verdicts(rows: Sequence[Row], given: Any, classes: Sequence[str]) -> list[Row]:
    """Return rows with the verdicts of a request; those that it does not name have none.

    Raises:
        RefusedError: If it is no such list, or a name cannot be one.
    """
    checked = [replace(row, verdict=UNCHECKED, species=()) for row in rows]
    if not isinstance(given, list):
        raise RefusedError("The corrections are no list.")
    for item in given:
        n = item.get("row") if isinstance(item, dict) else None
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < len(rows):
            raise RefusedError("The corrections name a row that is not there. Reload the page.")
        verdict = item.get("verdict")
        if verdict == NO_BIRD:
            checked[n] = replace(rows[n], verdict=NO_BIRD, species=())
        elif verdict in (CONFIRMED, CORRECTED):
            known = verdict == CONFIRMED and rows[n].predicted
            species = (rows[n].predicted,) if known else species_names(item.get("species"), classes)
            checked[n] = replace(rows[n], verdict=_verdict(species, rows[n].predicted), species=species)
        elif verdict != UNCHECKED:
            raise RefusedError("The corrections hold a verdict that is unknown. Reload the page.")
    return checked


def _verdict(species: tuple[str, ...], predicted: str) -> str:
    if not species:
        return NO_BIRD
    return CONFIRMED if species == (predicted,) else CORRECTED


def species_names(text: object, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a text, one or several with ``;`` between them; none where it is ``none``.

    Raises:
        RefusedError: As of :func:`species_name`.
    """
    several = isinstance(text, str) and ";" in text and " ".join(text.split()) not in classes
    parts = [part for part in str(text).split(";") if part.strip()] if several else [text]
    names = dict.fromkeys(species_name(part, classes) for part in parts or [""])
    return tuple(name for name in names if name != NONE)


def species_name(text: object, classes: Sequence[str]) -> str:
    """Return a name as the model spells it, or a new one, tidied.

    Raises:
        RefusedError: If it is empty, too long, or no name.
    """
    name = " ".join(text.split()) if isinstance(text, str) else ""
    if name in classes:
        return name
    for known in classes:
        if known.casefold() == name.casefold():
            return known
    if not name:
        raise RefusedError("A corrected label is empty. Write the species, or say that there is no bird.")
    if len(name) > LONGEST_NAME:
        raise RefusedError(f"A label is longer than {LONGEST_NAME} characters. Shorten it.")
    if not name[0].isalnum() or not name.isprintable():
        raise RefusedError("A label must begin with a letter or a digit, on one line. Correct it.")
    return name


LABELS: Final = "corrections.csv"
EMPTY: Final = "no_bird.csv"
COLUMNS: Final = (
    "recording_id", "path", "species", "labels", "start_s", "end_s", "group", "predicted", "confidence", "verdict",
)  # fmt: skip
OF_LABELS: Final = ("species", "labels")
"""Columns that the file of detections without a bird lacks."""

Line = dict[str, str]


class Saved(NamedTuple):
    """What the files hold after a recording was saved."""

    labels: int
    no_bird: int
    all_labels: int
    recordings: int


class Corrections:
    """The files ``corrections.csv`` and ``no_bird.csv`` of a folder.

    The first is what ``birdclf train data=manifest`` reads: one row per stretch and species that a user named, with all
    species that are heard in it as ``labels``; and one of the species ``none``, without labels, per stretch in which
    nothing is heard: no bird, nor another detection that is not judged. The second has the detections that are no bird,
    also where another bird is heard meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.labels, self.no_bird = folder / LABELS, folder / EMPTY
        self._lock = threading.Lock()

    def of(self, path: str) -> list[Row]:
        """Return the saved rows of a recording.

        Raises:
            UserError: If a file cannot be read.
        """
        with self._lock:
            labels, no_bird = _read(self.labels)[1], _read(self.no_bird)[1]
        found: dict[tuple[float, float, str], Row] = {}
        for line in (*labels, *no_bird):
            if _is_of(line, path):
                row = _row(line)
                species = tuple(dict.fromkeys((*found.get(row.key, row).species, *row.species)))
                found[row.key] = replace(row, species=species, verdict=_verdict(species, row.predicted))
        return list(found.values())

    def save(self, path: str, rows: Sequence[Row]) -> Saved:
        """Put a recording's rows in place of its earlier ones; all others stay.

        Raises:
            UserError: If a file cannot be read; none is then written.
        """
        named = [row for row in rows if row.is_label]
        empty = [row for row in rows if row.verdict == NO_BIRD]
        with self._lock:
            before = [_read(file) for file in (self.labels, self.no_bird)]
            texts = []
            told: list[list[tuple[Row, Line]]] = [_labelled(rows), [(row, {}) for row in empty]]
            for (header, lines), own in zip(before, told, strict=True):
                lines[:] = _replaced(lines, path, own)
                texts.append(_text(header, lines))
            for file, text in zip((self.labels, self.no_bird), texts, strict=True):
                if file.exists() or "\n" in text.rstrip("\n"):
                    write_whole(file, text)
        labels = before[0][1]
        return Saved(len(named), len(empty), len(labels), len({line["path"] for line in labels}))


def _read(file: Path) -> tuple[list[str], list[Line]]:
    """Return the columns and rows of a file; those it would begin with where there is none."""
    columns = [name for name in COLUMNS if name not in OF_LABELS or file.name == LABELS]
    if not file.exists():
        return columns, []
    header, rows = rows_of(read_text(file), file)
    header = header or columns
    distinct_columns(header, file)
    lines = [dict(zip(header, cells, strict=True)) for _, cells in rows]
    if header.count("") > 1:  # a row is kept by the names of its columns
        raise UserError(f"{file} has {header.count('')} columns without a name. Name them, or move the file away.")
    missing = [name for name in columns if name not in header]
    if missing_needed := [name for name in ("path", "start_s", "end_s") if name in missing]:
        raise UserError(f"{file} lacks the column(s) {', '.join(missing_needed)}. Restore it, or move it away.")
    return [*header, *missing], lines


def _is_of(line: Line, path: str) -> bool:
    """Return whether a row is a stretch of a recording, as the page writes them; others are kept."""
    return line["path"] == path and all(math.isfinite(_number(line.get(name, ""))) for name in ("start_s", "end_s"))


def _row(line: Line) -> Row:
    predicted, name = line.get("predicted", ""), line.get("species", NONE)
    species = () if name == NONE else (name,)
    confidence = _number(line.get("confidence", ""))
    known = confidence if math.isfinite(confidence) else None
    return Row(float(line["start_s"]), float(line["end_s"]), predicted, known, _verdict(species, predicted), species)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _labelled(rows: Sequence[Row]) -> list[tuple[Row, Line]]:
    """Return the lines of the manifest: a row and its ``species`` and ``labels``."""
    named = [row for row in rows if row.is_label]
    lines: list[tuple[Row, Line]] = []
    for row in rows:
        if row.verdict in (CONFIRMED, CORRECTED, NO_BIRD):
            labels = {*row.species, *(name for other in named if row.overlaps(other) for name in other.species)}
            maybe = any(row.overlaps(other) and other.verdict != NO_BIRD for other in rows)  # also what is unchecked
            names = row.species or (() if maybe else (NONE,))
            lines += [(row, {"species": name, "labels": ";".join(sorted(labels))}) for name in names]
    return lines


def _replaced(lines: Iterable[Line], path: str, rows: Sequence[tuple[Row, Line]]) -> list[Line]:
    """Return the rows of other recordings, and a recording's own with the columns that the user added."""
    others, earlier = [], {}
    for line in lines:
        if _is_of(line, path):
            earlier[_row(line).key] = line
        else:
            others.append(line)
    repeats: Counter[str] = Counter()
    own = []
    for row, said in rows:
        recording_id = f"{path}#{decimal(row.start_s)}-{decimal(row.end_s)}"
        repeats[recording_id] += 1
        again = f"#{repeats[recording_id]}" if repeats[recording_id] > 1 else ""
        cells = {
            "recording_id": recording_id + again, "path": path, **said,
            "start_s": decimal(row.start_s), "end_s": decimal(row.end_s), "group": path, "predicted": row.predicted,
            "confidence": "" if row.confidence is None else decimal(row.confidence), "verdict": row.verdict,
        }  # fmt: skip
        own.append(earlier.get(row.key, {}) | cells)
    return others + own


def _text(header: Sequence[str], lines: Iterable[Line]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, header, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
