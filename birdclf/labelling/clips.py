"""Clips to label: the windows of highest score, a table of them, and a page to listen to them on."""

import os
import shutil
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from csv import QUOTE_NONNUMERIC
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.audio.clip import AudioError, Clip, Waveform
from birdclf.audio.files import FileReader
from birdclf.audio.mixing import Mix
from birdclf.audio.picture import encode_wav, spectrogram
from birdclf.audio.resampling import read_waveform
from birdclf.detection.inputs import Recording
from birdclf.files import refuse_existing, writing_to
from birdclf.pages import data_url, page_template
from birdclf.random import key_of

APART_S = 1e-6


class Candidate(NamedTuple):
    """A window that may be shown."""

    recording: Recording  # where it is
    start_s: float  # where it begins, in seconds
    end_s: float  # where the sound in it ends, in seconds
    probabilities: NDArray[np.float32]  # `(K,)`; none where it is not chosen by them
    embedding: NDArray[np.float32]  # `(D,)`
    score: float  # such as its uncertainty


class Pool:
    """Keeps the windows of highest score, and of windows that overlap the one of highest score.

    Up to twice its size is collected before the lower half is dropped. Of equal ones the first are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: list[Candidate] = []
        self._least = -np.inf
        """Score that a window must exceed to be kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def accepts(self, score: Any) -> Any:
        """Return whether a window of this score, or of each of an array, may be kept."""
        return score > self._least

    def add(self, candidate: Candidate) -> None:
        """Add a window, if its score is high enough."""
        if not self.accepts(candidate.score):
            return
        self._kept.append(candidate)
        if len(self._kept) == 2 * self.size:
            self._kept = self.best()
            if len(self._kept) == self.size:
                self._least = self._kept[-1].score

    def best(self) -> list[Candidate]:
        """Return those of highest score, at most as many as its size, in its order."""
        starts: dict[str, list[float]] = {}
        chosen: list[Candidate] = []
        for one in sorted(self._kept, key=lambda one: -one.score):
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
    """A clip to listen to and label."""

    rank: int  # 1 for the highest score
    recording: Recording
    start_s: float
    end_s: float
    guesses: tuple[tuple[str, float], ...]  # the model's species and probabilities, the likeliest first; or none
    score: float
    measure: str = "uncertainty"  # name of the score

    @classmethod
    def of(cls, rank: int, one: Candidate, names: Sequence[str], measure: str = "uncertainty") -> "Suggestion":
        """Return a candidate, whose probabilities ``(K,)`` are those of K names, as a suggestion."""
        best = np.argsort(-one.probabilities, kind="stable")[:GUESSES]
        guesses = tuple((names[k], round(float(one.probabilities[k]), DIGITS)) for k in best)
        start_s, end_s = round(one.start_s, DIGITS), round(one.end_s, DIGITS)
        return cls(rank, one.recording, start_s, end_s, guesses, round(one.score, DIGITS), measure)

    def row(self) -> dict[str, Any]:
        """Return its row of the manifest; its path is absolute, so that the table may be moved."""
        guesses: dict[str, Any] = {}
        if self.guesses:
            (first, confidence), (second, _) = (*self.guesses, ("", 0.0))[:2]  # one of a single species
            guesses = {"predicted": first, "confidence": confidence, "second_guess": second}
        return {
            "path": self.recording.file, "start_s": self.start_s, "end_s": self.end_s, "species": "", **guesses,
            self.measure: self.score, "rank": self.rank, "group": self.recording.file,
        }  # fmt: skip


RATE_HZ: Final = 22_050
MOST_BYTES: Final = 60_000_000
"""Limit of all pictures and sounds together, as they are written in the page."""


@dataclass(frozen=True)
class Card:
    """A clip as the page shows it."""

    suggestion: Suggestion
    name: str
    picture: str = ""
    sound: str = ""
    note: str = ""


@dataclass(frozen=True)
class Words:
    """What the page says of its clips."""

    order: str = "the one that the model is least sure of first"
    table: str = "suggestions.csv"  # file beside the page
    example: Suggestion | None = None  # recording that they were found by


def page(
    suggestions: Sequence[Suggestion], classes: Sequence[str], mix: Mix, most_bytes: int = MOST_BYTES,
    words: Words | None = None,
) -> str:  # fmt: skip
    """Return the page; past a limit of all pictures and sounds together, cards come without sound."""
    words = words or Words()
    rows = [one.row() for one in suggestions]
    data = {
        "key": f"{key_of(*(tuple(row.values()) for row in rows)):016x}",
        "columns": list(rows[0]) if rows else [],
        "rows": rows,
        "guesses": [[name for name, _ in one.guesses] for one in suggestions],
    }
    recordings = len({one.recording.file for one in suggestions})
    cards = list(_cards(suggestions, mix, most_bytes))
    example = next(_cards([words.example], mix, most_bytes)) if words.example else None
    return page_template("labelling").render(
        cards=cards, classes=list(classes), data=data, recordings=recordings, words=words, example=example
    )


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


QUIET: Final = 2.0**-14
"""Largest distance of a silent sample from the median: two steps of 16 bits."""
SHORTEST_S: Final = 0.01
"""Shorter sound is no call, but a click or the ringing of resampling beside a cut."""


def is_silent(samples: Waveform, rate_hz: int) -> bool:
    """Return whether a window ``(samples,)`` is silent, also with an offset."""
    return bool(np.count_nonzero(np.abs(samples - np.median(samples)) > QUIET) < SHORTEST_S * rate_hz)


NEW_FOLDER: Final = "It may hold labels: choose a new folder with --out."


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside a new one, which gets its name if all goes well.

    Raises:
        UserError: If the folder exists or cannot be written.
    """
    refuse_existing(out, NEW_FOLDER)
    with writing_to(out.parent, "then give the command again."):
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = out.with_name(f".{out.name[:100]}.{os.getpid()}.tmp")
        unfinished.mkdir()
        try:
            yield unfinished
            refuse_existing(out, NEW_FOLDER)
            os.rename(unfinished, out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def write_clips(
    folder: Path, suggestions: Sequence[Suggestion], classes: Sequence[str], mix: Mix, words: Words | None = None
) -> None:
    """Write the table of clips, a manifest without species, and ``index.html``."""
    words = words or Words()
    # All texts are quoted: a carriage return in a name would otherwise end the line.
    text = table_of(suggestions).to_csv(index=False, lineterminator="\n", quoting=QUOTE_NONNUMERIC)
    (folder / words.table).write_text(text, encoding="utf-8", newline="")
    (folder / "index.html").write_text(page(suggestions, classes, mix, words=words), "utf-8")


def table_of(suggestions: Sequence[Suggestion]) -> pd.DataFrame:
    """Return a manifest without species; a clip's group is its recording, so that no split cuts one in two."""
    return pd.DataFrame([one.row() for one in suggestions])
