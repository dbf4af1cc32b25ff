"""Detections in a recording, as plain values that can be written and read back."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from birdclf.detection.detections import DIGITS, Detection, DetectionSettings
from birdclf.detection.stream import RecordingScores
from birdclf.text import printable

COLUMNS: Final = ("path", "start_s", "end_s", "species", "confidence", "windows")
RIGHT: Final = "p_right"
"""Column of the probability that a detection is right, in tables of detections by thresholds."""
SETS: Final = ("path", "start_s", "end_s", "species")


OPTIONAL: Final = ("rated", "sets")
"""Values of a result that a journal holds only where they were requested."""


@dataclass(frozen=True)
class Result:
    """Detections in one recording."""

    path: str  # the file, as the user named it
    name: str  # where what is written of it goes
    duration_s: float  # how long it is, in seconds, as far as it could be decoded
    windows: int  # how many windows were classified
    problem: str  # why it could not be decoded, or not all of it; empty where it could
    detections: Sequence[Detection]  # by begin
    rated: bool = False  # whether thresholds decided, and it is known how probably a detection is right
    sets: Sequence[tuple[float, float, list[str]]] | None = None  # begin, end and set of each window, where requested

    @classmethod
    def of(cls, scores: RecordingScores, detection_settings: DetectionSettings, classes: Sequence[str]) -> "Result":
        """Return the detections in the scores of a recording."""
        found = detection_settings.detections(scores.probabilities, scores.start_s, scores.end_s, classes)
        path = printable(scores.recording.path)  # a name on one line of a table, whatever it holds
        rated, sets = detection_settings.thresholds is not None, None
        if detection_settings.sets is not None:
            times = (np.round(one, DIGITS).tolist() for one in (scores.start_s, scores.end_s))
            sets = list(zip(*times, detection_settings.species_sets(scores.probabilities, classes), strict=True))
        name, windows = scores.recording.name, len(scores.start_s)
        return cls(path, name, scores.duration_s, windows, scores.problem, found, rated, sets)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, from which :meth:`read` makes it again."""
        columns = len(Detection._fields) - (not self.rated)
        values = vars(self) | {"detections": [list(one)[:columns] for one in self.detections]}
        return {name: value for name, value in values.items() if name not in OPTIONAL or value}

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Result":
        """Return what :meth:`as_dict` was given for.

        Raises:
            KeyError: If a value is missing.
            TypeError: If one is of another kind.
        """
        found = [Detection(*one) for one in values["detections"]]
        own = {name: values[name] for name in cls.__dataclass_fields__ if name not in ("detections", *OPTIONAL)}
        sets = values.get("sets")
        rows = None if sets is None else [(float(start), float(end), list(names)) for start, end, names in sets]
        return cls(**own, detections=found, rated=bool(values.get("rated")), sets=rows)


def detections_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return all detections: ``path``, ``start_s``, ``end_s``, ``species``, ``confidence`` and ``windows``.

    Where thresholds decided, ``p_right`` is added, NaN of a species that has no threshold.
    """
    rows = [(one.path, *found) for one in results for found in one.detections]
    kinds = dict(zip((*COLUMNS, RIGHT), (str, float, float, str, float, int, float), strict=True))
    table = pd.DataFrame(rows, columns=list(kinds)).astype(kinds)
    return table if any(one.rated for one in results) else table.drop(columns=RIGHT)


def sets_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per window: ``path``, ``start_s``, ``end_s`` and ``species``, its set, separated by ``;``."""
    rows = [(one.path, start, end, ";".join(names)) for one in results for start, end, names in one.sets or ()]
    return pd.DataFrame(rows, columns=list(SETS)).astype(dict(zip(SETS, (str, float, float, str), strict=True)))


def files_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per recording: ``path``, ``duration_s``, ``windows``, ``detections`` and ``problem``."""
    columns = ["path", "duration_s", "windows", "detections", "problem"]
    rows = [(r.path, round(r.duration_s, 6), r.windows, len(r.detections), r.problem) for r in results]
    return pd.DataFrame(rows, columns=columns)


def species_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per species, most detections first, with the most confident detection.

    Columns ``species``, ``detections``, ``files``, ``seconds``, ``confidence``, ``path`` and ``start_s``.
    """
    table = detections_table(results)
    best = table.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("species")
    best = best.set_index("species")[["confidence", "path", "start_s"]]
    groups = table.assign(seconds=table.end_s - table.start_s).groupby("species")
    counts = groups.agg(detections=("path", "size"), files=("path", "nunique"), seconds=("seconds", "sum"))
    counts["seconds"] = counts.seconds.round(6)
    ordered = counts.join(best).sort_values(["detections", "confidence"], ascending=False, kind="stable")
    return ordered.rename_axis("species").reset_index()


