import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.clip import AudioError, Clip, Sound
from birdclf.audio.files import FileReader
from birdclf.audit.measure import SPECTRUM, Measurement, Meter

RATE = 32_000
FRAME = RATE // 100


def measured(samples: np.ndarray, cuts: Iterable[int] = (), rate: int = RATE) -> Measurement:
    """Return the measurement of ``(samples, channels)`` that come in blocks."""
    blocks = [block for block in np.split(samples.astype(np.float32), sorted(set(cuts))) if len(block)]
    meter = Meter(Sound(rate, samples.shape[1], math.nan, iter(blocks)))
    for block, passed in zip(blocks, meter.blocks(), strict=True):
        assert passed is block
    return meter.measurement()


def of_file(path: Path) -> Measurement:
    with FileReader().open(Clip("id", str(path))) as sound:
        meter = Meter(sound)
        for _ in meter.blocks():
            pass
        return meter.measurement()


def varied(channels: int = 2, seconds: float = 1.0) -> np.ndarray:
    """Return noise with an offset, full scale and silence in it."""
    rng = np.random.default_rng(channels)
    samples = rng.uniform(-0.4, 0.5, (round(seconds * RATE), channels)).astype(np.float32)
    samples[1_000:1_200] = 1.0
    samples[2_000:2_100, 0] = -1.0
    samples[10 * FRAME : 17 * FRAME] = 1e-5
    samples[30 * FRAME : 31 * FRAME, 0] = 0  # silent only if there is no other channel
    return samples


def noise(samples: int = RATE, channels: int = 1, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal((samples, channels))).astype(np.float32)


def tone(hz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)[:, None]


def level_db(samples: np.ndarray) -> float:
    return 10 * math.log10((samples.astype(np.float64) ** 2).mean())


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_number_is_that_of_the_whole_array(channels):
    x = varied(channels)
    m = measured(x, cuts=[7 * FRAME, 40 * FRAME])
    frames = np.abs(x).reshape(-1, FRAME * channels).max(axis=1)
    mean = x.mean(axis=0, dtype=np.float64)
    assert (m.duration_s, m.native_rate_hz, m.channels) == (1.0, RATE, channels)
    assert (m.error, m.reason) == ("", "") and math.isnan(m.header_duration_s)
    assert m.peak == np.abs(x).max() == 1
    assert m.clipped_share == (np.abs(x) >= 0.999).mean() > 0
    assert m.silent_share == (frames < 10**-4.5).mean() > 0
    assert m.rms == pytest.approx(np.sqrt((x.astype(np.float64) ** 2).mean()), rel=1e-5)
    assert m.dc == pytest.approx(mean[np.abs(mean).argmax()], rel=1e-5)
    assert m.mix_loss_db == pytest.approx(level_db(x) - level_db(x.mean(axis=1)), abs=1e-4)


@given(
    cuts=st.lists(st.integers(1, 2 * RATE), max_size=8),
    frames=st.lists(st.integers(1, 229), max_size=8),
    channels=st.integers(1, 3),
)
def test_cutting_into_blocks_changes_nothing(cuts, frames, channels):
    x = varied(channels, seconds=2.3)
    whole, cut = measured(x), measured(x, cuts)
    for name in ("duration_s", "peak", "clipped_share", "audio_hash"):
        assert getattr(cut, name) == getattr(whole, name)
    for name in ("rms", "dc", "mix_loss_db"):
        assert getattr(cut, name) == pytest.approx(getattr(whole, name), rel=1e-4, abs=1e-4)
    assert measured(x, [FRAME * n for n in frames]).silent_share == whole.silent_share


def test_the_offset_is_that_of_the_worst_channel_with_its_sign():
    assert measured(noise(channels=3) + [0.01, -0.3, 0.2]).dc == pytest.approx(-0.3, abs=2e-3)


@pytest.mark.parametrize(("level", "share"), [(0.998, 0), (0.999, 1), (1.0, 1), (2.0, 1), (-1.0, 1)])
def test_clipped_is_what_reaches_full_scale(level, share):
    assert measured(np.full((RATE, 1), level)).clipped_share == share


@pytest.mark.parametrize(("db", "share"), [(-89.9, 0), (-90.1, 1)])
def test_silence_begins_at_90_db_below_full_scale(db, share):
    x = np.zeros((RATE, 2))
    x[::FRAME, 1] = -(10 ** (db / 20))  # one sample of one channel in each frame
    assert measured(x).silent_share == share


def test_digital_silence():
    m = measured(np.zeros((RATE, 2)))
    assert (m.peak, m.rms, m.dc, m.clipped_share, m.silent_share) == (0, 0, 0, 0, 1)
    assert math.isnan(m.mix_loss_db) and math.isnan(m.top_hz)
    assert m.audio_hash and not m.error


@pytest.mark.parametrize("samples", [1, 2, 100, FRAME - 1])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_sound_shorter_than_a_frame_is_measured(samples, level):
    m = measured(np.full((samples, 2), level))
    assert m.duration_s == samples / RATE
    assert m.peak == m.dc == level and m.rms == pytest.approx(level)
    assert m.silent_share == (level == 0)


