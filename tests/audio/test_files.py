from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import EXTENSIONS, FileReader, read_header
from birdclf.errors import UserError

RATE = 32_000


def read(path: Path, rate: int = RATE, **stretch: float) -> np.ndarray:
    return FileReader().read(Clip("id", str(path), **stretch), rate)


def peak_hz(wave: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(spectrum.argmax() * rate / len(wave))


@pytest.mark.parametrize("kind", sorted(kind.lstrip(".") for kind in EXTENSIONS))
def test_every_format_is_decoded(tmp_path, tone, kind):
    wave = read(tone(tmp_path / f"a.{kind}", seconds=2.0, hz=3000.0))
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
    with pytest.raises(AudioError, match="cannot be decoded"):
        read(tmp_path / "a.wav")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AudioError, match="cannot be decoded"):
        read(tmp_path / "gone.wav")


def test_a_header_without_sound_is_refused(tmp_path):
    with pytest.raises(AudioError, match="is empty"):
        read(wav_of(tmp_path / "a.wav", np.zeros(0)))


def test_a_short_recording_is_refused_by_its_length(tmp_path, tone):
    path = tone(tmp_path / "a.wav", seconds=0.1)
    with pytest.raises(AudioError, match=r"0\.10 s long, shorter than min_duration_s=0\.3"):
        read(path)
    assert len(FileReader(min_duration_s=0.05).read(Clip("id", str(path)), RATE)) == 3200


def test_a_recording_too_short_to_resample_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(1, 0.5, np.float32), 96_000)
    with pytest.raises(AudioError):  # one sample at 96 kHz is none at 32 kHz
        FileReader(min_duration_s=0.0).read(Clip("id", str(tmp_path / "a.wav")), RATE)


@pytest.mark.parametrize("channels", [1, 2])
def test_digital_silence_is_refused(tmp_path, channels):
    with pytest.raises(AudioError, match="silence"):
        read(wav_of(tmp_path / "a.wav", np.zeros((RATE, channels))))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path, value):
    sound = np.random.default_rng(3).uniform(-0.5, 0.5, (RATE, 2))
    sound[100, 1] = value
    with pytest.raises(AudioError, match="not finite"):
        read(wav_of(tmp_path / "a.wav", sound))


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_wrong_minimum_is_refused(value):
    with pytest.raises(UserError, match="min_duration_s"):
        FileReader(min_duration_s=value)


def test_the_fingerprint_follows_the_settings():
    assert FileReader().fingerprint() == FileReader(0.3).fingerprint()
    assert FileReader().fingerprint() != FileReader(0.31).fingerprint()


def test_headers(tmp_path, tone):
    assert read_header(tone(tmp_path / "a.wav", seconds=1.5, rate=44_100)) == (1.5, 44_100)
    (tmp_path / "b.wav").write_text("no")
    assert read_header(tmp_path / "b.wav") is None
    assert read_header(tmp_path / "gone.wav") is None
