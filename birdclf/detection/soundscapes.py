"""Soundscapes: scores of the segments of long recordings, beside what is heard in them."""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.config import folder_name
from birdclf.data.label_names import LabelMap, map_labels
from birdclf.data.soundscapes import (
    Columns,
    SegmentSettings,
    durations_of,
    read_annotations,
    segment_table,
)
from birdclf.detection.classifier import Classifier, Vectors
from birdclf.detection.inputs import Recording
from birdclf.detection.predict import with_progress
from birdclf.detection.stream import StreamSettings
from birdclf.errors import UserError
from birdclf.files import refuse_existing
from birdclf.metrics.label_predictions import LabelPredictions
from birdclf.metrics.multi_label import logits_of
from birdclf.runs.soundscapes import PREFIX
from birdclf.targets import NONE
from birdclf.text import printable

ROUNDING_S: Final = 1e-6
NAMED: Final = 5
LISTED: Final = 10

Times = NDArray[np.float64]


def window_hop_s(window_s: float, segment_hop_s: float) -> float:
    """Return the longest time from window to window, at most a window, that divides that from segment to segment.

    A window then begins with each segment, and no sound is left out: 5 s for windows and segments of 5 s, 2.5 s for
    windows of 3 s.
    """
    return segment_hop_s / math.ceil(segment_hop_s / window_s - ROUNDING_S)


def scores_on_segments(classifier: Classifier, segments: pd.DataFrame, how: StreamSettings) -> Vectors:
    """Return the probabilities ``(N, K)``, float32, of segments: the highest among the windows that overlap each.

    They overlap by half of the shorter of the two, or more; a segment without such a window is NaN. Recordings are
    streamed one after another, and only the probabilities of one recording's windows are held. What could not be
    decoded is told on standard error.

    Args:
        classifier: Gives the probabilities of windows.
        segments: N rows with ``path``, ``start_s`` and ``end_s``.
        how: The stream of windows. :func:`window_hop_s` gives a hop with which each segment has a window.

    Raises:
        UserError: If the hop is no stretch of time.
    """
    scores = np.full((len(segments), len(classifier.input_spec.classes)), np.nan, np.float32)
    start_s, end_s = segments.start_s.to_numpy(np.float64), segments.end_s.to_numpy(np.float64)
    rows = segments.groupby("path", sort=False).indices
    recordings = [Recording(path, path, path) for path in map(str, rows)]
    for found in with_progress(recordings, classifier, how):
        own = rows[found.recording.path]
        row, window = overlapping(start_s[own], end_s[own], found.start_s, found.end_s)
        np.fmax.at(scores, own[row], found.probabilities[window])
        if found.problem:
            print(f"birdclf: {printable(found.recording.path)} {printable(found.problem)}", file=sys.stderr)
    return scores


def scores_of_detections(
    detections: pd.DataFrame, segments: pd.DataFrame, column: Mapping[str, int], classes: int
) -> Vectors:
    """Return the scores ``(N, K)``, float32, of segments by another program: the highest confidence of its detections.

    They overlap the segment by half of the shorter of the two, or more; a species that it does not find has 0.

    Args:
        detections: Rows with ``file``, ``start_s``, ``end_s``, ``label`` and, where it is known, ``confidence``.
        segments: N rows with ``path``, ``start_s`` and ``end_s``, by path and begin.
        column: Number of the class of a label, 0 to K - 1; the others are passed over.
        classes: K.
    """
    scores = np.zeros((len(segments), classes), np.float32)
    known = detections[detections.label.isin(column.keys())]
    confidence = known.confidence.fillna(1.0) if "confidence" in known else pd.Series(1.0, index=known.index)
    known = known.assign(confidence=confidence, column=known.label.map(column).astype(np.int64))
    rows = segments.groupby("path").indices
    for path, found in known.groupby("file"):
        if (own := rows.get(path)) is None:
            continue
        inside = segments.iloc[own]
        i, j = overlapping(
            *(table[name].to_numpy(np.float64) for table in (found, inside) for name in ("start_s", "end_s"))
        )
        best = scores[own]
        np.maximum.at(best, (j, found.column.to_numpy()[i]), found.confidence.to_numpy(np.float32)[i])
        scores[own] = best
    return scores


