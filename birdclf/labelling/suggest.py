"""The ``suggest`` command: unlabelled recordings in, a table and a page of the clips most worth a label out."""

import os
import shutil
import sys
import warnings
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from csv import QUOTE_NONNUMERIC
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from birdclf.audio.clip import AudioError, Clip, Waveform
from birdclf.audio.files import FileReader
from birdclf.audio.mixing import Mix
from birdclf.audio.picture import encode_wav, spectrogram
from birdclf.audio.resampling import read_waveform
from birdclf.audio.windows import Window
from birdclf.detection.classifier import Classifier, Vectors
from birdclf.detection.detections import DetectionSettings
from birdclf.detection.inputs import Recording, recordings_of
from birdclf.detection.predict import with_progress
from birdclf.detection.stream import StreamSettings
from birdclf.errors import UserError
from birdclf.files import refuse_existing, writing_to
from birdclf.pages import data_url, page_template
from birdclf.random import key_of, stream
from birdclf.text import printable

APART_S = 1e-6


class Candidate(NamedTuple):
    """A window that may be suggested."""

    recording: Recording  # where it is
    start_s: float  # where it begins, in seconds
    end_s: float  # where the sound in it ends, in seconds
    probabilities: NDArray[np.float32]  # `(K,)`
    embedding: NDArray[np.float32]  # `(D,)`
    uncertainty: float  # from 0 to 1


class Pool:
    """Keeps the most uncertain windows, and of windows that overlap the most uncertain one.

    Up to twice its size is collected before the least uncertain half is dropped. Of equal ones the first are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: list[Candidate] = []
        self._least = -1.0
        """Uncertainty that a window must exceed to be kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def accepts(self, uncertainty: float) -> bool:
        """Return whether a window of this uncertainty may be kept."""
        return uncertainty > self._least

    def add(self, candidate: Candidate) -> None:
        """Add a window, if it is uncertain enough."""
        if not self.accepts(candidate.uncertainty):
            return
        self._kept.append(candidate)
        if len(self._kept) == 2 * self.size:
            self._kept = self.best()
            if len(self._kept) == self.size:
                self._least = self._kept[-1].uncertainty

    def best(self) -> list[Candidate]:
        """Return the most uncertain ones, at most as many as its size, in order of uncertainty."""
        starts: dict[str, list[float]] = {}
        chosen: list[Candidate] = []
        for one in sorted(self._kept, key=lambda one: -one.uncertainty):
            taken = starts.setdefault(one.recording.file, [])
            at = bisect_left(taken, one.start_s)
            length_s = one.end_s - one.start_s - APART_S  # of all windows of a recording
            if any(abs(other - one.start_s) < length_s for other in taken[max(0, at - 1) : at + 1]):
                continue
            insort(taken, one.start_s)
            chosen.append(one)
            if len(chosen) == self.size:
                break
        return chosen


GUESSES: Final = 3
DIGITS: Final = 6


@dataclass(frozen=True)
class Suggestion:
    """A clip, with the model's most probable species."""

    rank: int  # 1 for the most uncertain
    recording: Recording
    start_s: float
    end_s: float
    guesses: tuple[tuple[str, float], ...]  # species and probability, the likeliest first
    uncertainty: float  # 0 to 1

    @classmethod
    def of(cls, rank: int, one: Candidate, names: Sequence[str]) -> "Suggestion":
        """Return a candidate, whose probabilities ``(K,)`` are those of K names, as a suggestion."""
        best = np.argsort(-one.probabilities, kind="stable")[:GUESSES]
        guesses = tuple((names[k], round(float(one.probabilities[k]), DIGITS)) for k in best)
        start_s, end_s = round(one.start_s, DIGITS), round(one.end_s, DIGITS)
        return cls(rank, one.recording, start_s, end_s, guesses, round(one.uncertainty, DIGITS))

    def row(self) -> dict[str, Any]:
        """Return its row of the manifest; its path is absolute, so that the table may be moved."""
        return {
            "path": self.recording.file, "start_s": self.start_s, "end_s": self.end_s, "species": "",
            "predicted": self.guesses[0][0], "confidence": self.guesses[0][1], "second_guess": self.guesses[1][0],
            "uncertainty": self.uncertainty, "rank": self.rank, "group": self.recording.file,
        }  # fmt: skip


RATE_HZ: Final = 22_050
MOST_BYTES: Final = 60_000_000
"""Limit of all pictures and sounds together, as they are written in the page."""


@dataclass(frozen=True)
class Card:
    """A suggestion as the page shows it."""

    suggestion: Suggestion
    name: str
    picture: str = ""
    sound: str = ""
    note: str = ""


def page(suggestions: Sequence[Suggestion], classes: Sequence[str], mix: Mix, most_bytes: int = MOST_BYTES) -> str:
    """Return the page; past a limit of all pictures and sounds together, cards come without sound."""
    rows = [one.row() for one in suggestions]
    data = {
        "key": f"{key_of(*(tuple(row.values()) for row in rows)):016x}",
        "columns": list(rows[0]) if rows else [],
        "rows": rows,
        "guesses": [[name for name, _ in one.guesses] for one in suggestions],
    }
    recordings = len({one.recording.file for one in suggestions})
    cards = list(_cards(suggestions, mix, most_bytes))
    return page_template("labelling").render(cards=cards, classes=list(classes), data=data, recordings=recordings)


