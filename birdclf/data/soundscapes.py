"""Annotated soundscapes: long recordings, what is heard in them and when, and their segments."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import FileReader, read_header
from birdclf.checks import above, choice, in_range
from birdclf.data.annotations import LABELS, Annotation, AnnotationIndex, audacity_annotations, interval, seconds
from birdclf.data.annotations import raven_annotations as read_raven
from birdclf.data.label_names import plain, says_nothing
from birdclf.data.tables import read_csv
from birdclf.errors import UserError
from birdclf.targets import NONE

ANNOTATION_COLUMNS: Final = ("file", "start_s", "end_s", "label")
UNANNOTATED: Final = ("refuse", "empty", "skip")
SHOWN: Final = 5
TOLERANCE_S: Final = 1e-6
_USUAL: Final[dict[str, tuple[str, ...]]] = {
    "file": ("file", "filename", "file name", "filepath", "path", "recording", "audio", "audio file", "sound file",
             "begin path", "begin file", "wav", "fname"),
    "start_s": ("start s", "start", "start (s)", "start time", "start time (s)", "begin time (s)", "begin", "onset",
                "onset (s)", "onset s", "start seconds", "begin s", "t start", "tmin", "min t"),
    "end_s": ("end s", "end", "end (s)", "end time", "end time (s)", "stop", "stop s", "offset", "offset (s)",
              "offset s", "end seconds", "t end", "tmax", "max t"),
    "label": (*LABELS, "species name", "ebird code", "ebird", "primary label", "name", "bird"),
    "confidence": ("confidence", "score", "probability"),
    "annotator": ("annotator", "annotated by", "observer", "reviewer", "listener"),
}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """Names of the columns of an annotation table; None takes the first usual name that the table has.

    Attributes:
        file: Name or path of the recording; a table beside its recording needs none.
        start_s: Start in seconds.
        end_s: End in seconds.
        label: Species or other label.
        confidence: Score of a detection.
        annotator: Who annotated the row.
    """

    file: str | None = None
    start_s: str | None = None
    end_s: str | None = None
    label: str | None = None
    confidence: str | None = None
    annotator: str | None = None

    def found(self, header: Sequence[str], table: Path) -> dict[str, str]:
        """Return the table's name of each column that it has.

        Raises:
            UserError: If a column that is named here is missing.
        """
        by_name = {plain(name): name for name in reversed(header) if name}
        found = {}
        for each in fields(self):
            given = getattr(self, each.name)
            usual = _USUAL[each.name] if given is None else (given,)
            names = [by_name[plain(name)] for name in usual if plain(name) in by_name]
            if given is not None and not names:
                raise UserError(f"{table} has no column {given!r} (columns.{each.name}); it has {', '.join(header)}.")
            if names:
                found[each.name] = names[0]
        return found


@dataclass(frozen=True)
class Annotations:
    """Labelled intervals of recordings.

    Attributes:
        table: One row a labelled interval, sorted: ``file`` (absolute path), ``start_s``, ``end_s``, ``label``, and
            ``confidence`` where it is given.
        recordings: All sound files below the folder, sorted.
        notes: What was left out, merged or clipped, with numbers.
        annotated: Files that were listened to, with or without a label: those with an empty table or a label of
            ``NOTHING``, besides those in ``table``.
    """

    table: pd.DataFrame
    recordings: list[str]
    notes: list[str] = field(default_factory=list)
    annotated: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SegmentSettings:
    """How recordings are cut into segments.

    Attributes:
        segment_s: Length of a segment in seconds.
        hop_s: From one start to the next; None is a segment, without overlap.
        min_overlap_s: A segment has a label if their overlap is at least this, or at least half of an annotation
            shorter than twice this: each annotation is in one segment at least.
        unannotated: What a recording without an annotation is: ``refuse`` (an error), ``empty`` (nothing is heard
            in it), ``skip`` (left out).

    Raises:
        UserError: If a value is out of range.
    """

    segment_s: float = 5.0
    hop_s: float | None = None
    min_overlap_s: float = 0.25
    unannotated: str = "refuse"

    def __post_init__(self) -> None:
        above("segment_s", self.segment_s, 0, 3600)
        if self.hop_s is not None:
            above("hop_s", self.hop_s, 0, self.segment_s)
        in_range("min_overlap_s", self.min_overlap_s, 0, self.segment_s)
        choice("unannotated", self.unannotated, UNANNOTATED)


def read_annotations(
    root: Path, table: Path | None = None, columns: Columns | None = None, partial: bool = False
) -> Annotations:
    """Return the annotations of the recordings below a folder.

    Without ``table`` they lie beside the recordings: Raven selection tables, Audacity label tracks, BirdNET's results
    as CSV, or any CSV with start, end and label. A CSV or Raven table may name its recordings in a column. BirdNET's
    labels are ``Scientific name_Common name``. Overlapping intervals of one label are merged, unless they carry a
    confidence.

    Args:
        root: Folder of recordings.
        table: One table of all recordings, or a folder of tables that has the same subfolders; None reads those below
            ``root``.
        columns: Names of the columns, where they are not usual.
        partial: Whether a table may name other recordings beside some of these, as one of detections may.

    Raises:
        UserError: If there is no recording or no table, one cannot be read, or a table names other recordings than
            there are.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Point it at the recordings.")
    if table is not None and not table.exists():
        raise UserError(f"The annotation table {table} does not exist. Give a Raven table (.txt), a CSV or a folder.")
    elsewhere = table if table is not None and table.is_dir() else None
    index = AnnotationIndex(root, (".txt", ".csv"), elsewhere)
    recordings = index.recordings
    if not recordings:
        raise UserError(f"{root} holds no sound file. Point it at the recordings.")
    columns = columns or Columns()
    rows: list[Annotation] = []
    looked_at: set[Path] = set()
    other: list[Path] = []
    files = [table] if table is not None and elsewhere is None else index.texts
    for file in files:
        own = index.recording_of(file)
        found = _read(file, own, index, columns, asked=file == table)
        if found is None:
            other.append(file)
            continue
        rows += found
        if own is not None and not found:
            looked_at.add(own)
    if len(other) == len(files):
        beside = "NAME.txt or NAME.csv beside NAME.wav" if table is None else f"{table} holds none"
        raise UserError(
            f"{root}: there is no annotation table ({beside}). Raven selection tables, Audacity label tracks, "
            f"BirdNET's CSV and a CSV with the columns file, start_s, end_s and label can be read."
        )
    notes = [f"{len(other)} .txt or .csv without annotations are skipped, first {other[0]}"] if other else []
    return _tidied(rows, recordings, looked_at, notes, partial)


