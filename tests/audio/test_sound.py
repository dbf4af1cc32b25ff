import io

import numpy as np
import soundfile
from matplotlib.image import imread

from birdclf.audio.picture import encode_wav, spectrogram

RATE_HZ = 22_050


def tone(hz, seconds=1.0):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def test_a_tone_is_a_bright_line_at_its_height():
    low, high = (imread(io.BytesIO(spectrogram(tone(hz))))[..., :3].sum(axis=2) for hz in (1_000, 8_000))
    rows = [int(picture.sum(axis=1).argmax()) for picture in (low, high)]
    assert len(low) == 257
    assert rows[0] == len(low) - 1 - round(1_000 / (RATE_HZ / 512))
    assert rows[1] < rows[0]


def test_silence_and_a_very_short_sound_have_a_picture():
    for waveform in (np.zeros(RATE_HZ, np.float32), np.ones(3, np.float32)):
        assert spectrogram(waveform).startswith(b"\x89PNG")
    silence = imread(io.BytesIO(spectrogram(np.zeros(RATE_HZ, np.float32))))
    assert silence[..., :3].max() < 0.05, "silence is dark"


def test_the_file_holds_the_sound():
    content, mime = encode_wav(tone(1_000), RATE_HZ)
    back, rate_hz = soundfile.read(io.BytesIO(content))
    assert (mime, rate_hz) == ("audio/wav", RATE_HZ)
    np.testing.assert_allclose(back, tone(1_000), atol=1e-4)
