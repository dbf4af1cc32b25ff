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

    def over_time(self, reader: Reader, clip: Clip, species: str) -> NDArray[np.float32] | None:
        """Return ``(frames,)`` from 0 to 1 over the middle window, or over a shorter recording as a whole.

        None for a network that has no convolution.

        Raises:
            AudioError: If the recording cannot be decoded.
        """
        features = self.loaded.predictor.features
        waveform = read_waveform(reader, clip, features.sample_rate_hz, self.mix)
        bands = features.analyse(torch.from_numpy(waveform)).bands
        begin = (bands.shape[1] - features.frames) // 2
        window = bands[None, :, begin : begin + features.frames]
        activation = class_activation(self.loaded.predictor, window, self.loaded.classes.index(species))
        if activation is None:
            return None
        heard = min(features.frames, max(1, len(waveform) // features.hop))  # the rest is padding
        return np.asarray(activation[:heard].numpy(), dtype=np.float32)


def moments_of(run: Run) -> Moments | str:
    """Return what tells the moments of a run, or a sentence that says why its checkpoint cannot be used."""
    try:
        return Moments(run)
    except UserError as error:
        return str(error)
