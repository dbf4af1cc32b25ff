"""Recordings to look at and listen to: the most confident mistakes and the most hesitant hits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from inspect import signature
from typing import Final

import numpy as np

from birdclf.audio.clip import AudioError, Waveform
from birdclf.audio.sound import encoded, spectrogram
from birdclf.audio.waveform import read_waveform
from birdclf.catalog.catalog import Catalog
from birdclf.errors import UserError
from birdclf.evaluation.metrics import log_softmax
from birdclf.inference.trust import named
from birdclf.report.document import Card, Cards, Section
from birdclf.report.moments import Moments, moments_of
from birdclf.report.runs import Run

EACH: Final = 8  # cards of a kind
RATE_HZ: Final = 22_050
SECONDS: Final = 5.0
MISTAKE, HIT = "confident mistake", "hesitant hit"


@dataclass(frozen=True)
class Pick:
    """A clip of the test split, and the row of its prediction."""

    row: int
    kind: str


def picks(run: Run, each: int = EACH) -> list[Pick]:
    """Return the wrong answers with most probability and the right ones with least, each kind in that order."""
    p = np.exp(log_softmax(run.test.logits))
    sure, right = p.max(axis=1), run.test.prediction == run.test.target
    wrong_rows = sorted(np.flatnonzero(~right), key=lambda row: (-sure[row], run.test.recording_id[row]))[:each]
    right_rows = sorted(np.flatnonzero(right), key=lambda row: (sure[row], run.test.recording_id[row]))[:each]
    return [Pick(int(row), MISTAKE) for row in wrong_rows] + [Pick(int(row), HIT) for row in right_rows]


def gallery(run: Run, most_bytes: int, moments: Moments | None = None) -> list[Card]:
    """Return the cards of a run's test split, with sound and picture where the recordings are still there.

    Args:
        run: A finished run.
        most_bytes: Limit of all pictures and sounds together; past it cards come without sound.
        moments: Tells which moments spoke for a species.
    """
    source = _source(run)
    cards, left = [], most_bytes
    for pick in picks(run):
        card = _with_sound(_bare(run, pick), source, moments, left)
        left -= len(card.spectrogram or b"") + len(card.audio or b"")
        cards.append(card)
    return cards


def gallery_section(label: str, run: Run, most_bytes: int) -> Section:
    """Return the section of a run's cards."""
    moments = moments_of(run)
    cards = gallery(run, most_bytes, None if isinstance(moments, str) else moments)
    said = (
        f"Of {label}, seed {run.seed}, on test data: the mistakes it was surest of, where the label may be wrong, and "
        f"the right answers it was least sure of. Sound and picture are the middle {SECONDS:g} s, at full level. "
        f"Whatever features the run used, pictures go evenly from 0 Hz below to {RATE_HZ / 2000:.0f} kHz above."
    )
    if isinstance(moments, str):
        said += f" Which moments spoke for a species is not shown: {moments}"
    else:
        said += " The strip below a picture is bright where the sound spoke for the predicted species (Grad-CAM)."
    rows = [Cards(f"{kind.capitalize()}s", tuple(c for c in cards if c.kind == kind)) for kind in (MISTAKE, HIT)]
    return Section("gallery", "Look and listen", (said, *(row for row in rows if row.cards)))


def _bare(run: Run, pick: Pick) -> Card:
    p = np.exp(log_softmax(run.test.logits[pick.row : pick.row + 1]))[0]
    truth, predicted = int(run.test.target[pick.row]), int(run.test.prediction[pick.row])
    return Card(
        recording_id=str(run.test.recording_id[pick.row]),
        truth=run.classes[truth],
        predicted=run.classes[predicted],
        p_truth=float(p[truth]),
        p_predicted=float(p[predicted]),
        kind=pick.kind,
    )


def _source(run: Run) -> Catalog | str:
    """Return the catalogue of a run's recordings, or a sentence that says why there is none."""
    node = run.config.get("data")
    target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
    try:
        make = named(node, Catalog, "data", of="the run")  # its folder may come from anyone
    except UserError:
        return f"The source {target or 'of the run'} is not one of birdclf's own, so it was not opened."
    try:
        # One recording that has moved is told on its card; the others still play.
        return make(allow_absent=True) if "allow_absent" in signature(make).parameters else make()
    except UserError as error:
        return f"The recordings cannot be found: {error}"
    except Exception as error:  # settings of another version
        return f"The source cannot be opened any more: {type(error).__name__}."


def _with_sound(card: Card, source: Catalog | str, moments: Moments | None, left: int) -> Card:
    if isinstance(source, str):
        return replace(card, note=source)
    rows = np.flatnonzero(source.table.recording_id == card.recording_id)
    if not len(rows):
        return replace(card, note="The source no longer holds this recording.")
    try:
        clip = source.subset(source.table.index == rows[0]).clips()[0]
        waveform = read_waveform(source.reader, clip, RATE_HZ)
        spoke = moments.over_time(source.reader, clip, card.predicted, SECONDS) if moments else None
    except AudioError as error:
        return replace(card, note=f"The recording {error}; it may have moved since.")
    except OSError as error:
        return replace(card, note=f"The recording cannot be opened ({error.strerror}); it may have moved since.")
    middle = _middle(waveform)
    picture, (sound, mime) = spectrogram(middle, RATE_HZ, spoke), encoded(middle, RATE_HZ)
    if len(picture) > left:
        return replace(card, note="Left out to keep the page small.")
    if len(picture) + len(sound) > left:
        return replace(card, spectrogram=picture, note="The sound is left out to keep the page small.")
    return replace(card, spectrogram=picture, audio=sound, mime=mime)


def _middle(waveform: Waveform) -> Waveform:
    """Return the middle of a waveform, at most ``SECONDS`` long, with a peak of 0.9."""
    most = round(SECONDS * RATE_HZ)
    begin = max(0, (len(waveform) - most) // 2)
    middle = waveform[begin : begin + most]
    return np.asarray(middle * (0.9 / max(float(np.abs(middle).max()), 1e-9)), dtype=np.float32)
