"""The ``suggest`` command: unlabelled recordings in, a table and a page of the clips most worth a label out."""

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import logit
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from birdclf.audio.windows import Window
from birdclf.detection.classifier import Classifier, Vectors
from birdclf.detection.detections import DetectionSettings
from birdclf.detection.inputs import Recording, recordings_of
from birdclf.detection.predict import with_progress
from birdclf.detection.stream import StreamSettings
from birdclf.detection.thresholds import Thresholds
from birdclf.errors import UserError
from birdclf.files import refuse_existing
from birdclf.labelling.clips import NEW_FOLDER, Candidate, Pool, Suggestion, Words, is_silent, new_folder, write_clips
from birdclf.random import stream
from birdclf.text import printable

STARTS: Final = 3
"""Runs of k-means with different initial centres, the best of which is used."""

Points = NDArray[np.float32]


def select_diverse(
    embeddings: Points, weights: NDArray[np.floating], k: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the rows of ``k`` points, ascending: one of each cluster of a weighted k-means, the nearest to its centre.

    Embeddings ``(n, D)`` are scaled to length 1 here; weights ``(n,)`` are 0 or more. Where there are no more than
    ``k`` points, all are returned.
    """
    n = len(embeddings)
    if k >= n:
        return np.arange(n)
    points = np.asarray(embeddings, np.float32)
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    heavy = np.asarray(weights, np.float64)
    heavy = heavy + max(float(heavy.max()), 1.0) * 1e-9  # if all weights are 0 they are equal
    kmeans = KMeans(k, n_init=STARTS, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters, handled below
        cluster = kmeans.fit_predict(points, sample_weight=heavy)
    distance = np.square(points - kmeans.cluster_centers_[cluster]).sum(axis=1)
    order = np.lexsort((np.arange(n), distance, cluster))
    first = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    chosen = order[first]
    if len(chosen) < k:  # equal points leave clusters empty
        rest = np.setdiff1d(np.argsort(-heavy, kind="stable"), chosen, assume_unique=True)
        chosen = np.concatenate([chosen, rest[: k - len(chosen)]])
    return np.sort(chosen)


Measure = Callable[[NDArray[np.floating]], NDArray[np.float64]]


def entropy(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entropy ``(n,)`` of probabilities ``(n, K)``, K of 2 or more, over that of a uniform distribution."""
    return np.asarray(stats.entropy(np.asarray(p, dtype=np.float64), base=p.shape[1], axis=1))


def margin(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 minus the difference of the two largest of K probabilities, ``(n,)``."""
    two = np.partition(np.asarray(p, dtype=np.float64), -2, axis=1)[:, -2:]
    return np.asarray(1 - (two[:, 1] - two[:, 0]))


def least_confidence(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 minus the largest of K probabilities, ``(n,)``, over its maximum ``1 - 1 / K``."""
    p = np.asarray(p, dtype=np.float64)
    return np.asarray((1 - p.max(axis=1)) * (p.shape[1] / (p.shape[1] - 1)))


def set_entropy(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean over K species of the entropy of each being there or not, in bits, ``(n,)``."""
    p = np.asarray(p, dtype=np.float64)
    return np.asarray(stats.entropy(np.stack([p, 1 - p]), base=2, axis=0).mean(axis=1))


def set_margin(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ``1 - |2 p - 1|`` of the species of K whose probability is nearest to 0.5, ``(n,)``."""
    return np.asarray(1 - np.abs(2 * np.asarray(p, dtype=np.float64) - 1).min(axis=1))


def set_least_confidence(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ``1 - |2 p - 1|`` of the most probable of K species, ``(n,)``."""
    return np.asarray(1 - np.abs(2 * np.asarray(p, dtype=np.float64).max(axis=1) - 1))


MEASURES: Final[dict[str, Measure]] = {"entropy": entropy, "margin": margin, "least_confidence": least_confidence}
"""Measures by their names, of probabilities that are shares among the species."""
SET_MEASURES: Final[dict[str, Measure]] = {
    "entropy": set_entropy,
    "margin": set_margin,
    "least_confidence": set_least_confidence,
}
"""Those of probabilities of which each species has its own."""


LISTED: Final = 5
CLOSENESS: Final = "closeness"
"""Name of the score by which windows near a threshold are chosen: 0 there, below 0 by the logits away from it."""
LEAST: Final = 1e-7
"""Distance from 0 and 1 at which logits end."""


@dataclass(frozen=True)
class SuggestSettings:
    """Which windows are suggested.

    Raises:
        UserError: If a value is out of range.
    """

    n: int = 50
    uncertainty: str = "entropy"
    pool: int = 10  # size of the pool of most uncertain windows, in multiples of n, that diverse ones are chosen from
    seed: int = 1
    species: tuple[str, ...] | None = None
    thresholds: Thresholds | None = None  # windows near them are chosen, for narrower intervals

    def __post_init__(self) -> None:
        for name, value in (("--n", self.n), ("--pool", self.pool)):
            if value < 1:
                raise UserError(f"{name} {value}: a whole number, 1 or more.")
        if self.uncertainty not in MEASURES:
            raise UserError(f"--uncertainty {self.uncertainty}: one of {', '.join(MEASURES)}.")


class Suggestions(NamedTuple):
    """Suggested windows, and the numbers that they were chosen from."""

    suggestions: list[Suggestion]
    recordings: int
    windows: int
    problems: list[str]


def suggest(
    classifier: Classifier,
    given: Sequence[str],
    listed: Sequence[str],
    out: Path,
    how: StreamSettings,
    settings: SuggestSettings,
) -> Suggestions:
    """Choose windows of recordings to label, and write a table of them and a page to label them on.

    Raises:
        UserError: If there is no recording or none with sound, or the folder exists or cannot be written.
    """
    refuse_existing(out, NEW_FOLDER)
    recordings = recordings_of(given, listed)
    with new_folder(out) as unfinished:
        chosen = choose(classifier, recordings, how, settings)
        names = settings.species or classifier.input_spec.classes
        words = Words(order="the one nearest to a species' threshold first") if settings.thresholds else None
        write_clips(unfinished, chosen.suggestions, names, classifier.input_spec.mix, words)
    return chosen


def choose(
    classifier: Classifier, recordings: Sequence[Recording], how: StreamSettings, settings: SuggestSettings
) -> Suggestions:
    """Return the windows that are suggested.

    Raises:
        UserError: If no recording has sound, or there is a single species whose probability is always 1.
    """
    classes, task = classifier.input_spec.classes, classifier.input_spec.task
    if task == "single_label" and len(classes) < 2:
        raise UserError(f"The model knows {len(classes)} species, and is never uncertain. Use one of more species.")
    kept = np.isin(np.asarray(classes), settings.species or classes)
    names = [name for name, occurs in zip(classes, kept, strict=True) if occurs]
    thresholds = settings.thresholds.species if settings.thresholds else None
    among = DetectionSettings(species=settings.species, thresholds=thresholds, task=task)
    measure = (MEASURES if task == "single_label" else SET_MEASURES)[settings.uncertainty]
    near = _near_thresholds(names, settings)
    pool = Pool(settings.n * (1 if near else settings.pool))
    windows, rate_hz = 0, classifier.input_spec.sample_rate_hz

    def each(recording: Recording, window: Window, p: Vectors, embedding: Vectors) -> None:
        nonlocal windows
        if is_silent(window.samples, rate_hz) or not p.any():  # the model rejects it
            return
        windows += 1
        p = among.calibrated(p[None], np.zeros(1), classes)[:, kept]
        for k, (threshold, own) in near.items():
            closeness = -abs(_logit(float(p[0, k])) - threshold)
            if own.accepts(closeness):
                own.add(Candidate(recording, window.start_s, window.end_s, p[0].copy(), embedding.copy(), closeness))
        if near:
            return
        uncertainty = float(measure(p)[0])
        if pool.accepts(uncertainty):  # copies of rows of a batch
            pool.add(Candidate(recording, window.start_s, window.end_s, p[0].copy(), embedding.copy(), uncertainty))

    problems = []

    def report(recording: Recording, problem: str) -> None:
        problems.append(f"{printable(recording.path)} {printable(problem)}")
        print(f"birdclf: {problems[-1]}", file=sys.stderr)

    named = [one for one in recordings if _in_utf_8(one.file)]
    for recording in recordings:
        if not _in_utf_8(recording.file):
            report(recording, "has a name that is not UTF-8, which no table can hold")
    decoded = 0
    for one in with_progress(named, classifier, StreamSettings(how.hop_s, batch=how.batch, each=each)):
        decoded += len(one.start_s) > 0
        if one.problem:
            report(one.recording, one.problem)
    for _, own in near.values():
        for candidate in own.best():
            pool.add(candidate)
    candidates = pool.best()
    if not candidates:
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        message = f": {'; '.join(problems[:LISTED])}{more}" if problems else ""
        raise UserError(f"There is nothing but silence in {len(recordings)} recordings{message}.")
    embeddings = np.stack([one.embedding for one in candidates])
    weights = np.asarray([one.score for one in candidates])
    if near:
        chosen = [Suggestion.of(rank, one, names, CLOSENESS) for rank, one in enumerate(candidates, start=1)]
        return Suggestions(chosen, decoded, windows, problems)
    rows = select_diverse(embeddings, weights, settings.n, stream("suggest", settings.seed))
    picked = [Suggestion.of(rank, candidates[row], names) for rank, row in enumerate(rows, start=1)]
    return Suggestions(picked, decoded, windows, problems)


def _near_thresholds(names: Sequence[str], settings: SuggestSettings) -> dict[int, tuple[float, Pool]]:
    """Return the logit of each species' threshold, and a pool of the windows nearest to it; none without thresholds.

    The clips are shared among species as the clips to listen to are, of which none gets more. A species without a
    threshold gets the windows of its highest scores.

    Raises:
        UserError: If no species needs a clip.
    """
    if settings.thresholds is None:
        return {}
    known = settings.thresholds.species
    listen = {k: known[name].listen for k, name in enumerate(names) if name in known and known[name].listen}
    if not listen:
        raise UserError("The precision of every species is known to 5 points: no clips are needed for its threshold.")
    share = settings.n / max(sum(listen.values()), settings.n)
    return {
        k: (_logit(np.nan_to_num(known[names[k]].threshold, nan=1.0)), Pool(math.ceil(clips * share)))
        for k, clips in listen.items()
    }


def _logit(p: float) -> float:
    return float(logit(np.clip(p, LEAST, 1 - LEAST)))


def _in_utf_8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False
