"""Soundscapes: the probabilities of segments of long recordings."""

import math
import sys
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.detection.classifier import Classifier, Vectors
from birdclf.detection.inputs import Recording
from birdclf.detection.predict import with_progress
from birdclf.detection.stream import StreamSettings
from birdclf.text import printable

ROUNDING_S: Final = 1e-6

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


def scores_of_detections(detections: pd.DataFrame, segments: pd.DataFrame, column: Mapping[str, int]) -> Vectors:
    """Return the scores ``(N, K)``, float32, of segments by another program: the highest confidence of its detections.

    They overlap the segment by half of the shorter of the two, or more; a species that it does not find has 0.

    Args:
        detections: Rows with ``file``, ``start_s``, ``end_s``, ``label`` and, where it is known, ``confidence``.
        segments: N rows with ``path``, ``start_s`` and ``end_s``, by path and begin.
        column: Number of the class of a label, 0 to K - 1; the others are passed over.
    """
    scores = np.zeros((len(segments), max(column.values()) + 1), np.float32)
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
        np.maximum.at(scores, (own[j], found.column.to_numpy()[i]), found.confidence.to_numpy(np.float32)[i])
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