def test_a_sound_without_samples_is_empty():
    meter = Meter(Sound(RATE, 2, 0.0, iter([])))
    with pytest.raises(AudioError, match="is empty") as caught:
        list(meter.blocks())
    m = meter.measurement(caught.value)
    assert (m.error, m.reason, m.duration_s, m.audio_hash) == ("empty", "is empty", 0, "")
    assert (m.native_rate_hz, m.channels, m.header_duration_s) == (RATE, 2, 0) and math.isnan(m.peak)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("at", [0, 100, RATE // 2 - 1, RATE // 2, RATE + 1, RATE + 6])
def test_a_sample_that_is_not_finite_is_found_anywhere(value, channel, at):
    x = noise(RATE + 7, channels=2)  # seven samples more than whole frames
    x[at, channel] = value
    with pytest.raises(AudioError, match="not finite") as caught:
        measured(x, cuts=[RATE // 2])
    assert caught.value.problem == "not_finite"


def test_what_was_decoded_before_an_error_is_measured():
    def broken():
        yield noise()
        raise AudioError("cannot be decoded (lost)")

    meter = Meter(Sound(RATE, 1, 5.0, broken()))
    with pytest.raises(AudioError) as caught:
        list(meter.blocks())
    m = meter.measurement(caught.value)
    assert (m.error, m.reason) == ("undecodable", "cannot be decoded (lost)")
    assert (m.duration_s, m.header_duration_s) == (1, 5) and m.peak > 0


def test_mixing_loses_nothing_of_equal_channels_and_everything_of_opposite_ones():
    x = noise()
    assert measured(np.repeat(x, 2, axis=1)).mix_loss_db == pytest.approx(0, abs=1e-3)
    assert measured(x).mix_loss_db == 0
    assert measured(np.concatenate([x, noise(seed=1)], axis=1)).mix_loss_db == pytest.approx(3, abs=0.1)
    assert measured(np.concatenate([x, np.zeros_like(x)], axis=1)).mix_loss_db == pytest.approx(3.0103, abs=1e-3)
    assert measured(np.concatenate([x, -x], axis=1)).mix_loss_db == 200
    assert measured(np.concatenate([x, -0.99 * x], axis=1)).mix_loss_db == pytest.approx(46, abs=0.1)


WINDOW_SKIRT = 8  # bins that a Hann window takes to fall by 60 dB


@pytest.mark.parametrize("hz", [1_000, 1_234, 4_000, 8_000, 12_500, 15_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_highest_frequency_of_a_tone_is_its_own(hz, channels):
    top_hz = measured(np.repeat(tone(hz), channels, axis=1)).top_hz
    assert hz - RATE / SPECTRUM <= top_hz <= hz + WINDOW_SKIRT * RATE / SPECTRUM


def test_of_two_tones_the_higher_counts_down_to_60_db():
    assert measured(tone(2_000) + 0.003 * tone(9_000)).top_hz == pytest.approx(9_000, abs=100)
    assert measured(tone(2_000) + 0.0003 * tone(9_000)).top_hz == pytest.approx(2_000, abs=150)


@pytest.mark.parametrize("rest", [1, 100, SPECTRUM // 2, SPECTRUM - 1])
def test_a_short_last_block_does_not_move_the_highest_frequency(rest):
    x = tone(1_000, seconds=1.0 + rest / RATE)
    assert measured(x, cuts=[RATE]).top_hz == measured(x[:RATE]).top_hz


@pytest.mark.parametrize("samples", [500, SPECTRUM // 2, SPECTRUM - 1])
def test_a_short_sound_has_its_frequencies(samples):
    skirt = WINDOW_SKIRT * RATE / samples
    assert measured(tone(4_000)[:samples]).top_hz == pytest.approx(4_000 + skirt / 2, abs=skirt)


def test_sound_in_one_channel_or_in_opposite_phase_has_its_frequencies():
    x = tone(9_000)
    for both in ([x, 0 * x], [0 * x, x], [x, -x]):
        assert measured(np.concatenate(both, axis=1)).top_hz == pytest.approx(9_000, abs=150)


def test_noise_reaches_half_of_its_rate():
    for rate in (8_000, 44_100):
        assert measured(noise(), rate=rate).top_hz == pytest.approx(rate / 2, rel=1e-2)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_equal_samples_have_an_equal_hash_in_any_lossless_file(tmp_path, subtype, bits):
    x = (noise(channels=2) * 2 ** (bits - 1)).astype(np.int32) << (32 - bits)
    soundfile.write(tmp_path / "a.wav", x, RATE, subtype=subtype)
    soundfile.write(tmp_path / "a.flac", x, RATE, subtype=subtype)
    soundfile.write(tmp_path / "b.wav", x / 2**31, RATE, subtype="FLOAT")
    wav, flac, floats = (of_file(tmp_path / name) for name in ("a.wav", "a.flac", "b.wav"))
    assert wav == flac == floats


def test_the_hash_knows_rate_channels_and_every_sample():
    x = noise(RATE, channels=2)
    other = x.copy()
    other[-1, -1] += 1e-4
    hashes = [measured(y).audio_hash for y in (x, x[:, :1], x[:-1], other, x.reshape(-1, 1))]
    hashes += [measured(x, rate=RATE + 1).audio_hash]
    assert len(set(hashes)) == len(hashes) and all(len(text) == 32 for text in hashes)
    assert measured(x.copy()).audio_hash == hashes[0]


def test_large_samples_of_a_float_file_stay_numbers():
    m = measured(noise(level=30_000.0))
    assert m.peak > 30_000 and m.rms == pytest.approx(30_000, rel=0.02) and 0.9 < m.clipped_share <= 1
    values = [value for value in asdict(m).values() if isinstance(value, float)]
    assert sum(not math.isfinite(value) for value in values) == 1  # a length by the header, which there is not