def _read(
    file: Path, own: Path | None, index: AnnotationIndex, columns: Columns, asked: bool
) -> list[Annotation] | None:
    """Return the annotations in a file, or None if it has none; ``asked`` refuses it instead of leaving it out."""
    if file.suffix.lower() == ".csv":
        return _read_csv(file, own, index, columns, asked)
    found = read_raven(file, index, columns.label, "columns.label")
    if found is None and own is not None:
        found = list(audacity_annotations(file, own))
    return found


def _read_csv(
    file: Path, own: Path | None, index: AnnotationIndex, columns: Columns, asked: bool
) -> list[Annotation] | None:
    table = read_csv(file)
    names = columns.found(list(table.columns), file)
    needed = ["start_s", "end_s", "label", *(["file"] if own is None else [])]
    if missing := [name for name in needed if name not in names]:
        if not asked and (own is None or len(missing) == len(needed)):
            return None  # a table of something else
        raise UserError(
            f"{file} has no column for {', '.join(missing)}; it has {', '.join(table.columns) or 'none'}. Name them, "
            f"such as --columns {missing[0]}=NAME, or data.columns.{missing[0]}=NAME in training."
        )
    both = {plain(name): name for name in table.columns}
    if columns.label is None and {"scientific name", "common name"} <= both.keys():
        labels = [
            "_".join(dict.fromkeys(filter(None, pair)))
            for pair in zip(table[both["scientific name"]], table[both["common name"]], strict=True)
        ]
    else:
        labels = table[names["label"]].tolist()
    texts = {name: table[column].tolist() for name, column in names.items()}
    blank = [""] * len(table)
    rows, recordings = [], dict[str, Path]()
    for i, line in enumerate(table.index):
        where = f"{file}: line {line}"
        start, end = texts["start_s"][i], texts["end_s"][i]
        given = texts["file"][i] if own is None or "file" in names else ""
        if given not in recordings:
            named = index.named(given, file, where) if given else None
            if named is None and own is None and not given:
                raise UserError(f"{where} names no recording. Fill in the column {names['file']!r}.")
            recordings[given] = named or own or index.base / given.replace("\\", "/").rpartition("/")[2]
        score = texts.get("confidence", blank)[i]
        rows.append(
            Annotation(
                recordings[given],
                *(interval(start, end, where) if start or end else (math.nan, math.nan)),
                labels[i],
                confidence=seconds(score, where) if score else math.nan,
                annotator=texts.get("annotator", blank)[i],
            )
        )
    return rows


