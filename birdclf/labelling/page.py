"""A page to listen to clips and to label them: one HTML file that loads nothing else."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import FileReader
from birdclf.audio.mixing import Mix
from birdclf.audio.picture import encoded, spectrogram
from birdclf.audio.resampling import read_waveform
from birdclf.detection.inputs import Recording
from birdclf.labelling.pool import Candidate
from birdclf.pages import page_template
from birdclf.random import key_of

GUESSES: Final = 3
DIGITS: Final = 6


@dataclass(frozen=True)
class Suggestion:
    """A clip, and what the model takes it for.

    Attributes:
        rank: 1 for the most uncertain.
        recording: Where it is.
        start_s: Where it begins, in seconds.
        end_s: Where it ends, in seconds.
        guesses: The likeliest species with their probabilities, likeliest first.
        uncertainty: From 0 to 1.
    """

    rank: int
    recording: Recording
    start_s: float
    end_s: float
    guesses: tuple[tuple[str, float], ...]
    uncertainty: float

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
            "path": self.recording.file,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "species": "",
            "predicted": self.guesses[0][0],
            "confidence": self.guesses[0][1],
            "second_guess": self.guesses[1][0],
            "uncertainty": self.uncertainty,
            "rank": self.rank,
            "group": self.recording.file,
        }


RATE_HZ: Final = 22_050
MOST_BYTES: Final = 60_000_000
"""Limit of all pictures and sounds together, as they are written in the page."""


@dataclass(frozen=True)
class Card:
    """A suggestion as the page shows it.

    Attributes:
        suggestion: What is suggested.
        name: Name of its file.
        picture: Its spectrogram as a data URL; empty where it is left out.
        sound: Its sound as a data URL; empty where it is left out.
        note: Why something is left out.
    """

    suggestion: Suggestion
    name: str
    picture: str = ""
    sound: str = ""
    note: str = ""


def page(suggestions: Sequence[Suggestion], classes: Sequence[str], mix: Mix, most_bytes: int = MOST_BYTES) -> str:
    """Return the page.

    Args:
        suggestions: Clips to label.
        classes: Names that are offered.
        mix: How a recording becomes one signal.
        most_bytes: Limit of all pictures and sounds together; past it cards come without sound.
    """
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
            heard = read_waveform(reader, Clip(name, one.recording.file, one.start_s, one.end_s), RATE_HZ, mix)
        except AudioError as error:
            yield Card(one, name, note=f"The recording {error}; it may have changed since.")
            continue
        except OSError as error:
            yield Card(one, name, note=f"The recording cannot be opened: {error.strerror}.")
            continue
        loud = np.asarray(heard * (0.9 / max(float(np.abs(heard).max()), 1e-9)), dtype=np.float32)
        picture, (content, mime) = _url(spectrogram(loud), "image/png"), encoded(loud, RATE_HZ)
        sound, note = _url(content, mime), ""
        if len(picture) + len(sound) > left:
            sound, note = "", "The sound is left out to keep the page small; play the file itself."
        if len(picture) > left:
            picture = ""
        left -= len(picture) + len(sound)
        yield Card(one, name, picture, sound, note)


def _url(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
