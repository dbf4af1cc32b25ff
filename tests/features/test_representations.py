"""What holds for every option of conf/features, found there: a new file is tested without a line here."""

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from representations import MEL, NAMES, RATE, WINDOW, brief, make, noise, settings_of, shared, stored, swelling

from birdclf.features.mel import MelFeatures
from birdclf.features.representation import LEAST_STD, Representation
from birdclf.runs.checkpoint import build_features

every = pytest.mark.parametrize("name", NAMES)
QUICK = [name for name in NAMES if name not in ("birdnet", "fusion")]
"""Those that many examples may be tried on: tests of their own try the others."""
FIXED = ("ast", "perch_mel")
"""Those with the normalisation of published weights."""
every_quick = pytest.mark.parametrize("name", QUICK)
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def several(features: Representation) -> list[torch.Tensor]:
    """Return different windows: noise, and tones in noise."""
    samples, rate = features.window_samples, features.sample_rate_hz
    time = torch.arange(samples) / rate
    tones = [torch.sin(2 * torch.pi * hz * time) + noise(samples, seed=hz, level=0.01) for hz in (900, 2_500, 6_000)]
    return [*tones, *(noise(samples, seed=n, level=0.1**n) for n in range(3)), swelling(samples)]


@every
def test_the_shape_of_a_window(name):
    features = shared(name)
    assert isinstance(features, Representation) and isinstance(features, MelFeatures) == (name in MEL)
    assert features.stored_type in ("float16", "float32")
    for samples in (1, features.window_samples):
        result = features.analyse(noise(samples))
        assert result.bands.shape == (features.n_bands, features.frames)
        assert result.level_db.shape == (features.frames,)
        assert result.bands.dtype == result.level_db.dtype == torch.float32
    out = features(stored(features, noise()))
    assert out.shape == (1, *features.shape) and out.dtype == torch.float32
    assert torch.broadcast_shapes(features.mean.shape, features.std.shape, features.shape) == features.shape


@every_quick
@given(st.integers(1, 2 * RATE), st.lists(st.integers(0, 2 * RATE), max_size=6), st.sampled_from(["repeat", "silence"]))
def test_blocks_give_what_the_whole_gives(name, samples, cuts, padding):
    features, sound = brief(name, padding), swelling(samples)
    whole, parts = features.analyse(sound), list(features.analyse_blocks(torch.tensor_split(sound, sorted(cuts))))
    torch.testing.assert_close(torch.cat([part.bands for part in parts], dim=1), whole.bands, **CLOSE)
    torch.testing.assert_close(torch.cat([part.level_db for part in parts]), whole.level_db, **CLOSE)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FIXED])
def test_fit_gives_mean_0_and_deviation_1(name):
    features = make(name)
    windows = torch.cat([stored(features, sound) for sound in several(features)])
    features.fit(windows.split(3))
    out = features(windows)
    over = (0, 3) if out.ndim == 4 else (0,)
    plane = features.mean.shape[: out.ndim - len(over)]
    varies = (features.std > LEAST_STD).reshape(plane)
    assert varies.float().mean() > 0.9
    torch.testing.assert_close(out.mean(dim=over), torch.zeros(plane), atol=2e-3, rtol=0)
    torch.testing.assert_close(out.std(dim=over, correction=0)[varies], torch.ones(plane)[varies], atol=2e-3, rtol=0)


@every
def test_padding_is_in_the_waveform(name):
    repeated, silent = make(name, padding="repeat"), make(name, padding="silence")
    window = repeated.window_samples
    short = noise(5 * window // 16)
    tiled = short.repeat(4)[:window]
    torch.testing.assert_close(repeated.analyse(short).bands, repeated.analyse(tiled).bands, rtol=0, atol=0)
    zeros = torch.cat([short, torch.zeros(window - len(short))])
    torch.testing.assert_close(silent.analyse(short).bands, repeated.analyse(zeros).bands, rtol=0, atol=0)
    assert not torch.allclose(silent.analyse(short).bands, repeated.analyse(short).bands, atol=0.1)
    whole = noise(window)
    torch.testing.assert_close(silent.analyse(whole).bands, repeated.analyse(whole).bands, rtol=0, atol=0)


@every_quick
@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-8, 1.0, 1e4, 1e12])
def test_whatever_its_level_sound_fits_the_store_and_is_finite(name, level):
    features = shared(name)
    for sound in (level * swelling(), level * noise(level=1.0), torch.full((WINDOW,), level)):
        analysis = features.analyse(sound)
        kept = analysis.bands.to(getattr(torch, features.stored_type))
        assert kept.isfinite().all() and analysis.level_db.half().isfinite().all()
        assert features(stored(features, sound)).isfinite().all()
        if isinstance(features, MelFeatures):
            assert features.to_db(stored(features, sound)).isfinite().all()


@every
def test_what_the_stored_type_loses_is_little_beside_the_spread_of_a_band(name):
    features = make(name)
    sounds = [swelling()] if name in MEL else several(features)  # a vector has no spread within a window
    exact = torch.cat([features.analyse(sound).bands[None, :, : features.frames] for sound in sounds])
    features.fit([exact])
    lost = (features(exact.to(getattr(torch, features.stored_type))) - features(exact)).square().mean().sqrt()
    assert lost < 0.05


@every
def test_the_settings_are_plain_and_make_the_same_module_again(name):
    features = shared(name)
    assert yaml.safe_load(yaml.safe_dump(features.settings)) == features.settings
    target = f"{type(features).__module__}.{type(features).__qualname__}"
    again = build_features({"_target_": target, **features.settings})
    assert again.settings == features.settings and again.fingerprint() == features.fingerprint()
    assert set(features.state_dict()) == {"mean", "std"}
    again.load_state_dict(features.state_dict())


def test_no_two_kinds_share_a_store():
    kinds = {settings_of(name)["_target_"]: shared(name).fingerprint() for name in QUICK}
    assert len(set(kinds.values())) == len(kinds)
    assert shared("log_mel").fingerprint() == shared("log_mel_delta").fingerprint()


@every_quick
@given(seed=st.integers(0, 1000), level=st.sampled_from([0.0, 1e-6, 0.1, 1.0]))
def test_a_batch_of_windows_gives_what_each_gives_as_a_recording(name, seed, level):
    features = shared(name)
    window = features.window_samples
    sounds = torch.stack([noise(window, seed, level), swelling(window) * level, torch.zeros(window)])
    expected = torch.stack([features.analyse(sound).bands for sound in sounds])
    torch.testing.assert_close(features.analyse_windows(sounds), expected, **CLOSE)
