"""What holds for every option of conf/features over time and frequency, found there."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from representations import MEL, RATE, WINDOW, make, noise, shared, stored, swelling

from birdclf.data.windows import window_starts
from birdclf.features.mfcc import MFCCStack
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.audio_cnn_v2 import AudioCNNv2
from birdclf.store.open import FeatureStore, open_store

every = pytest.mark.parametrize("name", MEL)
FREE = [name for name in MEL if name not in ("ast", "perch_mel")]
"""Those without a rate of their own, nor a normalisation that published weights were trained with."""
every_free = pytest.mark.parametrize("name", FREE)


@every
def test_the_shape_of_a_window_of_five_seconds(name):
    features = shared(name)
    assert features.shape == (len(features.channels), features.n_bands, 500)
    assert features(stored(features, noise())).shape == (1, *features.shape)
    window = 5 * features.sample_rate_hz
    for samples, frames in ((1, 500), (window, 500), (window + features.hop - 1, 500), (window + features.hop, 501)):
        result = features.analyse(noise(samples))
        assert result.bands.shape == (features.n_bands, frames) and result.level_db.shape == (frames,)
        assert result.bands.dtype == result.level_db.dtype == torch.float32


@every
def test_power_of_mel_bands_and_back(name):
    features = shared(name)
    for sound in (noise(), swelling()):
        bands = features.analyse(sound).bands[None]
        db = features.to_db(bands)
        assert db.shape == (1, len(features.centres_hz), bands.shape[-1]) and db.dtype == torch.float32
        torch.testing.assert_close(features.from_db(db), bands, rtol=1e-4, atol=5e-3)
        torch.testing.assert_close(features.to_db(features.from_db(db)), db, rtol=1e-4, atol=5e-3)


@every
@pytest.mark.parametrize("hz", [1_000, 3_000, 6_000])
def test_a_burst_is_brightest_where_the_axis_says(name, hz):
    features = shared(name)
    rate = features.sample_rate_hz
    sound, begin, tenth = noise(5 * rate, level=0.01), 3 * rate, rate // 10
    sound[begin : begin + tenth] += torch.sin(2 * torch.pi * hz * torch.arange(tenth) / rate)
    assert (features.centres_hz.diff() > 0).all()
    db = features.to_db(features.analyse(sound).bands)[:, 302:308]
    assert abs(features.centres_hz[db.mean(dim=1).argmax()] / hz - 1) < 0.15


@every_free
def test_levels_are_the_same_so_that_windows_are(name):
    sound = swelling(2 * WINDOW)
    torch.testing.assert_close(shared(name).analyse(sound).level_db, MFCCStack().analyse(sound).level_db)


ACTS = {
    "sample_rate_hz": 48_000,
    "window_s": 2.0,
    "hop": 160,
    "n_fft": 2048,
    "n_mels": 64,
    "n_mfcc": 13,
    "f_min_hz": 400.0,
    "f_max_hz": 9_000.0,
    "top_db": 20.0,
    "gain": 0.8,
    "bias": 10.0,
    "power": 0.25,
    "time_constant_s": 0.06,
    "eps": 1e9,
    "channels": ["delta", "static"],
    "delta_width": 5,
    "padding": "silence",
}
ON_THE_BATCH = {"channels", "delta_width"}


@every_free
def test_every_setting_acts(name):
    usual, sound = shared(name), swelling(3 * RATE)
    before = usual(stored(usual, sound))
    for setting in usual.settings:
        other = make(name, **{setting: ACTS[setting]})
        after = other(stored(other, sound))
        assert after.shape != before.shape or (after - before).abs().max() > 0.05, setting
        assert (other.fingerprint() != usual.fingerprint()) == (setting not in ON_THE_BATCH), setting


def test_stores_of_mfcc_that_are_there_are_found():
    assert MFCCStack().fingerprint() == (
        "mfcc-3 [('hop', 320), ('n_fft', 1024), ('n_mels', 128), ('n_mfcc', 20), ('padding', 'repeat'), "
        "('sample_rate_hz', 32000), ('top_db', 80.0), ('window_s', 5.0)]"
    )


@every_free
def test_a_store_holds_it_and_chooses_the_same_windows(name, folder, store: FeatureStore, store_root: Path):
    features = shared(name)
    held = open_store(folder, features, store_root, workers=0)
    assert held.n_bands == features.n_bands and held.frames.shape == (len(store.frames), features.n_bands)
    assert np.isfinite(held.frames).all()
    rows = np.arange(len(folder))
    for policy in ("loudest", "all"):
        for ours, theirs in zip(*(window_starts(policy, s, rows, 500) for s in (held, store)), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@every
@pytest.mark.parametrize("network", [AudioCNN, AudioCNNv2])
def test_each_network_takes_it(name, network):
    features = deepcopy(shared(name))
    made = network(3, in_channels=features.shape[0], width=0.05)
    made(features(stored(features, noise()).repeat(2, 1, 1))).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


@every
def test_without_a_fast_transform_values_stay_the_same(name):
    slow = make(name)
    slow.without_fft()
    sounds = torch.stack([noise(level=1.0), swelling()])[:, : slow.frames * slow.hop]
    torch.testing.assert_close(slow.analyse_windows(sounds), shared(name).analyse_windows(sounds), rtol=2e-3, atol=2e-3)
    assert slow.state_dict().keys() == shared(name).state_dict().keys()
