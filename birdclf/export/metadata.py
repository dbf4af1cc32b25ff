"""What an exported file says of itself: all that it takes to feed it and to read what it answers."""

from typing import Any, Final

import birdclf
from birdclf.audio.mixing import Mix
from birdclf.detection.classifier import FORMAT, Hearing
from birdclf.errors import UserError
from birdclf.runs.checkpoint import LoadedRun

INPUT: Final = "waveform"
OUTPUTS: Final = ("probabilities", "embeddings")


def metadata_of(loaded: LoadedRun, hearing: Hearing, quantisation: str | None = None) -> dict[str, Any]:
    """Return the metadata of a file as plain values.

    Args:
        loaded: What the checkpoint holds.
        hearing: What the classifier wants to hear.
        quantisation: ``int8``, or None for float32.

    Raises:
        UserError: If channels are mixed by code of another package, which no file can hold.
    """
    mix = hearing.mix
    if type(mix) is not Mix:
        raise UserError(
            f"audio is mixed by {type(mix).__module__}.{type(mix).__name__}, which an exported file cannot hold. "
            f"Train with the audio settings of birdclf, or use the run folder itself."
        )
    return {
        "format": FORMAT,
        "classes": list(hearing.classes),
        "sample_rate_hz": hearing.sample_rate_hz,
        "samples": hearing.samples,
        "window_s": hearing.window_s,
        "padding": hearing.padding,
        "audio": {"channel": mix.channel, "dc": mix.dc, "gain": mix.gain},
        "birdclf": birdclf.__version__,
        "epoch": loaded.epoch,
        "calibrated": loaded.temperature is not None,
        "quantisation": quantisation,
    }
