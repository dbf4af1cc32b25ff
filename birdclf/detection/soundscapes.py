"""Soundscapes: the probabilities of segments of long recordings."""

import math
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.detection.classifier import Classifier, Vectors
from birdclf.detection.inputs import Recording
from birdclf.detection.predict import with_progress
from birdclf.detection.stream import StreamSettings
from birdclf.text import printable

ROUNDING_S = 1e-6

Times = NDArray[np.float64]


def window_hop_s(window_s: float, segment_hop_s: float) -> float:
    """Return the longest time from window to window, at most a window, that divides that from segment to segment.

    A window then begins with each segment, and no sound is left out: 5 s for windows and segments of 5 s, 2.5 s for
    windows of 3 s.
    """
    return segment_hop_s / math.ceil(segment_hop_s / window_s - ROUNDING_S)


def scores_on_segments(classifier: Classifier, segments: pd.DataFrame, how: StreamSettings) -> Vectors:
    """Return the probabilities ``(N, K)``, float32, of segments: see :func:`best_of_windows`.

    Recordings are streamed one after another, and only the probabilities of one recording's windows are held. What
    could not be decoded is told on standard error; its segments are NaN.

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
        scores[own] = best_of_windows(found.probabilities, found.start_s, found.end_s, start_s[own], end_s[own])
        if found.problem:
            print(f"birdclf: {printable(found.recording.path)} {printable(found.problem)}", file=sys.stderr)
    return scores


def best_of_windows(p: Vectors, window_start_s: Times, window_end_s: Times, start_s: Times, end_s: Times) -> Vectors:
    """Return the highest probability ``(N, K)`` of each class among the windows that overlap a segment.

    They overlap by half of the shorter of the two, or more. A segment without such a window is NaN.

    Args:
        p: ``(n, K)`` probabilities of the windows of one recording, which are equally long.
        window_start_s: ``(n,)`` their begins, ascending, in seconds.
        window_end_s: ``(n,)`` their ends.
        start_s: ``(N,)`` begins of the segments.
        end_s: ``(N,)`` their ends.
    """
    scores = np.full((len(start_s), p.shape[1]), np.nan, np.float32)
    if not len(p):
        return scores
    half_s = np.minimum(window_end_s[0] - window_start_s[0], end_s - start_s) / 2 - ROUNDING_S
    first = np.searchsorted(window_end_s, start_s + half_s, "left")
    behind = np.searchsorted(window_start_s, end_s - half_s, "right")
    held = first < behind
    # Between two bounds of one segment reduceat takes the maximum; what lies between segments is thrown away.
    bounds = np.stack([first[held], behind[held]], axis=1).ravel()
    if len(bounds):
        padded = np.concatenate([p, np.zeros((1, p.shape[1]), p.dtype)])  # a bound may be the number of windows
        scores[held] = np.maximum.reduceat(padded, bounds, axis=0)[::2]
    return scores
