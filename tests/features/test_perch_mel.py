"""The front end of Perch 2 against its definition, written out in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdclf.errors import UserError
from birdclf.features.log_mel import LogMel
from birdclf.features.perch_mel import PerchMel


def mel(hz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def defined(sound: Tensor, floor: float = 1e-5, scale: float = 0.1, peak: float | None = 0.25) -> NDArray[np.float64]:
    """Return the spectrogram ``(T, 128)`` by the equations, frame by frame."""
    x = sound.double().numpy()
    x = x if peak is None else x * peak / np.abs(x).max()
    x = np.pad(x, (160, 640))
    window = np.hanning(640) / np.hanning(640).sum()
    frames = np.stack([x[i : i + 640] * window for i in range(0, len(sound), 320)])
    magnitude = np.abs(np.fft.rfft(frames, 1024))  # (T, 513)
    bins, edges = mel(np.arange(513) * 31.25), np.linspace(mel(60), mel(16_000), 130)
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return scale * np.log(np.maximum(magnitude @ np.maximum(np.minimum(rise, fall), 0), floor))


def song(samples: int = 160_000, level: float = 0.3) -> Tensor:
    time = torch.arange(samples) / 32_000
    chirp = torch.sin(2 * torch.pi * (2_000 + 1_500 * torch.sin(2 * torch.pi * 3 * time)) * time)
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    return level * (chirp * torch.sin(torch.pi * time).square() + 0.01 * noise)


@pytest.mark.parametrize("level", [1e-3, 0.3, 3.0])
@pytest.mark.parametrize("knobs", [{}, {"floor": 0.01}, {"scale": 0.2}, {"peak": None}, {"peak": 1.0}], ids=str)
def test_values_are_those_of_the_definition(level: float, knobs: dict[str, Any]):
    sound, features = song(level=level), PerchMel(**knobs)
    expected = torch.from_numpy(defined(sound, **knobs).T).float()
    torch.testing.assert_close(features.analyse(sound).bands, expected, rtol=0, atol=5e-4)
    torch.testing.assert_close(features.analyse_windows(sound[None])[0], expected, rtol=0, atol=5e-4)


def test_a_network_sees_what_is_stored_whatever_the_train_split_is():
    features, sound = PerchMel(), song()
    bands = features.analyse(sound).bands[None]
    features.fit([bands])
    torch.testing.assert_close(features(bands)[:, 0], bands, rtol=0, atol=0)
    torch.testing.assert_close(features.normalised_mean[0, :, 0], bands[0].mean(dim=1), rtol=1e-4, atol=1e-4)


def test_a_recording_is_scaled_as_a_whole_and_silence_is_the_floor():
    features, long = PerchMel(), torch.cat([song(), song(level=0.03), torch.zeros(160_000)])
    bands = features.analyse(long).bands
    quiet = features.analyse(song(level=0.03)).bands[:, 2:-2]
    loud = bands[:, 502:998]
    kept = loud > loud.min() + 0.05
    torch.testing.assert_close((quiet - loud)[kept], torch.full_like(loud, 0.1 * np.log(10))[kept], rtol=0, atol=2e-3)
    floor = torch.full((128, 490), 0.1 * np.log(1e-5))
    torch.testing.assert_close(bands[:, 1005:1495], floor, rtol=0, atol=1e-6)
    torch.testing.assert_close(features.analyse(torch.zeros(160_000)).bands[:, :490], floor, rtol=0, atol=1e-6)


def test_levels_are_those_of_other_features_so_that_windows_are():
    sound = song(400_000)
    torch.testing.assert_close(PerchMel().analyse(sound).level_db, LogMel().analyse(sound).level_db)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"floor": 0}, r"features\.floor"),
        ({"scale": -1}, r"features\.scale"),
        ({"peak": 0}, r"features\.peak"),
        ({"n_mels": 200}, r"features\.n_mels"),
        ({"f_max_hz": 20_000}, r"features\.f_max_hz"),
        ({"f_min_hz": 17_000}, r"features\.f_min_hz"),
        ({"window_s": 0.001}, r"features\.window_s"),
    ],
)
def test_what_is_out_of_range_is_refused(knobs: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        PerchMel(**knobs)
