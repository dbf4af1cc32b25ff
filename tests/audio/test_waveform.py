import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.resampling import read_waveform, resample_blocks

RATE = 32_000


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)


@pytest.mark.parametrize("native_hz", [8_000, 22_050, 44_100, 48_000, 96_000])
@given(cuts=st.lists(st.integers(1, 19_999), max_size=8))
def test_a_signal_in_blocks_is_resampled_as_if_it_were_whole(native_hz, cuts):
    sound = noise(20_000)
    out = np.concatenate(list(resample_blocks(np.split(sound, sorted(cuts)), native_hz, RATE)))
    np.testing.assert_allclose(out, soxr.resample(sound, native_hz, RATE), atol=1e-6)


def test_blocks_at_the_right_rate_pass_untouched():
    blocks = np.split(noise(1_000), [1, 500])
    assert all(a is b for a, b in zip(resample_blocks(blocks, RATE, RATE), blocks, strict=True))


@pytest.mark.parametrize("block", [1, 7, 4_800, 100_000])
def test_length_and_type_of_a_waveform(array_reader, block):
    reader = array_reader(noise(48_000)[:, None], 48_000, block)
    waveform = read_waveform(reader, Clip("id"), RATE)
    assert waveform.dtype == np.float32 and waveform.shape == (32_000,) and waveform.flags.c_contiguous


def test_sound_too_short_to_resample_is_refused():
    with pytest.raises(AudioError, match="too short to resample to 32000 Hz") as caught:
        list(resample_blocks([np.full(1, 0.5, np.float32)], 96_000, RATE))
    assert caught.value.problem == "empty"


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_no_sound_at_all_is_refused(array_reader, rate):
    with pytest.raises(AudioError, match="empty|too short") as caught:
        read_waveform(array_reader(np.empty((0, 2), np.float32), rate, 100), Clip("id"), RATE)
    assert caught.value.problem == "empty"
