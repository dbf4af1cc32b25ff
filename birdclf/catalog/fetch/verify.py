"""Whether a file that came over the network is sound, from its first sample to its last."""

from pathlib import Path

import soundfile

from birdclf.audio.clip import AudioError
from birdclf.audio.files import read_header

BLOCK_S = 30  # what is held in memory at a time, however long the recording


def decoded_length(path: Path) -> tuple[float, int]:
    """Decode a file to its end.

    Returns:
        Duration of what was decoded, in seconds, and sample rate in Hz.

    Raises:
        AudioError: If it is no sound file, cannot be decoded or is empty.
    """
    header = read_header(path)
    if header is None:
        raise AudioError("is not a sound file that can be decoded")
    samples = 0
    try:
        for block in soundfile.blocks(str(path), BLOCK_S * header.sample_rate_hz, dtype="float32", always_2d=True):
            samples += len(block)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"cannot be decoded ({error})") from error
    if not samples:
        raise AudioError("holds no sound")
    return samples / header.sample_rate_hz, header.sample_rate_hz
