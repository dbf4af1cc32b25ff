"""The filterbank of the Audio Spectrogram Transformer against the library's own."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from birdclf.errors import UserError
from birdclf.features.ast import AstFilterbank
from birdclf.features.mfcc import MFCCStack

SAMPLES = 80_240  # 5.015 s: 500 whole frames


def sound(samples: int = SAMPLES, seed: int = 0) -> Tensor:
    """Return a sweep in noise that fades to digital silence."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / 16_000
    wave = 0.3 * torch.sin(2 * math.pi * (300 + 600 * time) * time) + 0.05 * torch.randn(samples, generator=generator)
    return wave * (time < 0.9 * samples / 16_000) + 0.1


def library(wave: Tensor, max_length: int = 500) -> Tensor:
    """Return ``(max_length, 128)`` as the library computes and normalises it."""
    transformers = pytest.importorskip("transformers")
    extract = transformers.ASTFeatureExtractor(max_length=max_length)
    return torch.from_numpy(np.asarray(extract(wave.numpy(), sampling_rate=16_000)["input_values"][0]))


def test_values_are_those_of_the_library():
    features = AstFilterbank()
    bands = features.analyse(sound()).bands
    assert bands.shape == (128, 501)
    ours = features(bands[None, :, :500])
    assert ours.shape == (1, *features.shape) == (1, 1, 128, 500)
    torch.testing.assert_close(ours[0, 0].T, library(sound()), rtol=1e-4, atol=1e-4)


def test_of_five_seconds_the_library_has_all_frames_but_the_last_two():
    features = AstFilterbank()
    wave = sound(80_000)
    ours = features(features.analyse(wave).bands[None])[0, 0].T
    assert ours.shape == (500, 128)
    theirs = library(wave)
    torch.testing.assert_close(ours[:498], theirs[:498], rtol=1e-4, atol=1e-4)
    padding = (0 - features.settings["mean"]) / (2 * features.settings["std"])
    torch.testing.assert_close(theirs[498:], torch.full((2, 128), padding))


@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_a_recording_in_blocks_is_the_same(pieces: int):
    features, wave = AstFilterbank(window_s=1.0), sound(123_457)
    parts = list(features.analyse_blocks(torch.tensor_split(wave, pieces)))
    whole = features.analyse(wave)
    assert whole.bands.shape == (128, 123_457 // 160) and whole.level_db.shape == (123_457 // 160,)
    torch.testing.assert_close(torch.cat([part.bands for part in parts], dim=1), whole.bands, rtol=1e-4, atol=1e-4)


def test_the_level_finds_what_is_loud_between_1_and_8_khz():
    wave = 0.001 * torch.randn(48_000, generator=torch.Generator().manual_seed(0))
    wave[:16_000] += 0.5 * torch.sin(2 * math.pi * 200 * torch.arange(16_000) / 16_000)  # wind
    wave[32_000:] += 0.1 * torch.sin(2 * math.pi * 3000 * torch.arange(16_000) / 16_000)
    level = AstFilterbank(window_s=1.0).analyse(wave).level_db
    assert level[205:295].min() > level[5:195].max() + 10


def test_decibels_and_back():
    features = AstFilterbank(n_mels=64)
    bands = features.analyse(sound()).bands
    db = features.to_db(bands)
    assert torch.allclose(db, 10 * torch.log10(bands.exp()), atol=1e-3)
    torch.testing.assert_close(features.from_db(db), bands)
    assert features.centres_hz.shape == (64,) and bool((features.centres_hz.diff() > 0).all())
    assert features.centres_hz[0] > 20 and features.centres_hz[-1] < 8000


def test_nothing_is_fitted_and_the_figures_are_in_the_checkpoint():
    features = AstFilterbank(mean=-5.0, std=2.0)
    features.fit([torch.randn(2, 128, 500)])
    assert bool((features.mean == -5).all()) and bool((features.std == 4).all())
    again = AstFilterbank(**features.settings)
    again.load_state_dict(features.state_dict())
    x = torch.randn(1, 128, 500)
    torch.testing.assert_close(again(x), features(x))


def test_the_fingerprint_changes_with_what_is_stored_only():
    base = AstFilterbank().fingerprint()
    assert AstFilterbank(mean=-4.0, std=3.0).fingerprint() == base != MFCCStack().fingerprint()
    assert len({base, *(AstFilterbank(**k).fingerprint() for k in ({"n_mels": 64}, {"padding": "silence"}))}) == 3


def test_short_recordings_are_padded_to_a_window():
    for padding in ("repeat", "silence"):
        bands = AstFilterbank(window_s=1.0, padding=padding).analyse(sound(4_000)).bands
        assert bands.shape == (128, 100) and bands.isfinite().all()


@pytest.mark.parametrize("knobs", [{"n_mels": 3}, {"n_mels": 129}, {"std": 0.0}, {"mean": math.nan}, {"window_s": 0.0}])
def test_what_cannot_be_is_refused(knobs: dict[str, float]):
    with pytest.raises(UserError, match=f"features.{next(iter(knobs))} is"):
        AstFilterbank(**knobs)
