"""Sound as a spectrogram image and as a file that a browser plays."""

import io

import numpy as np
import soundfile
from matplotlib import colormaps
from matplotlib.image import imsave
from numpy.typing import NDArray

from birdclf.audio.clip import Waveform

FFT, HOP = 512, 220
FLOOR_DB = -70.0
STRIP_ROWS = 18


def spectrogram(waveform: Waveform, activation: NDArray[np.float32] | None = None) -> bytes:
    """Return the power spectrogram of ``(samples,)`` as PNG, low frequencies at the bottom, 70 dB of range.

    ``activation`` ``(frames,)`` from 0 to 1, over the same time, is drawn as a strip below it.
    """
    import librosa  # takes seconds to import, and most commands draw no spectrogram

    padded = np.pad(waveform, (0, max(0, FFT - len(waveform))))
    power = np.abs(librosa.stft(padded, n_fft=FFT, hop_length=HOP)) ** 2
    level = librosa.power_to_db(power / max(float(power.max()), 1e-12), amin=10 ** (FLOOR_DB / 10), top_db=None)
    shades = np.round((1 - level / FLOOR_DB) * 31) / 31  # few shades make a small file
    file = io.BytesIO()
    picture = colormaps["magma"](shades[::-1], bytes=True)[..., :3]
    if activation is not None:
        place = np.linspace(0, 1, picture.shape[1])
        strip = np.round(np.interp(place, np.linspace(0, 1, len(activation)), activation) * 31) / 31
        lit = colormaps["viridis"](np.tile(strip, (STRIP_ROWS, 1)), bytes=True)[..., :3]
        picture = np.concatenate([picture, np.full((2, *picture.shape[1:]), 255, np.uint8), lit])
    imsave(file, picture.copy(), format="png")
    return file.getvalue()


def encode_wav(waveform: Waveform, rate_hz: int) -> tuple[bytes, str]:
    """Return ``(samples,)`` as a mono 16-bit WAV file, which every browser plays, and its media type."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue(), "audio/wav"
