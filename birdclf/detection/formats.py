"""Detections as the files that other programs read."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from birdclf.detection.detections import Detection
from birdclf.detection.results import COLUMNS, Result, detections_table
from birdclf.text import shown


class Written(NamedTuple):
    """A file to be written.

    Attributes:
        name: Relative, with slashes.
        content: All of it.
        needed: Whether it is written where there is no older one that it takes the place of.
    """

    name: str
    content: bytes
    needed: bool = True


class Range(NamedTuple):
    """Frequencies that a classifier hears, in Hz."""

    low_hz: float
    high_hz: float


RAVEN: Final = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)", "Begin Path",
    "File Offset (s)", "Species", "Confidence",
)  # fmt: skip


def as_csv(results: Sequence[Result], heard: Range) -> Iterator[Written]:
    """Yield ``detections.csv``."""
    yield Written("detections.csv", detections_table(results).to_csv(index=False, lineterminator="\n").encode())


def as_parquet(results: Sequence[Result], heard: Range) -> Iterator[Written]:
    """Yield ``detections.parquet``, with the columns of the CSV."""
    file = io.BytesIO()
    detections_table(results).to_parquet(file, index=False)
    yield Written("detections.parquet", file.getvalue())


def as_json_lines(results: Sequence[Result], heard: Range) -> Iterator[Written]:
    """Yield ``detections.jsonl``: an object a line, with the columns of the CSV as keys."""
    yield Written("detections.jsonl", "".join(map(json_lines, results)).encode())


def json_lines(result: Result) -> str:
    """Return a line a detection."""
    lines = (dict(zip(COLUMNS, (result.path, *found), strict=True)) for found in result.detections)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def as_raven(results: Sequence[Result], heard: Range) -> Iterator[Written]:
    """Yield a selection table a recording, and one of all, whose times count on from file to file as in Raven.

    The one of all is for Raven with all recordings opened as one sequence, in the order of ``files.csv``.
    """
    all_rows: list[str] = []
    offset_s = 0.0
    for result in results:
        rows = [_selection(n, found, result.path, 0.0, heard) for n, found in enumerate(result.detections, start=1)]
        yield Written(f"raven/{_stem(result.name)}.Table.1.selections.txt", _selections(rows), needed=bool(rows))
        first = len(all_rows) + 1
        all_rows += [
            _selection(n, found, result.path, offset_s, heard) for n, found in enumerate(result.detections, start=first)
        ]
        offset_s += result.duration_s
    yield Written("detections.selections.txt", _selections(all_rows))


def as_audacity(results: Sequence[Result], heard: Range) -> Iterator[Written]:
    """Yield a label file a recording: begin, end and species."""
    for result in results:
        text = "".join(f"{one.start_s:.6f}\t{one.end_s:.6f}\t{shown(one.species)}\n" for one in result.detections)
        yield Written(f"audacity/{_stem(result.name)}.txt", text.encode(), needed=bool(text))


FORMATS: Final[dict[str, Callable[[Sequence[Result], Range], Iterator[Written]]]] = {
    "csv": as_csv,
    "parquet": as_parquet,
    "raven": as_raven,
    "audacity": as_audacity,
    "jsonl": as_json_lines,
}
"""Formats by the word that asks for them."""


def _selection(number: int, found: Detection, path: str, offset_s: float, heard: Range) -> str:
    times = (found.start_s + offset_s, found.end_s + offset_s)
    numbers = (f"{value:.6f}" for value in times)
    hertz = (f"{value:.1f}" for value in heard)
    words = (str(number), "Spectrogram 1", "1", *numbers, *hertz, path, f"{found.start_s:.6f}", shown(found.species))
    return "\t".join((*words, f"{found.confidence:.6f}"))


def _selections(rows: Sequence[str]) -> bytes:
    return ("\n".join(("\t".join(RAVEN), *rows)) + "\n").encode()


def _stem(name: str) -> str:
    """Return a name without its ending; whatever it holds, it stays below the folder."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    return shown(PurePosixPath(*parts).with_suffix("")) if PurePosixPath(name).suffix else shown(PurePosixPath(*parts))
