"""What holds for every option of conf/features, found there: a new file is tested without a line here."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from birdclf.config import conf_dir
from birdclf.data.windows import window_starts
from birdclf.features.mfcc import MFCCStack
from birdclf.features.representation import Representation
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.audio_cnn_v2 import AudioCNNv2
from birdclf.store.open import FeatureStore, open_store

RATE = 32_000
WINDOW = 5 * RATE
NAMES = sorted(path.stem for path in (conf_dir() / "features").glob("*.yaml"))
every = pytest.mark.parametrize("name", NAMES)


@cache
def settings_of(name: str) -> dict:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = OmegaConf.to_container(compose("train", overrides=[f"features={name}"]).features)
    assert isinstance(node, dict)
    return node


def make(name: str, **changed: object) -> Representation:
    node = settings_of(name) | changed
    return get_class(node["_target_"])(**{key: value for key, value in node.items() if key != "_target_"})


@cache
def shared(name: str) -> Representation:
    """Return one that no test changes."""
    return make(name)


@cache
def brief(name: str, padding: str) -> Representation:
    """Return one of a short window, that no test changes."""
    return make(name, window_s=0.5, padding=padding)


FREE = [name for name in NAMES if name not in ("ast", "perch_mel")]
"""Those without a rate of their own, nor a normalisation that published weights were trained with."""
every_free = pytest.mark.parametrize("name", FREE)


def noise(samples: int = WINDOW, seed: int = 0, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def swelling(samples: int = WINDOW) -> torch.Tensor:
    """Return noise that begins in silence and rises over many orders of magnitude."""
    return noise(samples, level=1.0) * torch.linspace(0, 1, samples) ** 4


def stored(features: Representation, sound: torch.Tensor) -> torch.Tensor:
    """Return windows ``(1, F, frames)`` as the store gives them back."""
    return features.analyse(sound).bands[None, :, : features.frames].half()


@every
def test_the_shape_of_a_window_of_five_seconds(name):
    features = shared(name)
    assert isinstance(features, Representation)
    assert features.shape == (len(features.channels), features.n_bands, 500)
    assert features(stored(features, noise())).shape == (1, *features.shape)
    window = 5 * features.sample_rate_hz
    for samples, frames in ((1, 500), (window, 500), (window + features.hop - 1, 500), (window + features.hop, 501)):
        result = features.analyse(noise(samples))
        assert result.bands.shape == (features.n_bands, frames) and result.level_db.shape == (frames,)
        assert result.bands.dtype == result.level_db.dtype == torch.float32


@every
@given(st.integers(1, 2 * RATE), st.lists(st.integers(0, 2 * RATE), max_size=6), st.sampled_from(["repeat", "silence"]))
def test_blocks_give_what_the_whole_gives(name, samples, cuts, padding):
    features, sound = brief(name, padding), swelling(samples)
    whole, parts = features.analyse(sound), list(features.analyse_blocks(torch.tensor_split(sound, sorted(cuts))))
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(torch.cat([part.bands for part in parts], dim=1), whole.bands, **close)
    torch.testing.assert_close(torch.cat([part.level_db for part in parts]), whole.level_db, **close)


@every_free
def test_fit_gives_mean_0_and_deviation_1(name):
    features = make(name)
    windows = torch.cat([stored(features, noise(seed=seed) * torch.rand(1)) for seed in range(4)])
    features.fit(windows.split(3))
    out = features(windows)
    plane = features.mean.shape[:2]
    torch.testing.assert_close(out.mean(dim=(0, 3)), torch.zeros(plane), atol=2e-3, rtol=0)
    torch.testing.assert_close(out.std(dim=(0, 3), correction=0), torch.ones(plane), atol=2e-3, rtol=0)


@every
def test_padding_is_in_the_waveform(name):
    short = noise(50_000)
    repeated, silent = make(name, padding="repeat"), make(name, padding="silence")
    window = 5 * repeated.sample_rate_hz
    tiled = short.repeat(4)[:window]
    torch.testing.assert_close(repeated.analyse(short).bands, repeated.analyse(tiled).bands, rtol=0, atol=0)
    zeros = torch.cat([short, torch.zeros(window - len(short))])
    torch.testing.assert_close(silent.analyse(short).bands, repeated.analyse(zeros).bands, rtol=0, atol=0)
    assert not torch.allclose(silent.analyse(short).bands, repeated.analyse(short).bands, atol=0.1)
    torch.testing.assert_close(silent.analyse(noise()).bands, repeated.analyse(noise()).bands, rtol=0, atol=0)


@every
@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-8, 1.0, 1e4, 1e12])
def test_whatever_its_level_sound_fits_the_store_and_is_finite(name, level):
    features = shared(name)
    for sound in (level * swelling(), level * noise(level=1.0), torch.full((WINDOW,), level)):
        analysis = features.analyse(sound)
        assert analysis.bands.half().isfinite().all() and analysis.level_db.half().isfinite().all()
        assert features(stored(features, sound)).isfinite().all()
        assert features.to_db(stored(features, sound)).isfinite().all()


@every
def test_what_float16_loses_is_little_beside_the_spread_of_a_band(name):
    features = make(name)
    exact = features.analyse(swelling()).bands[None, :, : features.frames]
    features.fit([exact])
    lost = (features(exact.half()) - features(exact)).square().mean().sqrt()
    assert lost < 0.05


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


@every
def test_the_settings_are_plain_and_make_the_same_module_again(name):
    features = shared(name)
    assert yaml.safe_load(yaml.safe_dump(features.settings)) == features.settings
    again = type(features)(**features.settings)
    assert again.settings == features.settings and again.fingerprint() == features.fingerprint()
    assert set(features.state_dict()) == {"mean", "std"}
    again.load_state_dict(features.state_dict())


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


def test_no_two_kinds_share_a_store():
    kinds = {settings_of(name)["_target_"]: shared(name).fingerprint() for name in NAMES}
    assert len(set(kinds.values())) == len(kinds)
    assert shared("log_mel").fingerprint() == shared("log_mel_delta").fingerprint()


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
@given(seed=st.integers(0, 1000), level=st.sampled_from([0.0, 1e-6, 0.1, 1.0]))
def test_a_batch_of_windows_gives_what_each_gives_as_a_recording(name, seed, level):
    features = shared(name)
    window = features.frames * features.hop
    sounds = torch.stack([noise(window, seed, level), swelling(window) * level, torch.zeros(window)])
    expected = torch.stack([features.analyse(sound).bands for sound in sounds])
    torch.testing.assert_close(features.analyse_windows(sounds), expected, rtol=1e-3, atol=1e-3)


@every
def test_without_a_fast_transform_values_stay_the_same(name):
    slow = make(name)
    slow.without_fft()
    sounds = torch.stack([noise(level=1.0), swelling()])[:, : slow.frames * slow.hop]
    torch.testing.assert_close(slow.analyse_windows(sounds), shared(name).analyse_windows(sounds), rtol=2e-3, atol=2e-3)
    assert slow.state_dict().keys() == shared(name).state_dict().keys()
