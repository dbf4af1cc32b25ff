import librosa
import numpy as np
import pytest
import torch

from birdclf.errors import UserError
from birdclf.features.log_mel import LogMel

RATE = 32_000
WINDOW = 5 * RATE


def sound(samples: int = WINDOW + 12_345) -> np.ndarray:
    """Return noise whose level jumps over many orders of magnitude."""
    rng = np.random.default_rng(1)
    return (rng.standard_normal(samples) * np.repeat(rng.random(samples // 500 + 1) ** 8, 500)[:samples]).astype("f4")


@pytest.mark.parametrize("n_mels", [40, 64, 128])
@pytest.mark.parametrize("top_db", [40.0, 80.0])
def test_it_agrees_with_librosa(n_mels, top_db):
    mel = librosa.feature.melspectrogram(
        y=sound(), sr=RATE, n_fft=1024, hop_length=320, n_mels=n_mels, fmin=50, fmax=16_000
    )
    theirs = librosa.power_to_db(mel, top_db=top_db)[:, :-1]
    ours = LogMel(n_mels=n_mels, top_db=top_db).analyse(torch.from_numpy(sound())).bands
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3, atol=1e-3)


def test_ten_times_the_amplitude_is_20_db():
    features, wave = LogMel(), torch.from_numpy(sound())
    difference = features.analyse(10 * wave).bands - features.analyse(wave).bands
    torch.testing.assert_close(difference, torch.full_like(difference, 20.0), rtol=0, atol=1e-3)


def test_another_rate_reaches_to_its_own_end():
    features = LogMel(sample_rate_hz=22_050, hop=441, f_max_hz=11_025)
    assert features.shape == (1, 128, 250)
    assert 50 < features.centres_hz[0] < 100 and 10_500 < features.centres_hz[-1] < 11_025


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sample_rate_hz": 22_050, "hop": 441}, "features.f_max_hz=11025 or lower"),
        ({"f_max_hz": 16_001.0}, "features.f_max_hz is 16001"),
        ({"f_max_hz": float("nan")}, "features.f_max_hz is nan"),
        ({"f_min_hz": -1.0}, "features.f_min_hz is -1"),
        ({"f_min_hz": 16_000.0}, "below f_max_hz=16000"),
        ({"f_min_hz": float("nan")}, "features.f_min_hz is nan"),
        ({"n_mels": 0}, "features.n_mels is 0"),
        ({"n_mels": 512}, "features.n_fft=1024"),
        ({"n_fft": 320}, "features.n_mels is 128"),
        ({"top_db": 0.0}, "features.top_db"),
        ({"channels": ["static"], "delta_width": 9}, "features.delta_width is 9"),
        ({"channels": ["delta"], "delta_width": 4}, "features.delta_width is 4"),
    ],
)
def test_bad_values_are_refused_with_the_remedy(settings, says):
    with pytest.raises(UserError) as refused:
        LogMel(**settings)
    assert says in str(refused.value)
