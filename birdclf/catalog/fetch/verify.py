"""Whether a file that came over the network is sound, from its first sample to its last."""

from pathlib import Path

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import FileReader


def decoded_length(path: Path) -> tuple[float, int]:
    """Decode a file to its end.

    Returns:
        Duration of what was decoded, in seconds, and sample rate in Hz.

    Raises:
        AudioError: If it is no sound file, cannot be decoded or is empty.
    """
    with FileReader().open(Clip(path.name, str(path))) as sound:
        samples = sum(map(len, sound.blocks))
    if not samples:
        raise AudioError("holds no sound")
    return samples / sound.sample_rate_hz, sound.sample_rate_hz