def _cards(suggestions: Sequence[Suggestion], mix: Mix, left: int) -> Iterator[Card]:
    reader = FileReader()
    for one in suggestions:
        name = Path(one.recording.file).name
        try:
            sound = read_waveform(reader, Clip(name, one.recording.file, one.start_s, one.end_s), RATE_HZ, mix)
        except AudioError as error:
            yield Card(one, name, note=f"The recording {error}; it may have changed since.")
            continue
        except OSError as error:
            yield Card(one, name, note=f"The recording cannot be opened: {error.strerror}.")
            continue
        louder = np.asarray(sound * (0.9 / max(float(np.abs(sound).max()), 1e-9)), dtype=np.float32)
        picture = data_url(spectrogram(louder), "image/png")
        audio, note = data_url(*encode_wav(louder, RATE_HZ)), ""
        if len(picture) + len(audio) > left:
            audio, note = "", "The sound is left out to keep the page small; play the file itself."
        if len(picture) > left:
            picture = ""
        left -= len(picture) + len(audio)
        yield Card(one, name, picture, audio, note)


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


MEASURES: Final[dict[str, Measure]] = {"entropy": entropy, "margin": margin, "least_confidence": least_confidence}
"""Measures by their names."""


QUIET: Final = 2.0**-14
"""Largest distance of a silent sample from the median: two steps of 16 bits."""
SHORTEST_S: Final = 0.01
"""Shorter sound is no call, but a click or the ringing of resampling beside a cut."""
LISTED: Final = 5
NEW_FOLDER: Final = "It may hold labels: choose a new folder with --out."


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

    def __post_init__(self) -> None:
        for name, value in (("--n", self.n), ("--pool", self.pool)):
            if value < 1:
                raise UserError(f"{name} {value}: a whole number, 1 or more.")
        if self.uncertainty not in MEASURES:
            raise UserError(f"--uncertainty {self.uncertainty}: one of {', '.join(MEASURES)}.")
        DetectionSettings(species=self.species)  # refuses a single species, whose probability is always 1


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
    with writing_to(out.parent, "then give the command again."):
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = out.with_name(f".{out.name[:100]}.{os.getpid()}.tmp")
        unfinished.mkdir()
        try:
            chosen = choose(classifier, recordings, how, settings)
            # All texts are quoted: a carriage return in a name would otherwise end the line.
            text = table_of(chosen.suggestions).to_csv(index=False, lineterminator="\n", quoting=QUOTE_NONNUMERIC)
            (unfinished / "suggestions.csv").write_text(text, encoding="utf-8", newline="")
            names = settings.species or classifier.input_spec.classes
            (unfinished / "index.html").write_text(page(chosen.suggestions, names, classifier.input_spec.mix), "utf-8")
            refuse_existing(out, NEW_FOLDER)
            os.rename(unfinished, out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return chosen


def choose(
    classifier: Classifier, recordings: Sequence[Recording], how: StreamSettings, settings: SuggestSettings
) -> Suggestions:
    """Return the windows that are suggested.

    Raises:
        UserError: If no recording has sound.
    """
    classes = classifier.input_spec.classes
    if len(classes) < 2:
        raise UserError(f"The model knows {len(classes)} species, and is never uncertain. Use one of more species.")
    kept = np.isin(np.asarray(classes), settings.species or classes)
    names = [name for name, occurs in zip(classes, kept, strict=True) if occurs]
    among = DetectionSettings(species=settings.species)
    measure = MEASURES[settings.uncertainty]
    pool = Pool(settings.n * settings.pool)
    windows, rate_hz = 0, classifier.input_spec.sample_rate_hz

    def each(recording: Recording, window: Window, p: Vectors, embedding: Vectors) -> None:
        nonlocal windows
        if is_silent(window.samples, rate_hz):
            return
        windows += 1
        p = among.calibrated(p[None], np.zeros(1), classes)[:, kept]
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
    candidates = pool.best()
    if not candidates:
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        message = f": {'; '.join(problems[:LISTED])}{more}" if problems else ""
        raise UserError(f"There is nothing but silence in {len(recordings)} recordings{message}.")
    embeddings = np.stack([one.embedding for one in candidates])
    weights = np.asarray([one.uncertainty for one in candidates])
    rows = select_diverse(embeddings, weights, settings.n, stream("suggest", settings.seed))
    picked = [Suggestion.of(rank, candidates[row], names) for rank, row in enumerate(rows, start=1)]
    return Suggestions(picked, decoded, windows, problems)


def is_silent(samples: Waveform, rate_hz: int) -> bool:
    """Return whether a window ``(samples,)`` is silent, also with an offset."""
    return bool(np.count_nonzero(np.abs(samples - np.median(samples)) > QUIET) < SHORTEST_S * rate_hz)


def table_of(suggestions: Sequence[Suggestion]) -> pd.DataFrame:
    """Return a manifest without species; a clip's group is its recording, so that no split cuts one in two."""
    return pd.DataFrame([one.row() for one in suggestions])


def _in_utf_8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False
