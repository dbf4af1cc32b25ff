"""Sound that is longer than its header says, joined, damaged or never finished is heard to its true end."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import FileReader, read_header

RATE = 22_050
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU")
COMPRESSED = ("FLAC", "MP3", "OGG", "OPUS")


def song(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def encode_wav(sound: np.ndarray, kind: str, rate: int = RATE, **options) -> bytes:
    file = io.BytesIO()
    kind, subtype = {"OPUS": ("OGG", "OPUS"), "OGG": ("OGG", "VORBIS")}.get(kind, (kind, None))
    soundfile.write(file, sound, 24_000 if subtype == "OPUS" else rate, format=kind, subtype=subtype, **options)
    return file.getvalue()


def heard(path: Path, **stretch: float) -> tuple[np.ndarray, float, str]:
    """Return samples, duration in seconds by the header, and how the file goes on."""
    with FileReader().open(Clip("id", str(path), **stretch)) as sound:
        blocks = [*sound.blocks]
        samples = np.concatenate(blocks)[:, 0] if blocks else np.zeros(0, np.float32)
        return samples, sound.header_duration_s, sound.goes_on()


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def without_tag(mp3: bytes) -> bytes:
    at = next(mp3.index(tag) for tag in (b"Xing", b"Info") if tag in mp3)
    return mp3[:at] + bytes(4) + mp3[at + 4 :]


@pytest.fixture
def variable(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """12 s of MP3, with 8 s of silence first, whose length libsndfile guesses from its first frame; and its sound."""
    sound = np.concatenate([np.zeros(8 * RATE, np.float32), song(4.0)])
    content = encode_wav(sound, "MP3", bitrate_mode="VARIABLE", compression_level=0.2)
    assert soundfile.info(put(tmp_path / "a.mp3", without_tag(content))).duration < 6
    return tmp_path / "a.mp3", sound


def test_a_variable_mp3_without_a_count_is_decoded_to_its_end(variable):
    samples, header_s, goes_on = heard(variable[0])
    assert 12 <= len(samples) / RATE < 12.2 and np.isnan(header_s) and goes_on == ""
    assert np.abs(samples[: 7 * RATE]).max() < 0.01 < samples[9 * RATE : 11 * RATE].std()


def test_a_clip_beyond_the_guess_is_usable(variable):
    whole, _, _ = heard(variable[0])
    samples, header_s, _ = heard(variable[0], start_s=8.0, end_s=12.0)
    assert len(samples) == 4 * RATE and np.isnan(header_s)
    np.testing.assert_allclose(samples, whole[8 * RATE : 12 * RATE], atol=1e-4)
    assert len(heard(variable[0], start_s=20.0, end_s=21.0)[0]) == 0


def test_a_constant_mp3_without_a_count_is_decoded_once(tmp_path):
    content = without_tag(encode_wav(song(), "MP3", bitrate_mode="CONSTANT"))
    assert 4 <= len(heard(put(tmp_path / "a.mp3", content))[0]) / RATE < 4.2


@pytest.mark.parametrize("kind", [*CONTAINERS, *COMPRESSED])
def test_joined_files_are_decoded_one_after_the_other(tmp_path, kind):
    one, other = encode_wav(song(), kind), encode_wav(song(2.0, seed=1), kind)
    first, _, _ = heard(put(tmp_path / "first", one))
    second, _, _ = heard(put(tmp_path / "second", other))
    joined = put(tmp_path / "joined", one + other)
    samples, header_s, goes_on = heard(joined)
    rate = 24_000 if kind == "OPUS" else RATE
    assert goes_on == "" and header_s == pytest.approx(len(first) / rate, abs=1e-3)
    np.testing.assert_array_equal(samples, np.concatenate([first, second]))
    for start_s, end_s in ((1.0, 2.0), (3.5, 5.0), (4.5, 5.0), (5.0, 99.0)):
        stretch = slice(round(start_s * rate), round(end_s * rate))
        np.testing.assert_allclose(heard(joined, start_s=start_s, end_s=end_s)[0], samples[stretch], atol=1e-4)


def test_tags_between_and_after_joined_mp3s_are_no_sound(tmp_path):
    mp3 = encode_wav(song(), "MP3", bitrate_mode="CONSTANT")
    old, new = b"TAG" + b"x" * 125, b"ID3\x03\0\0\0\0\x02\0" + b"x" * 256
    samples, _, goes_on = heard(put(tmp_path / "a.mp3", new + mp3 + old + new + mp3 + old))
    assert len(samples) == 8 * RATE and goes_on == ""


def test_three_short_streams_are_all_decoded(tmp_path):
    ogg = encode_wav(song(0.05), "OGG")
    one, _, _ = heard(put(tmp_path / "a.ogg", ogg))
    assert len(heard(put(tmp_path / "b.ogg", 3 * ogg))[0]) == 3 * len(one) > 0


@pytest.mark.parametrize("kind", ["WAV", "OGG", "FLAC", "MP3"])
def test_what_follows_at_another_rate_is_reported(tmp_path, kind):
    one, other = encode_wav(song(), kind), encode_wav(song(), kind, rate=32_000)
    samples, _, goes_on = heard(put(tmp_path / "a", one + other))
    assert len(samples) == 4 * RATE
    assert goes_on == f"continues for {len(other):,} bytes after the decoded part, at 32,000 Hz, channels: 1"
    assert heard(tmp_path / "a", start_s=1.0, end_s=2.0)[2] == "", "it was not asked for"


@pytest.mark.parametrize("kind", CONTAINERS)
def test_bytes_after_the_samples_are_reported_and_tags_chunks_and_zeros_are_not(tmp_path, kind):
    content = encode_wav(song(), kind)
    junk = np.random.default_rng(3).integers(128, 255, 30_000, np.uint8).tobytes()
    samples, _, goes_on = heard(put(tmp_path / "junk", content + junk))
    assert len(samples) == 4 * RATE and goes_on == "continues for 30,000 bytes after the decoded part"
    for name, tail in ("zeros", bytes(30_000)), ("tag", b"TAG" + b"x" * 125), ("few", junk[:200]):
        samples, header_s, goes_on = heard(put(tmp_path / name, content + tail))
        assert (len(samples), header_s, goes_on) == (4 * RATE, 4.0, ""), name
    if kind in ("WAV", "WAVEX", "RF64"):
        chunks = b"LIST" + struct.pack("<I", 5) + b"hello\0" + b"bext" + struct.pack("<I", 9999) + b"cut off"
        assert heard(put(tmp_path / "chunks", content + chunks))[2] == ""


def unfinished(kind: str, value: int) -> bytes:
    """Return a file whose sizes all are 0 or the largest number."""
    content, wide, narrow = bytearray(encode_wav(song(), kind)), struct.pack("<q", value), struct.pack("<i", value)
    if kind in ("WAV", "WAVEX"):
        at = content.index(b"data") + 4
        content[4:8] = content[at : at + 4] = narrow
    elif kind == "RF64":
        at = content.index(b"ds64") + 8
        content[at : at + 24] = 3 * wide
    elif kind == "W64":
        at = content.index(b"data") + 16
        content[16:24] = content[at : at + 8] = wide
    elif kind == "CAF":
        at = content.index(b"data") + 4
        content[at : at + 8] = wide
    elif kind == "AU":
        content[8:12] = narrow
    else:
        for at in (4, content.index(b"COMM") + 10, content.index(b"SSND") + 4):
            content[at : at + 4] = narrow
    return bytes(content)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_recording_whose_header_was_never_finished_is_decoded(tmp_path, kind):
    whole, _, _ = heard(put(tmp_path / "whole", encode_wav(song(), kind)))
    samples, header_s, _ = heard(put(tmp_path / "zero", unfinished(kind, 0)))
    np.testing.assert_array_equal(samples, whole)
    assert header_s == 0
    samples, header_s, _ = heard(put(tmp_path / "piped", unfinished(kind, -1)))
    np.testing.assert_array_equal(samples, whole)
    assert np.isnan(header_s)
    np.testing.assert_array_equal(heard(tmp_path / "zero", start_s=1.0, end_s=2.0)[0], whole[RATE : 2 * RATE])


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_recording_that_was_cut_off_claims_its_old_length(tmp_path, kind):
    content = encode_wav(song(), kind)
    samples, header_s, _ = heard(put(tmp_path / "cut", content[: len(content) // 2]))
    assert 1.9 < len(samples) / RATE < 2.0 and header_s == pytest.approx(4.0, abs=1e-3)


def test_a_wav_without_samples_but_with_chunks_is_empty(tmp_path):
    content = encode_wav(np.zeros(0, np.float32), "WAV") + b"LIST" + struct.pack("<I", 4000) + bytes(4000)
    assert len(heard(put(tmp_path / "a.wav", content))[0]) == 0


def test_a_flac_without_a_length_is_decoded_whole(tmp_path):
    content = bytearray(encode_wav(song(), "FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path = put(tmp_path / "a.flac", content)
    whole = np.round(song() * 2**15) / 2**15
    samples, header_s, _ = heard(path)
    np.testing.assert_allclose(samples, whole, atol=2**-15)
    assert np.isnan(header_s) and np.isnan(read_header(path).duration_s)
    np.testing.assert_array_equal(heard(path, start_s=3.0, end_s=9.0)[0], samples[3 * RATE :])


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """20 s of MP3, 300 bytes of which are noise after 5 s."""
    content = bytearray(encode_wav(song(20.0), "MP3", bitrate_mode="CONSTANT", compression_level=0.7))
    at = len(content) // 4
    content[at : at + 300] = np.random.default_rng(4).integers(0, 256, 300, dtype="u1").tobytes()
    return put(tmp_path / "damaged.mp3", content)


def lag_s(samples: np.ndarray, at_s: float) -> float:
    """Return how much later in the song some samples lie than where they were looked for."""
    around = song(20.0)[round((at_s - 1) * RATE) :][: len(samples) + 2 * RATE]
    size = 2 * len(around)
    match = np.fft.irfft(np.fft.rfft(around, size) * np.conj(np.fft.rfft(samples, size)))
    return int(match.argmax()) / RATE - 1


def test_a_damaged_mp3_is_decoded_past_the_damage_and_nothing_twice(damaged):
    samples, header_s, _ = heard(damaged)
    assert header_s == 20.0 and 19.5 < len(samples) / RATE < 20.1
    for at_s in (3, 6, 12, 17):
        assert abs(lag_s(samples[at_s * RATE : (at_s + 1) * RATE], at_s)) < 0.1
        clip, _, _ = heard(damaged, start_s=at_s, end_s=at_s + 1)
        assert abs(lag_s(clip, at_s)) < 0.1


def test_the_decoders_notes_do_not_reach_the_terminal(damaged, tmp_path, capfd):
    heard(damaged)
    put(tmp_path / "zeros.mp3", encode_wav(song(), "MP3") + bytes(9999))
    heard(tmp_path / "zeros.mp3", start_s=3.9)
    assert capfd.readouterr() == ("", "")


def test_an_mp3_after_something_else_is_found(tmp_path):
    samples, _, _ = heard(put(tmp_path / "a.mp3", bytes(range(128)) * 40 + encode_wav(song(), "MP3")))
    assert len(samples) == 4 * RATE


def test_damage_in_a_later_part_does_not_take_the_first_away(tmp_path):
    flac = encode_wav(song(), "FLAC")
    samples, _, goes_on = heard(put(tmp_path / "a.flac", flac + flac[: len(flac) // 2]))
    assert len(samples) >= 4 * RATE and "which cannot be decoded" in goes_on
    with pytest.raises(AudioError):
        heard(put(tmp_path / "b.flac", flac[: len(flac) // 2]))


def test_a_tag_before_a_flac_makes_no_mp3_of_it(tmp_path):
    samples, header_s, _ = heard(
        put(tmp_path / "a.flac", b"ID3\x03\0\0\0\0\x02\0" + bytes(256) + encode_wav(song(), "FLAC"))
    )
    assert (len(samples), header_s) == (4 * RATE, 4.0)