class Written(NamedTuple):
    """A file to be written."""

    name: str  # relative, with slashes
    content: bytes
    needed: bool = True  # whether it is written where there is no older one that it takes the place of


class Range(NamedTuple):
    """Frequency range that a classifier takes in, in Hz."""

    low_hz: float
    high_hz: float


RAVEN: Final = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)", "Begin Path",
    "File Offset (s)", "Species", "Confidence",
)  # fmt: skip


def as_csv(results: Sequence[Result], band: Range) -> Iterator[Written]:
    """Yield ``detections.csv``."""
    yield Written("detections.csv", detections_table(results).to_csv(index=False, lineterminator="\n").encode())


def as_parquet(results: Sequence[Result], band: Range) -> Iterator[Written]:
    """Yield ``detections.parquet``, with the columns of the CSV."""
    file = io.BytesIO()
    detections_table(results).to_parquet(file, index=False)
    yield Written("detections.parquet", file.getvalue())


def as_json_lines(results: Sequence[Result], band: Range) -> Iterator[Written]:
    """Yield ``detections.jsonl``: an object a line, with the columns of the CSV as keys."""
    yield Written("detections.jsonl", "".join(map(json_lines, results)).encode())


def json_lines(result: Result) -> str:
    """Return a line a detection."""
    columns = (*COLUMNS, RIGHT) if result.rated else COLUMNS
    lines = (dict(zip(columns, (result.path, *found), strict=False)) for found in result.detections)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def set_lines(result: Result) -> str:
    """Return a line a window with its set."""
    lines = (dict(zip(SETS, (result.path, *one), strict=True)) for one in result.sets or ())
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def as_raven(results: Sequence[Result], band: Range) -> Iterator[Written]:
    """Yield a selection table a recording, and one of all, whose times count on from file to file as in Raven.

    The one of all is for Raven with all recordings opened as one sequence, in the order of ``files.csv``.
    """
    all_rows: list[str] = []
    offset_s = 0.0
    for result in results:
        rows = [_selection(n, found, result.path, 0.0, band) for n, found in enumerate(result.detections, start=1)]
        yield Written(f"raven/{_stem(result.name)}.Table.1.selections.txt", _selections(rows), needed=bool(rows))
        first = len(all_rows) + 1
        all_rows += [
            _selection(n, found, result.path, offset_s, band) for n, found in enumerate(result.detections, start=first)
        ]
        offset_s += result.duration_s
    yield Written("detections.selections.txt", _selections(all_rows))


def as_audacity(results: Sequence[Result], band: Range) -> Iterator[Written]:
    """Yield a label file a recording: begin, end and species."""
    for result in results:
        text = "".join(f"{one.start_s:.6f}\t{one.end_s:.6f}\t{printable(one.species)}\n" for one in result.detections)
        yield Written(f"audacity/{_stem(result.name)}.txt", text.encode(), needed=bool(text))


FORMATS: Final[dict[str, Callable[[Sequence[Result], Range], Iterator[Written]]]] = {
    "csv": as_csv,
    "parquet": as_parquet,
    "raven": as_raven,
    "audacity": as_audacity,
    "jsonl": as_json_lines,
}
"""Formats by the word that asks for them."""


def _selection(number: int, found: Detection, path: str, offset_s: float, band: Range) -> str:
    times = (found.start_s + offset_s, found.end_s + offset_s)
    numbers = (f"{value:.6f}" for value in times)
    hertz = (f"{value:.1f}" for value in band)
    words = (
        str(number),
        "Spectrogram 1",
        "1",
        *numbers,
        *hertz,
        path,
        f"{found.start_s:.6f}",
        printable(found.species),
    )
    return "\t".join((*words, f"{found.confidence:.6f}"))


def _selections(rows: Sequence[str]) -> bytes:
    return ("\n".join(("\t".join(RAVEN), *rows)) + "\n").encode()


def _stem(name: str) -> str:
    """Return a name without its ending; whatever it holds, it stays below the folder."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    return (
        printable(PurePosixPath(*parts).with_suffix(""))
        if PurePosixPath(name).suffix
        else printable(PurePosixPath(*parts))
    )
