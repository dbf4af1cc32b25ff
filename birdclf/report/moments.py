"""Which moments of a recording spoke for the species that a run took it for."""

import numpy as np
import torch
from numpy.typing import NDArray

from birdclf.audio.clip import Clip, Reader
from birdclf.audio.mixing import Mix
from birdclf.audio.waveform import read_waveform
from birdclf.errors import UserError
from birdclf.inference.activation import class_activation
from birdclf.inference.checkpoint import load_run
from birdclf.report.runs import Run


class Moments:
    """Class activation of a run's best checkpoint over the middle window of a recording.

    Args:
        run: A finished run.

    Raises:
        UserError: If its checkpoint cannot be used.
    """

    def __init__(self, run: Run) -> None:
        self.loaded = load_run(run.folder)
        audio = run.config.get("audio") or {}
        self.mix = Mix(**{key: value for key, value in audio.items() if key != "_target_"})

    def over_time(self, reader: Reader, clip: Clip, species: str, seconds: float) -> NDArray[np.float32] | None:
        """Return ``(frames,)`` from 0 to 1 over the middle of a recording, 0 outside of its middle window.

        None for a network that has no convolution.

        Args:
            reader: Opens the clip.
            clip: The recording.
            species: Name of the class.
            seconds: Length of the middle, which is shorter where the recording is.

        Raises:
            AudioError: If the recording cannot be decoded.
        """
        features = self.loaded.predictor.features
        hop_s = features.hop / features.sample_rate_hz
        waveform = read_waveform(reader, clip, features.sample_rate_hz, self.mix)
        bands = features.analyse(torch.from_numpy(waveform)).bands
        begin = (bands.shape[1] - features.frames) // 2
        window = bands[None, :, begin : begin + features.frames]
        activation = class_activation(self.loaded.predictor, window, self.loaded.classes.index(species))
        if activation is None:
            return None
        heard = min(features.frames, max(1, len(waveform) // features.hop))  # the rest is padding
        return _over_middle(activation[:heard].numpy(), hop_s, min(seconds, len(waveform) / features.sample_rate_hz))


def _over_middle(activation: NDArray[np.float32], hop_s: float, seconds: float) -> NDArray[np.float32]:
    """Return what is known of a stretch, as it is over another one with the same middle, frame by frame."""
    frames = max(1, round(seconds / hop_s))
    known = (np.arange(len(activation)) + (1 - len(activation)) / 2) * hop_s
    asked = (np.arange(frames) + (1 - frames) / 2) * hop_s
    values = np.interp(asked, known, activation)
    return np.where(np.abs(asked) <= known[-1] + hop_s, values, 0).astype(np.float32)


def moments_of(run: Run) -> Moments | str:
    """Return what tells the moments of a run, or a sentence that says why its checkpoint cannot be used."""
    try:
        return Moments(run)
    except UserError as error:
        return str(error)
