import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import BLOCK_S, FileReader, read_header
from birdclf.audio.formats import FORMAT_OF
from birdclf.audio.resampling import read_waveform

RATE = 32_000


def read(path: Path, rate: int = RATE, **stretch: float) -> np.ndarray:
    return read_waveform(FileReader(), Clip("id", str(path), **stretch), rate)


def durations_s(path: Path, **stretch: float) -> tuple[float, float]:
    """Return how long a clip is by its header and by its samples."""
    with FileReader().open(Clip("id", str(path), **stretch)) as sound:
        return sound.header_duration_s, sum(map(len, sound.blocks)) / sound.sample_rate_hz


def peak_hz(wave: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(spectrum.argmax() * rate / len(wave))


@pytest.mark.parametrize("kind", sorted(FORMAT_OF))
def test_every_format_is_decoded(tmp_path, tone, kind):
    wave = read(tone(tmp_path / f"a{kind}", seconds=2.0, hz=3000.0, format=FORMAT_OF[kind]))
    assert wave.dtype == np.float32 and wave.ndim == 1 and wave.flags.c_contiguous
    assert abs(len(wave) - 2 * RATE) <= 0.1 * RATE  # MP3 pads
    assert peak_hz(wave) == pytest.approx(3000, abs=2)
    assert 0.3 < np.sqrt((wave**2).mean()) < 0.4  # a tone of amplitude 0.5


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_lossless_formats_keep_every_sample(tmp_path, kind):
    sound = np.random.default_rng(0).integers(-20_000, 20_000, RATE).astype(np.int16)
    soundfile.write(tmp_path / f"a.{kind}", sound, RATE, subtype="PCM_16")
    np.testing.assert_array_equal(read(tmp_path / f"a.{kind}"), sound.astype(np.float32) / 32768)


def test_the_ending_is_not_trusted(tmp_path, tone):
    path = tone(tmp_path / "a.flac", hz=3000.0).rename(tmp_path / "a.wav")
    assert peak_hz(read(path)) == pytest.approx(3000, abs=2)


def test_channels_are_averaged(tmp_path):
    left, right = np.random.default_rng(1).uniform(-0.5, 0.5, (2, RATE)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("native", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_length_level_and_pitch(tmp_path, tone, native):
    wave = read(tone(tmp_path / "a.wav", seconds=2.0, rate=native, hz=3000.0, noise=0.0))
    assert abs(len(wave) - 2 * RATE) <= 1
    assert peak_hz(wave) == pytest.approx(3000, abs=1)
    assert np.sqrt((wave[RATE // 2 : -RATE // 2] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


def test_resampling_down_does_not_alias(tmp_path, tone):
    wave = read(tone(tmp_path / "a.wav", seconds=1.0, rate=48_000, hz=20_000.0, noise=0.0))
    assert np.abs(wave[1000:-1000]).max() < 1e-3  # 20 kHz lies above half of 32 kHz


def test_a_stretch_is_cut_at_the_files_own_rate(tmp_path):
    sound = np.random.default_rng(2).uniform(-0.9, 0.9, 3 * 16_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    cut = read(tmp_path / "a.wav", rate=16_000, start_s=0.75, end_s=2.0)
    np.testing.assert_array_equal(cut, sound[12_000:32_000])
    np.testing.assert_array_equal(read(tmp_path / "a.wav", rate=16_000, start_s=2.5), sound[40_000:])
    assert len(read(tmp_path / "a.wav", rate=16_000, start_s=2.0, end_s=99.0)) == 16_000


def test_a_stretch_beyond_the_end_is_refused(tmp_path, tone):
    with pytest.raises(AudioError, match="empty"):
        read(tone(tmp_path / "a.wav"), start_s=5.0, end_s=6.0)


def wav_of(path: Path, sound: np.ndarray) -> Path:
    soundfile.write(path, sound.astype(np.float32), RATE, subtype="FLOAT")
    return path


def test_a_text_file_is_refused_with_the_reason(tmp_path):
    (tmp_path / "a.wav").write_text("not a sound\n" * 100)
    with pytest.raises(AudioError, match="cannot be decoded") as caught:
        read(tmp_path / "a.wav")
    assert str(tmp_path) not in str(caught.value)  # the id is named beside it


def test_the_reason_survives_a_colon_in_the_path(tmp_path):
    (tmp_path / "take: 2").mkdir()
    path = tmp_path / "take: 2" / "a.wav"
    path.write_text("not a sound\n" * 100)
    with pytest.raises(AudioError) as caught:
        read(path)
    assert "a.wav" not in str(caught.value)


def test_a_zero_byte_file_is_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(AudioError, match=r"^is not a sound file that can be read \(it is empty, 0 bytes long\)$"):
        read(tmp_path / "a.wav")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AudioError, match="cannot be decoded"):
        read(tmp_path / "gone.wav")


def test_a_header_without_sound_is_refused(tmp_path):
    with pytest.raises(AudioError, match="is empty"):
        read(wav_of(tmp_path / "a.wav", np.zeros(0)))


def test_a_recording_too_short_to_resample_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(1, 0.5, np.float32), 96_000)
    with pytest.raises(AudioError, match="too short to resample"):  # one sample at 96 kHz is none at 32 kHz
        read(tmp_path / "a.wav")


def test_headers(tmp_path, tone):
    assert read_header(tone(tmp_path / "a.wav", seconds=1.5, rate=44_100)) == (1.5, 44_100)
    (tmp_path / "b.wav").write_text("no")
    assert read_header(tmp_path / "b.wav") is None
    assert read_header(tmp_path / "gone.wav") is None


def blocks_of(path: Path, **stretch: float) -> list[int]:
    with FileReader().open(Clip("id", str(path), **stretch)) as sound:
        return [len(block) for block in sound.blocks]


def test_a_long_file_comes_in_bounded_blocks(tmp_path, tone):
    path = tone(tmp_path / "a.wav", seconds=2.5 * BLOCK_S, rate=8_000)
    block = round(BLOCK_S * 8_000)
    assert blocks_of(path) == [block, block, block // 2]
    assert blocks_of(path, start_s=1.0, end_s=1.0 + BLOCK_S) == [block]
    assert blocks_of(path, start_s=1.0, end_s=2.0 + BLOCK_S) == [block, 8_000]


def test_no_file_is_held_whole(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(20 * 60 * 8_000, np.int16), 8_000)
    tracemalloc.start()
    try:
        samples = sum(blocks_of(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert samples == 20 * 60 * 8_000
    assert peak < 4 * BLOCK_S * 8_000 * 4  # four blocks of float32; the whole would be 120


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wider_samples_keep_full_scale_at_1(tmp_path, subtype):
    sound = np.random.default_rng(4).uniform(-1, 1, RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype=subtype)
    np.testing.assert_allclose(read(tmp_path / "a.wav"), sound, atol=2**-23, rtol=0)


def test_six_channels_stay_apart_until_they_are_mixed(tmp_path):
    sound = np.random.default_rng(5).uniform(-1, 1, (RATE, 6)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    with FileReader().open(Clip("id", str(tmp_path / "a.wav"))) as opened:
        assert opened.channels == 6
        np.testing.assert_array_equal(np.concatenate(list(opened.blocks)), sound)


def test_a_low_rate_is_reported(tmp_path, tone):
    with FileReader().open(Clip("id", str(tone(tmp_path / "a.flac", rate=8_000)))) as sound:
        assert (sound.sample_rate_hz, sound.channels, sound.header_duration_s) == (8_000, 1, 1.0)


# Headers that lie. A WAV's data chunk begins with its name and its size.


def with_data_size(path: Path, size: int) -> Path:
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + struct.pack("<I", size) + content[at + 4 :])
    return path


def cut(path: Path, share: float) -> Path:
    os.truncate(path, round(share * path.stat().st_size))
    return path


def test_the_header_of_a_whole_file_is_right(tmp_path, tone):
    for kind in ("wav", "flac", "ogg"):
        assert durations_s(tone(tmp_path / f"a.{kind}", seconds=3.0)) == (3.0, 3.0)


def test_a_wav_that_was_cut_off_claims_its_old_length(tmp_path, tone):
    claimed, decoded = durations_s(cut(tone(tmp_path / "a.wav", seconds=3.0), 0.5))
    assert claimed == pytest.approx(3.0, abs=1e-6) and decoded == pytest.approx(1.5, abs=0.01)


def test_a_wav_that_claims_too_much_is_read_to_its_end(tmp_path, tone):
    path = with_data_size(tone(tmp_path / "a.wav", seconds=3.0), 6 * RATE * 2)
    assert durations_s(path) == pytest.approx((6.0, 3.0))
    assert durations_s(path, start_s=1.0) == pytest.approx((5.0, 2.0))
    assert durations_s(path, start_s=1.0, end_s=2.5) == pytest.approx((1.5, 1.5))


def test_a_wav_that_claims_too_little_is_read_as_far(tmp_path, tone):
    assert durations_s(with_data_size(tone(tmp_path / "a.wav", seconds=3.0), RATE * 2)) == (1.0, 1.0)


def test_a_streamed_wav_claims_nothing(tmp_path, tone):
    claimed, decoded = durations_s(with_data_size(tone(tmp_path / "a.wav", seconds=3.0), 2**32 - 1))
    assert np.isnan(claimed) and decoded == 3.0


def test_a_stretch_claims_no_more_than_was_asked_for(tmp_path, tone):
    path = tone(tmp_path / "a.wav", seconds=3.0)
    assert durations_s(path, start_s=1.0, end_s=2.0) == (1.0, 1.0)
    assert durations_s(path, start_s=2.0, end_s=99.0) == (1.0, 1.0)


def test_an_mp3_that_was_cut_off_is_read_to_its_end(tmp_path, tone):
    claimed, decoded = durations_s(cut(tone(tmp_path / "a.mp3", seconds=3.0), 0.5))
    assert claimed == pytest.approx(3.0, abs=0.1) and 1.2 < decoded < 1.8


def test_an_mp3_whose_frame_count_is_tripled_is_read_to_its_end(tmp_path, tone):
    path = tone(tmp_path / "a.mp3", seconds=3.0)
    content = path.read_bytes()
    at = next(content.index(tag) for tag in (b"Xing", b"Info") if tag in content) + 8
    (frames,) = struct.unpack(">I", content[at : at + 4])
    path.write_bytes(content[:at] + struct.pack(">I", 3 * frames) + content[at + 4 :])
    claimed, decoded = durations_s(path)
    assert claimed == pytest.approx(9.0, abs=0.2) and decoded == pytest.approx(3.0, abs=0.1)


def test_a_flac_that_was_cut_off_is_refused(tmp_path, tone):
    with pytest.raises(AudioError, match="cannot be decoded") as caught:
        durations_s(cut(tone(tmp_path / "a.flac", seconds=3.0), 0.5))
    assert caught.value.problem == "undecodable"
