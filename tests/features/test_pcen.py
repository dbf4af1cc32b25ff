import math

import librosa
import numpy as np
import pytest
import torch

from birdclf.errors import UserError
from birdclf.features.pcen import PCEN

RATE = 32_000
WINDOW = 5 * RATE
FIELD = {"gain": 0.8, "bias": 10.0, "power": 0.25, "time_constant_s": 0.06}  # for calls far from the microphone


def sound(samples: int = 2 * WINDOW + 12_345) -> np.ndarray:
    """Return noise whose level jumps over many orders of magnitude."""
    rng = np.random.default_rng(1)
    return (rng.standard_normal(samples) * np.repeat(rng.random(samples // 500 + 1) ** 8, 500)[:samples]).astype("f4")


def of_librosa(wave: np.ndarray, n_mels: int, settings: dict[str, float]) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=wave.astype(np.float64), sr=RATE, n_fft=1024, hop_length=320, n_mels=n_mels, fmin=50, fmax=16_000
    )
    names = {"time_constant_s": "time_constant"}
    frames = settings.get("time_constant_s", 0.4) * RATE / 320
    share = (math.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
    given = {"gain": 0.98, "bias": 2.0, "power": 0.5} | {names.get(key, key): v for key, v in settings.items()}
    begun = (1 - share) * mel[:, :1] * 2**30  # the filter has heard the first frame for ever
    return librosa.pcen(mel * 2**30, sr=RATE, hop_length=320, zi=begun, **given)[:, :-1]


@pytest.mark.parametrize("n_mels", [64, 128])
@pytest.mark.parametrize("settings", [{}, FIELD, {"bias": 0.0}, {"eps": 1e3, "time_constant_s": 2.0}], ids=str)
def test_it_agrees_with_librosa(n_mels, settings):
    ours = PCEN(n_mels=n_mels, **settings).analyse(torch.from_numpy(sound())).bands.numpy()
    np.testing.assert_allclose(ours, of_librosa(sound(), n_mels, settings), rtol=1e-3, atol=1e-6)


def test_the_mean_is_carried_from_block_to_block():
    wave = torch.from_numpy(sound(12 * RATE))
    features = PCEN(time_constant_s=3.0)  # longer than a block
    whole, parts = features.analyse(wave).bands, features.analyse_blocks(wave.split(9_999))
    torch.testing.assert_close(torch.cat([part.bands for part in parts], dim=1), whole, rtol=1e-3, atol=1e-5)
    later = features.analyse(wave[6 * RATE :]).bands[:, 5:100]
    assert (later - whole[:, 605:700]).abs().max() > 0.1  # so a window cut out of the sound would not do


def test_frames_that_overlap_much_come_in_long_stretches():
    settings = {"n_fft": 4096, "hop": 8, "window_s": 0.2}
    mel = librosa.feature.melspectrogram(
        y=sound(12_000).astype(np.float64), sr=RATE, n_fft=4096, hop_length=8, n_mels=128, fmin=50, fmax=16_000
    )
    share = (math.sqrt(1 + 4 * 1600.0**2) - 1) / (2 * 1600.0**2)
    begun = (1 - share) * mel[:, :1] * 2**30
    theirs = librosa.pcen(mel * 2**30, sr=RATE, hop_length=8, zi=begun)[:, :-1]
    ours = PCEN(**settings).analyse(torch.from_numpy(sound(12_000))).bands.numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_steady_sound_goes_and_an_onset_stays():
    wave = 0.1 * torch.randn(WINDOW, generator=torch.Generator().manual_seed(0))
    wave[3 * RATE :] *= 30
    bands = PCEN().analyse(wave).bands.mean(dim=0)
    steady, onset, later = bands[200:295].mean(), bands[302:306].mean(), bands[450:].mean()
    assert onset > 3 * steady and abs(later / steady - 1) < 0.15


def test_a_factor_changes_little_with_much_gain_and_a_lot_with_little():
    wave = torch.from_numpy(sound())
    changes = [
        float((f.to_db(f.analyse(10 * wave).bands) - f.to_db(f.analyse(wave).bands)).median())
        for f in (PCEN(), PCEN(gain=0.5))
    ]
    assert changes == pytest.approx([20 * 0.02, 20 * 0.5], abs=0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gain", 0.0),
        ("gain", 1.1),
        ("bias", -1.0),
        ("bias", math.inf),
        ("power", 0.0),
        ("power", 2.0),
        ("power", math.nan),
        ("time_constant_s", 0.0),
        ("time_constant_s", math.inf),
        ("eps", 0.0),
        ("f_max_hz", 17_000.0),
        ("n_mels", 512),
    ],
)
def test_bad_values_are_refused(name, value):
    with pytest.raises(UserError, match=rf"features\.{name} is"):
        PCEN(**{name: value})


@pytest.mark.parametrize("settings", [{"gain": 0.1, "power": 1.0}, {"bias": 1e9}, {"bias": 10.0, "power": 1e-3}])
def test_settings_that_float16_cannot_hold_are_refused(settings):
    with pytest.raises(UserError, match=r"gain, bias and power .* float16"):
        PCEN(**settings)