def _tidied(
    rows: list[Annotation], recordings: list[Path], looked_at: set[Path], notes: list[str], partial: bool
) -> Annotations:
    """Return annotations without those that say nothing, each interval of a label once."""
    left_out: Counter[str] = Counter()
    kept = []
    for row in rows:
        if not row.species:
            left_out["without a label"] += 1
        elif says_nothing(row.species):
            looked_at.add(row.file)
        elif math.isnan(row.end_s):
            left_out["without times (a range of frequencies alone)"] += 1
        elif row.end_s <= row.start_s:
            left_out["without length"] += 1
        else:
            kept.append(row)
    notes += [f"annotations {why}, left out: {count}" for why, count in left_out.items()]
    _compare({row.file for row in kept} | looked_at, recordings, notes, partial)
    there = set(recordings)
    kept = [row for row in kept if row.file in there]
    scored = sum(not math.isnan(row.confidence) for row in kept)
    if 0 < scored < len(kept):
        notes.append(
            f"tables with a confidence, which may be a program's detections ({scored} rows), are taken together with "
            f"tables without ({len(kept) - scored} rows): give one of them alone if that is not meant"
        )
    annotators = sorted({row.annotator for row in kept if row.annotator})
    if len(annotators) > 1:
        names = ", ".join(annotators[:SHOWN])
        notes.append(f"{len(annotators)} annotators ({names}): a sound counts where one of them marked it")
    table, merged = _merged(kept)
    if merged:
        notes.append(f"annotations merged with one of the same label that they overlap: {merged}")
    table = table if table.confidence.notna().any() else table.drop(columns="confidence")
    listened = frozenset(str(path.absolute()) for path in looked_at & there)
    return Annotations(table, [str(path.absolute()) for path in recordings], notes, listened)


def _compare(named: set[Path], recordings: list[Path], notes: list[str], partial: bool) -> None:
    """Refuse tables whose names differ from the recordings on both sides, and share none if they may be partial."""
    absent = sorted(named - set(recordings))
    bare = sorted(set(recordings) - named)
    if not absent:
        return
    theirs = ", ".join(path.name for path in absent[:SHOWN])
    if bare and not (partial and len(bare) < len(recordings)):
        raise UserError(
            f"The annotations name {len(absent)} files that are not among the recordings, first {theirs}; recordings "
            f"that they do not name: {len(bare)}, first {', '.join(path.name for path in bare[:SHOWN])}. Correct the "
            f"names in the table, or delete its rows of other recordings."
        )
    notes.append(f"annotated files that are not among the recordings, left out: {len(absent)}, first {theirs}")


def _merged(rows: list[Annotation]) -> tuple[pd.DataFrame, int]:
    """Return the table, and how many rows were merged: repeats, and overlaps without a confidence."""
    made: list[list[object]] = []
    order = sorted(rows, key=lambda row: (str(row.file), row.species, row.start_s, row.end_s))
    last: Annotation | None = None
    for row in order:
        same = last is not None and (row.file, row.species) == (last.file, last.species)
        if last is not None and same and math.isnan(row.confidence) and row.start_s < last.end_s:
            last = last._replace(end_s=max(last.end_s, row.end_s))
            made[-1][2] = last.end_s
        elif last is not None and same and (row.start_s, row.end_s) == (last.start_s, last.end_s):
            last = last._replace(confidence=np.fmax(last.confidence, row.confidence))
            made[-1][4] = last.confidence
        else:
            last = row
            made.append([str(row.file.absolute()), row.start_s, row.end_s, row.species, row.confidence])
    table = pd.DataFrame(made, columns=[*ANNOTATION_COLUMNS, "confidence"])
    table = table.astype({"file": str, "start_s": float, "end_s": float, "label": str, "confidence": float})
    table = table.sort_values([*ANNOTATION_COLUMNS], kind="stable").reset_index(drop=True)
    return table, len(rows) - len(table)


def durations_of(recordings: Iterable[str]) -> dict[str, float]:
    """Return the seconds of each recording that can be read, by path: of its header, or decoded where that has none."""
    found = {}
    for path in recordings:
        header = read_header(Path(path))
        if header is not None and not header.duration_s > 0:  # NaN, or the 0 of a recorder that lost its power
            with suppress(AudioError), FileReader().open(Clip("", path)) as sound:
                found[path] = sum(map(len, sound.blocks)) / sound.sample_rate_hz
        elif header is not None:
            found[path] = header.duration_s
    return found