def overlapping(
    start_s: Times, end_s: Times, of_start_s: Times, of_end_s: Times
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of two lists of intervals that overlap by half of the shorter of the two, or more.

    Args:
        start_s: ``(n,)`` begins of the first, in seconds.
        end_s: ``(n,)`` their ends.
        of_start_s: ``(m,)`` begins of the second, ascending.
        of_end_s: ``(m,)`` their ends, ascending.

    Returns:
        Numbers in the first and in the second list, ``(P,)`` each.
    """
    first = np.searchsorted(of_end_s, start_s, "right")
    count = np.maximum(np.searchsorted(of_start_s, end_s, "left") - first, 0)
    i = np.repeat(np.arange(len(start_s)), count)
    j = np.arange(len(i)) + np.repeat(first - np.cumsum(count) + count, count)
    shared_s = np.minimum(end_s[i], of_end_s[j]) - np.maximum(start_s[i], of_start_s[j])
    held = shared_s >= np.minimum((end_s - start_s)[i], (of_end_s - of_start_s)[j]) / 2 - ROUNDING_S
    return i[held], j[held]


@dataclass(frozen=True)
class SoundscapeSettings:
    """Settings of a judgement on soundscapes.

    Attributes:
        root: Folder of the recordings.
        annotations: Table of all annotations; None where they lie beside the recordings.
        columns: Names of its columns.
        labels: CSV file with the columns ``label`` and ``species``.
        segments: How recordings are cut.
        hop_s: Seconds from window to window; None for :func:`birdclf.detection.soundscapes.window_hop_s`.
        detections: Tables of other programs' detections by the name under which they are shown.
    """

    root: Path
    annotations: Path | None = None
    columns: Columns = field(default_factory=Columns)
    labels: Path | None = None
    segments: SegmentSettings = field(default_factory=SegmentSettings)
    hop_s: float | None = None
    detections: Mapping[str, Path] = field(default_factory=dict)

    def folder(self, source: Path, checkpoint: str, out: Path | None) -> Path:
        """Return the folder to write to.

        Raises:
            UserError: If it exists, or none is given and the source has no place for it.
        """
        if out is None and source.is_file():
            raise UserError(f"{source} is a file: say where to write the evaluation with --out DIR.")
        last = "" if checkpoint == "best" else f"_{checkpoint}"
        found = out or source / "evaluations" / f"{PREFIX}{folder_name(self.root.resolve().name)}{last}"
        refuse_existing(found, "Choose another folder with --out.")
        return found

    def hop(self, window_s: float) -> float:
        """Return the seconds from window to window.

        Raises:
            UserError: If a segment could be without a window.
        """
        longest = max(window_s, self.segments.segment_s)
        if self.hop_s is not None and self.hop_s > longest:
            raise UserError(
                f"--hop {self.hop_s:g}: some segments of {self.segments.segment_s:g} s would have no window of "
                f"{window_s:g} s. At most {longest:g}."
            )
        return window_hop_s(window_s, self.segments.segment_s) if self.hop_s is None else self.hop_s


@dataclass(frozen=True)
class Truth:
    """Segments of annotated soundscapes, and what is heard in each.

    A segment in which only species are heard that are no class of the classifier is a negative of every class, as in
    BirdSet (Rauch et al., 2024), but it is not empty: its detections are not counted among those of empty sound.

    Attributes:
        root: Folder of the recordings.
        segments: N rows ``path``, ``start_s``, ``end_s``, ``labels``, by path and begin.
        classes: The C classes of the classifier that are annotated; all of them where nothing is.
        target: ``(N, C)``, 1 where a class is heard and 0 where not.
        unmapped: Annotations of each label that is no class, the most frequent first.
        notes: What was left out, merged or clipped.
    """

    root: Path
    segments: pd.DataFrame
    classes: tuple[str, ...]
    target: NDArray[np.int8]
    unmapped: dict[str, int]
    notes: list[str]

    @property
    def others(self) -> NDArray[np.bool_]:
        """``(N,)`` segments in which species are heard, none of which is a class."""
        labels = self.segments.labels.map(len).to_numpy()
        return np.asarray((labels > 0) & ~self.target.any(axis=1), dtype=bool)

    def only(self, kept: NDArray[np.bool_]) -> "Truth":
        """Return those of the segments ``(N,)``."""
        return replace(self, segments=self.segments[kept].reset_index(drop=True), target=self.target[kept])

    def predictions(self, p: Vectors) -> LabelPredictions:
        """Return probabilities ``(N, C)`` of the segments as predictions, clustered by recording."""
        path, start_s, end_s = (self.segments[name] for name in ("path", "start_s", "end_s"))
        name = {each: Path(each).relative_to(self.root).as_posix() for each in path.unique()}
        cluster = path.map(name).to_numpy(dtype=object)
        span = [f"{name}#{begin:g}-{end:g}" for name, begin, end in zip(cluster, start_s, end_s, strict=True)]
        seconds = (end_s - start_s).to_numpy(np.float64)
        return LabelPredictions(np.array(span, object), self.target, logits_of(p), cluster, seconds, self.others)


def read_truth(
    root: Path,
    classes: Sequence[str],
    settings: SegmentSettings,
    table: Path | None = None,
    columns: Columns | None = None,
    labels: Path | None = None,
) -> Truth:
    """Return the segments of the soundscapes in a folder, and which of a classifier's species is heard in each.

    Args:
        root: Folder of the recordings, with annotation files beside them unless ``table`` holds the annotations.
        classes: Species of the classifier; ``none`` is not one.
        settings: How recordings are cut.
        table: Annotations of all recordings.
        columns: Names of its columns.
        labels: CSV file with the columns ``label`` and ``species``, for labels that are not named as the classes.

    Raises:
        UserError: If there is no sound or annotation, something cannot be read, or no annotated label is a class.
    """
    root = root.absolute()
    species = [name for name in classes if name != NONE]
    annotations = read_annotations(root, table, columns)
    counts = Counter(annotations.table.label)
    found = map_labels(counts, species, labels)
    if counts and not found.of:
        raise UserError(
            f"No annotated label is one of the model's species. Labels: {_first(found.unmapped)}. Species: "
            f"{_first(species)}. Say which is which in a table with the columns label and species: --labels FILE"
        )
    heard = set(found.of.values())
    judged = tuple(name for name in species if name in heard or not counts)
    segments = segment_table(annotations, durations_of(annotations.recordings), settings)
    target = np.zeros((len(segments), len(judged)), np.int8)
    column = {label: judged.index(name) for label, name in found.of.items()}
    for row, names in enumerate(segments.labels):
        target[row, [column[name] for name in names if name in column]] = 1
    return Truth(root, segments, judged, target, _unmapped(counts, found), annotations.notes)


def decoded_scores(classifier: Classifier, truth: Truth, how: StreamSettings) -> tuple[Truth, Vectors]:
    """Return the segments ``(N,)`` that could be decoded, and the probabilities ``(N, K)`` of all classes in them.

    Raises:
        UserError: If there is none.
    """
    scores = scores_on_segments(classifier, truth.segments, how)
    decoded = np.asarray(np.isfinite(scores).all(axis=1), dtype=bool)
    if not decoded.any():
        raise UserError(f"{truth.root}: no segment could be decoded.")
    if missing := int((~decoded).sum()):
        truth.notes.append(f"{missing} segments could not be decoded and are left out")
    return truth.only(decoded), scores[decoded]


def judge(classifier: Classifier, truth: Truth, how: StreamSettings) -> tuple[Truth, LabelPredictions]:
    """Return the segments that a classifier could judge, and its predictions of their classes.

    Raises:
        UserError: If it could judge none.
    """
    truth, scores = decoded_scores(classifier, truth, how)
    return truth, truth.predictions(scores[:, [classifier.input_spec.classes.index(name) for name in truth.classes]])


@dataclass(frozen=True)
class Detections:
    """Detections of another program.

    Attributes:
        table: Rows ``file``, ``start_s``, ``end_s``, ``label`` and, where it is known, ``confidence``.
        column: Number of the class of each label that is judged.
        unmapped: Detections of each label that is no class of the run, the most frequent first.
        notes: What was left out or merged.
    """

    table: pd.DataFrame
    column: dict[str, int]
    unmapped: dict[str, int]
    notes: list[str]

    def predictions(self, truth: Truth) -> LabelPredictions:
        """Return them as predictions of segments."""
        return truth.predictions(scores_of_detections(self.table, truth.segments, self.column, len(truth.classes)))


def read_detections(truth: Truth, table: Path, classes: Sequence[str], labels: Path | None = None) -> Detections:
    """Return the detections in a table, such as BirdNET's CSV or a Raven table.

    Args:
        truth: Segments that they will be judged on.
        table: The table.
        classes: Species of the run's classifier, by which its labels are mapped.
        labels: As in :func:`read_truth`.

    Raises:
        UserError: If the table cannot be read, is of other recordings, names none of the species, or has confidences
            that are no probabilities.
    """
    detections = read_annotations(truth.root, table, partial=True)
    counts = Counter(detections.table.label)
    beyond = detections.table.get("confidence", pd.Series(dtype=float)).loc[lambda values: (values < 0) | (values > 1)]
    if len(beyond):
        raise UserError(
            f"{table} has {len(beyond)} confidences outside 0 to 1, first {beyond.iloc[0]:g}. Give probabilities: of a "
            f"logit x it is 1 / (1 + exp(-x)), of a percentage a hundredth."
        )
    found = map_labels(counts, [name for name in classes if name != NONE], labels)
    if counts and not found.of:
        raise UserError(
            f"{table} detects none of the model's species. Its labels: {_first(found.unmapped)}. Species: "
            f"{_first(truth.classes)}. Say which is which in a table with the columns label and species: --labels FILE"
        )
    column = {label: truth.classes.index(name) for label, name in found.of.items() if name in truth.classes}
    return Detections(detections.table, column, _unmapped(counts, found), detections.notes)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _unmapped(counts: Counter[str], found: LabelMap) -> dict[str, int]:
    """Return the number of each label that is no class, the most frequent first."""
    return {label: count for label, count in counts.most_common() if label not in found.of}


def unknown_labels(unmapped: Mapping[str, int]) -> list[str]:
    """Return a sentence on labels that are none of the run's species, if there are any."""
    if not unmapped:
        return []
    names = [f"{label} ({count:,})" for label, count in list(unmapped.items())[:LISTED]]
    more = f" and {len(unmapped) - LISTED} more" if len(unmapped) > LISTED else ""
    return [f"labels that are none of the model's species: {len(unmapped)}, {', '.join(names)}{more}"]
