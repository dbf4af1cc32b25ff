import itertools

import numpy as np
import pytest

from birdclf.audio.clip import Clip
from birdclf.audio.mixing import CHOICES, Mix
from birdclf.audio.resampling import read_waveform
from birdclf.errors import UserError

RATE = 8_000


def noise(channels: int, samples: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


@pytest.fixture
def mixed(array_reader):
    """Return the mixer of an array: ``mixed(samples, block=..., channel=..., dc=..., gain=...)``."""

    def mix(samples: np.ndarray, block: int = 999, **policy: str) -> np.ndarray:
        return read_waveform(array_reader(samples, RATE, block), Clip("id"), RATE, Mix(**policy))

    return mix


def whole(samples: np.ndarray, channel: str, dc: str, gain: str) -> np.ndarray:
    """Return the same in float64, with all samples at hand."""
    x = samples.astype(np.float64)
    best = int(x.var(axis=0).argmax())
    mono = {"mean": x.mean(axis=1), "left": x[:, 0], "right": x[:, min(1, x.shape[1] - 1)], "loudest": x[:, best]}
    out = mono[channel] - (mono[channel].mean() if dc == "remove" else 0)
    loudness = {"keep": 1.0, "peak": np.abs(out).max(), "rms": np.sqrt((out**2).mean()) / 0.1}
    return out / loudness[gain]


@pytest.mark.parametrize("policy", list(itertools.product(*CHOICES.values())), ids=" ".join)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_policy_is_that_of_the_whole_clip(mixed, channels, policy):
    samples = noise(channels) * np.linspace(0.5, 1, channels, dtype=np.float32)  # the last is the loudest
    samples[RATE // 2 :] += np.linspace(0.2, -0.3, channels, dtype=np.float32)  # statistics differ from block to block
    settings = dict(zip(CHOICES, policy, strict=True))
    out = mixed(samples, **settings)
    assert out.dtype == np.float32 and out.shape == (RATE,) and out.flags.c_contiguous
    np.testing.assert_allclose(out, whole(samples, **settings), atol=2e-6)


@pytest.mark.parametrize("policy", [{}, {"channel": "loudest", "dc": "remove", "gain": "rms"}], ids=["plain", "whole"])
def test_the_mix_does_not_depend_on_blocks(mixed, policy):
    samples = noise(3)
    np.testing.assert_allclose(mixed(samples, block=17, **policy), mixed(samples, block=RATE, **policy), atol=1e-6)


def test_the_default_takes_the_mean_as_it_is(mixed):
    samples = noise(2)
    np.testing.assert_array_equal(mixed(samples), samples.sum(axis=1) / 2)
    np.testing.assert_array_equal(mixed(samples[:, :1]), samples[:, 0])


def test_opposite_phase_cancels_in_the_mean_only(mixed):
    left = noise(1)
    samples = np.concatenate([left, -left], axis=1)
    assert not mixed(samples, channel="mean").any()
    for channel in ("left", "loudest"):
        np.testing.assert_array_equal(mixed(samples, channel=channel), left[:, 0])
    np.testing.assert_array_equal(mixed(samples, channel="right"), -left[:, 0])


def test_the_loudest_channel_is_not_the_one_with_the_largest_offset(mixed):
    samples = noise(2) * np.array([0.1, 0.2], np.float32)
    samples[:, 0] += 0.8
    np.testing.assert_array_equal(mixed(samples, channel="loudest"), samples[:, 1])


def test_the_loudest_of_the_whole_clip_is_taken_throughout(mixed):
    samples = noise(2) * np.array([0.5, 1], np.float32)
    samples[: RATE // 4, 1] = 0  # the first blocks alone would choose the other one
    np.testing.assert_array_equal(mixed(samples, channel="loudest", block=500), samples[:, 1])


def test_an_offset_is_removed_and_nothing_else(mixed):
    samples = noise(1)
    samples -= samples.mean()
    np.testing.assert_allclose(mixed(samples + np.float32(0.25), dc="remove"), samples[:, 0], atol=1e-6)
    assert mixed(samples + np.float32(0.25)).mean() == pytest.approx(0.25, abs=1e-6)


def test_a_gain_reaches_its_level_after_the_offset_is_gone(mixed):
    samples = 0.1 * noise(2) + np.float32(0.3)
    out = mixed(samples, dc="remove", gain="peak")
    assert np.abs(out).max() == pytest.approx(1, abs=1e-5) and abs(out.mean()) < 1e-5
    out = mixed(samples, dc="remove", gain="rms")
    assert np.sqrt(np.square(out, dtype=np.float64).mean()) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("gain", ["peak", "rms"])
@pytest.mark.parametrize("dc", ["keep", "remove"])
def test_silence_stays_silence(mixed, dc, gain):
    assert not mixed(np.zeros((RATE, 2), np.float32), dc=dc, gain=gain).any()


def test_a_constant_without_its_offset_is_silence(mixed):
    assert not mixed(np.full((RATE, 1), 0.3, np.float32), dc="remove", gain="peak").any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", ["mean", "loudest"])
def test_samples_that_are_not_finite_pass_without_a_warning(mixed, channel, value):
    samples = noise(2)
    samples[5] = value
    assert not np.isfinite(mixed(samples, channel=channel, dc="remove", gain="peak")).all()


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["middle", "", None, 1, ["mean"]])
def test_a_wrong_policy_is_refused_with_the_choices(name, value):
    with pytest.raises(UserError, match=rf"audio\.{name} is .*must be one of {', '.join(CHOICES[name])}"):
        Mix(**{name: value})


def test_every_setting_changes_the_fingerprint():
    mixes = [Mix(*policy).fingerprint() for policy in itertools.product(*CHOICES.values())]
    assert len(set(mixes)) == len(mixes)
    assert Mix().fingerprint() == Mix("mean", "keep", "keep").fingerprint()