def segment_table(annotations: Annotations, durations: Mapping[str, float], settings: SegmentSettings) -> pd.DataFrame:
    """Return the segments of the recordings and the labels heard in each, empty segments included.

    Segments begin at multiples of the hop; one of which the recording has less than half is left out. What is left out
    or clipped is added to ``annotations.notes``.

    Args:
        annotations: Of the recordings.
        durations: Seconds of each recording, by absolute path; those that it lacks are left out.
        settings: Segments, overlap, and what a recording without annotation is.

    Returns:
        ``path``, ``start_s``, ``end_s`` (at most the recording's), ``labels`` (sorted tuple) and ``species`` (that with
        the longest overlap, or ``none``), one row a segment, by path and start.

    Raises:
        UserError: If recordings have no annotation and are to be refused, or no segment is left.
    """
    notes = annotations.notes
    rows = annotations.table
    heard = {str(name): one for name, one in rows.groupby("file", sort=False)}
    annotated = {*heard, *annotations.annotated}
    bare = sorted(set(annotations.recordings) - annotated)
    if bare and settings.unannotated == "refuse":
        raise UserError(
            f"{len(bare)} of {len(annotations.recordings)} recordings have no annotation, first "
            f"{', '.join(Path(name).name for name in bare[:SHOWN])}. Set unannotated to empty if nothing is heard in "
            f"them, to skip if nobody listened to them: --unannotated empty, or data.unannotated=empty in training."
        )
    if bare:
        how = "taken as empty" if settings.unannotated == "empty" else "left out"
        _note(notes, f"recordings without an annotation, {how}: {len(bare)}")
    taken = sorted(annotations.recordings) if settings.unannotated == "empty" else sorted(annotated)
    if unread := [name for name in taken if name not in durations]:
        _note(notes, f"recordings that cannot be read, left out: {len(unread)}, first {unread[0]}")
    parts: list[tuple[str, float, float, tuple[str, ...], str]] = []
    beyond, clipped, short = 0, 0, 0
    for name in taken:
        if name not in durations:
            continue
        duration = float(durations[name])
        starts = segment_starts(duration, settings)
        short += not len(starts)
        found: list[dict[str, float]] = [{} for _ in starts]
        if name in heard:
            one = heard[name]
            beyond += int((one.start_s >= duration).sum())
            clipped += int(((one.start_s < duration) & (one.end_s > duration + TOLERANCE_S)).sum())
            one = one[one.start_s < duration].assign(end_s=one.end_s.clip(upper=duration))
            found = labels_heard(starts, starts + settings.segment_s, one, settings.min_overlap_s)
        for start, labels in zip(starts.tolist(), found, strict=True):
            primary = min(labels, key=lambda label: (-round(labels[label], 6), label), default=NONE)
            parts.append((name, start, min(start + settings.segment_s, duration), tuple(sorted(labels)), primary))
    if beyond:
        _note(notes, f"annotations beyond the end of their recording, left out: {beyond}")
    if clipped:
        _note(notes, f"annotations clipped at the end of their recording: {clipped}")
    if short:
        _note(notes, f"recordings shorter than half a segment, left out: {short}")
    if not parts:
        raise UserError(
            f"No segment is left of {len(annotations.recordings)} recordings: {'; '.join(notes)}. "
            f"Shorten the segments, or set unannotated to empty."
        )
    return pd.DataFrame(parts, columns=["path", "start_s", "end_s", "labels", "species"])


def segment_starts(duration_s: float, settings: SegmentSettings) -> NDArray[np.float64]:
    """Return the starts of the segments of a recording in seconds, of which it has at least half each."""
    hop = settings.hop_s or settings.segment_s
    room = duration_s - settings.segment_s / 2 + TOLERANCE_S
    return np.arange(max(0, math.floor(room / hop) + 1), dtype=np.float64) * hop


def labels_heard(
    starts: NDArray[np.float64], ends: NDArray[np.float64], rows: pd.DataFrame, min_overlap_s: float
) -> list[dict[str, float]]:
    """Return the labels of each interval of a recording, with the seconds that they overlap it.

    Args:
        starts: ``(n,)`` starts of the intervals in seconds, in ascending order.
        ends: ``(n,)`` ends of the intervals in seconds.
        rows: Annotations of the recording: ``start_s``, ``end_s``, ``label``.
        min_overlap_s: Least overlap in seconds; half of an annotation shorter than twice this is enough.
    """
    found: list[defaultdict[str, float]] = [defaultdict(float) for _ in starts]
    longest = float((ends - starts).max(initial=0.0))
    for begin, end, label in zip(rows.start_s, rows.end_s, rows.label, strict=True):
        least = min(min_overlap_s, (end - begin) / 2) - TOLERANCE_S
        first, last = np.searchsorted(starts, [begin - longest, end], side="left")
        for i in range(int(first), int(last)):
            overlap = min(end, ends[i]) - max(begin, starts[i])
            if overlap > 0 and overlap >= least:
                found[i][label] += overlap
    return [dict(labels) for labels in found]


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)
