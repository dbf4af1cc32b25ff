"""Recordings to look at and listen to: the most confident mistakes and the most hesitant hits."""

from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import Final

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from birdclf.audio.clip import AudioError, Clip, Reader, Waveform
from birdclf.audio.mixing import Mix
from birdclf.audio.picture import encode_wav, spectrogram
from birdclf.audio.resampling import read_waveform
from birdclf.data.catalog import Catalog
from birdclf.errors import UserError
from birdclf.features.mel import MelFeatures
from birdclf.metrics.figures import log_softmax
from birdclf.metrics.predictions import Predictions
from birdclf.report.document import Card, Cards, Section
from birdclf.runs.checkpoint import load_run
from birdclf.runs.predictor import Predictor
from birdclf.runs.run import Run
from birdclf.runs.trust import named


def class_activation(predictor: Predictor, bands: Tensor, target: int) -> Tensor | None:
    """Return gradient-weighted class activation over time (Grad-CAM, Selvaraju et al., 2017, equations 1 and 2).

    The map of the last convolution is averaged over the bands: cepstral coefficients have no place on a frequency axis,
    and a strip over time is the same to read for every representation. ``bands`` are the stored features ``(1, F, T)``
    of a window; the predictor is in evaluation mode.

    Returns:
        ``(T,)`` from 0 to 1, all 0 where nothing speaks for the class; None for a network without convolution.
    """
    convolutions = [layer for layer in predictor.network.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        return None
    with torch.enable_grad():
        features = predictor.features(bands).requires_grad_()
        cam = LayerGradCam(predictor.network, convolutions[-1])
        activation: Tensor = cam.attribute(features, target=target, relu_attributions=True).detach()  # (1, 1, f, t)
    over_time = functional.interpolate(activation.mean(dim=2), size=bands.shape[-1], mode="linear")[0, 0]
    return over_time / over_time.max().clamp_min(1e-12)


class ActivationMap:
    """Class activation of a run's best checkpoint over the middle window of a recording.

    Raises:
        UserError: If its checkpoint cannot be used.
    """

    def __init__(self, run: Run) -> None:
        self.loaded = load_run(run.folder)
        audio = run.config.get("audio") or {}
        self.mix = Mix(**{key: value for key, value in audio.items() if key != "_target_"})

    def over_time(self, reader: Reader, clip: Clip, species: str, seconds: float) -> NDArray[np.float32] | None:
        """Return ``(frames,)`` from 0 to 1 over the middle of a recording, 0 outside of its middle window.

        None for features that are one vector per window, and for a network that has no convolution.

        Raises:
            AudioError: If the recording cannot be decoded.
        """
        features = self.loaded.predictor.features
        if not isinstance(features, MelFeatures):
            return None
        hop_s = features.hop / features.sample_rate_hz
        waveform = read_waveform(reader, clip, features.sample_rate_hz, self.mix)
        bands = features.analyse(torch.from_numpy(waveform)).bands
        begin = (bands.shape[1] - features.frames) // 2
        window = bands[None, :, begin : begin + features.frames]
        activation = class_activation(self.loaded.predictor, window, self.loaded.classes.index(species))
        if activation is None:
            return None
        frames = min(features.frames, max(1, len(waveform) // features.hop))  # the rest is padding
        return _over_middle(activation[:frames].numpy(), hop_s, min(seconds, len(waveform) / features.sample_rate_hz))


def _over_middle(activation: NDArray[np.float32], hop_s: float, seconds: float) -> NDArray[np.float32]:
    """Return what is known of a stretch, as it is over another one with the same middle, frame by frame."""
    frames = max(1, round(seconds / hop_s))
    known = (np.arange(len(activation)) + (1 - len(activation)) / 2) * hop_s
    asked = (np.arange(frames) + (1 - frames) / 2) * hop_s
    values = np.interp(asked, known, activation)
    return np.where(np.abs(asked) <= known[-1] + hop_s, values, 0).astype(np.float32)


def activation_map_of(run: Run) -> ActivationMap | str:
    """Return what tells the moments of a run, or a sentence that says why its checkpoint cannot be used."""
    try:
        return ActivationMap(run)
    except UserError as error:
        return str(error)


EACH: Final = 8  # cards of a kind
RATE_HZ: Final = 22_050
SECONDS: Final = 5.0
MISTAKE, HIT = "confident mistake", "hesitant hit"


def picks(run: Run, each: int = EACH) -> list[tuple[int, str]]:
    """Return row and kind of the wrong answers with most probability and the right ones with least, in that order."""
    test = _of_one(run)
    p = np.exp(log_softmax(test.logits))
    sure, right = p.max(axis=1), test.prediction == test.target
    wrong_rows = sorted(np.flatnonzero(~right), key=lambda row: (-sure[row], test.recording_id[row]))[:each]
    right_rows = sorted(np.flatnonzero(right), key=lambda row: (sure[row], test.recording_id[row]))[:each]
    return [(int(row), MISTAKE) for row in wrong_rows] + [(int(row), HIT) for row in right_rows]


def gallery(run: Run, most_bytes: int, activation_map: ActivationMap | None = None) -> list[Card]:
    """Return the cards of a run's test split, with sound and picture where the recordings are still there."""
    source = _source(run)
    cards, left = [], most_bytes
    for row, kind in picks(run):
        card = _with_sound(_bare(run, row, kind), source, activation_map, left)
        left -= len(card.spectrogram or b"") + len(card.audio or b"")
        cards.append(card)
    return cards


def gallery_section(label: str, run: Run, most_bytes: int) -> Section:
    """Return the section of a run's cards."""
    activation_map = activation_map_of(run)
    cards = gallery(run, most_bytes, None if isinstance(activation_map, str) else activation_map)
    text = (
        f"Of {label}, seed {run.seeds}, on test data: its most confident mistakes, where the label may be wrong, and "
        f"the right answers it was least sure of. Sound and picture are the middle {SECONDS:g} s, at full level. "
        f"Whatever features the run used, pictures go evenly from 0 Hz below to {RATE_HZ / 2000:.0f} kHz above."
    )
    if isinstance(activation_map, str):
        text += f" Which moments supported a species is not shown: {activation_map}"
    else:
        text += " The strip below a picture is bright where the sound supports the predicted species (Grad-CAM)."
    rows = [Cards(f"{kind.capitalize()}s", tuple(c for c in cards if c.kind == kind)) for kind in (MISTAKE, HIT)]
    return Section("gallery", "Look and listen", (text, *(row for row in rows if row.cards)))


def _bare(run: Run, row: int, kind: str) -> Card:
    test = _of_one(run)
    p = np.exp(log_softmax(test.logits[row : row + 1]))[0]
    truth, predicted = int(test.target[row]), int(test.prediction[row])
    shown = (run.classes[truth], run.classes[predicted], float(p[truth]), float(p[predicted]))
    return Card(str(test.recording_id[row]), *shown, kind)


def _of_one(run: Run) -> Predictions:
    assert isinstance(run.test, Predictions), "the report has a gallery of single_label alone"
    return run.test


def _source(run: Run) -> Catalog | str:
    """Return the catalogue of a run's recordings, or a sentence that says why there is none."""
    node = run.config.get("data")
    target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
    try:
        make = named(node, Catalog, "data", of="the run")  # its folder may come from anyone
    except UserError:
        return f"The source {target or 'of the run'} is not one of birdclf's own, so it was not opened."
    try:
        # A recording that has moved is reported on its card; the others still play.
        return make(allow_absent=True) if "allow_absent" in signature(make).parameters else make()
    except UserError as error:
        return f"The recordings cannot be found: {error}"
    except Exception as error:  # settings of another version
        return f"The source cannot be opened any more: {type(error).__name__}."


def _with_sound(card: Card, source: Catalog | str, activation_map: ActivationMap | None, left: int) -> Card:
    if isinstance(source, str):
        return replace(card, note=source)
    rows = np.flatnonzero(source.table.recording_id == card.recording_id)
    if not len(rows):
        return replace(card, note="The source no longer holds this recording.")
    try:
        clip = source.subset(source.table.index == rows[0]).clips()[0]
        waveform = read_waveform(source.reader, clip, RATE_HZ)
        support = activation_map.over_time(source.reader, clip, card.predicted, SECONDS) if activation_map else None
    except AudioError as error:
        return replace(card, note=f"The recording {error}; it may have moved since.")
    except OSError as error:
        return replace(card, note=f"The recording cannot be opened ({error.strerror}); it may have moved since.")
    middle = _middle(waveform)
    picture, (sound, mime) = spectrogram(middle, support), encode_wav(middle, RATE_HZ)
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
