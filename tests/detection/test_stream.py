"""Recordings decoded in the background and classified in batches that reach across them."""

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_up import RATE_HZ, Pitches, tones

from birdclf.detection.inputs import recordings_of
from birdclf.detection.stream import RecordingScores, StreamSettings, stream_scores
from birdclf.errors import UserError


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Recordings of many lengths, some of which cannot be decoded."""
    for n, seconds in enumerate((0.3, 1.0, 2.5, 9.1, 0.99, 33.0, 1.0)):
        soundfile.write(tmp_path / f"{n}.wav", tones((500, 1_250, 2_750)[n % 3], seconds=seconds), RATE_HZ)
    (tmp_path / "1a.wav").write_bytes(b"no sound")
    (tmp_path / "8.wav").touch()
    soundfile.write(tmp_path / "3a.wav", np.zeros(0), RATE_HZ)
    soundfile.write(tmp_path / "9.wav", np.full(RATE_HZ, np.nan, np.float32), RATE_HZ, subtype="FLOAT")
    return tmp_path


def heard(field: Path, **how):
    return list(stream_scores(recordings_of([str(field)]), Pitches(), StreamSettings(**{"hop_s": 0.5} | how)))


@pytest.mark.parametrize("batch", [1, 3, 16, 1_000])
def test_each_recording_gets_its_own_windows_whatever_the_batch(field: Path, batch: int):
    found = [one for one in heard(field, batch=batch, embeddings=True) if isinstance(one, RecordingScores)]
    assert [Path(one.recording.path).stem for one in found] == ["0", "1", "1a", "2", "3", "3a", "4", "5", "6", "8", "9"]
    for one in found:
        stem = Path(one.recording.path).stem
        assert len(one.start_s) == len(one.end_s) == len(one.probabilities) == len(one.embeddings)
        if stem in ("1a", "3a", "8", "9"):
            assert one.problem and not len(one.start_s) and one.probabilities.shape == (0, 3) and one.duration_s == 0
        else:
            assert not one.problem and (one.probabilities.argmax(axis=1) == int(stem) % 3).all()
            assert one.end_s[-1] == one.duration_s == pytest.approx(soundfile.info(one.recording.path).duration)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_a_window_keeps_its_row_where_an_interrupted_call_is_resumed(field: Path, batch: int):
    class Rows(Pitches):
        """A matrix product's last bits depend on the row: here, all of its figures do."""

        def __call__(self, windows):
            return np.tile(np.arange(len(windows), dtype=np.float32), (3, 1)).T, np.zeros((len(windows), 2), np.float32)

    recordings, how = recordings_of([str(field)]), StreamSettings(0.5, batch=batch)
    whole = [one for one in stream_scores(recordings, Rows(), how) if isinstance(one, RecordingScores)]
    for done in range(len(recordings)):
        before = sum(len(one.start_s) for one in whole[:done])
        rest = [
            one for one in stream_scores(recordings[done:], Rows(), how, before) if isinstance(one, RecordingScores)
        ]
        for one, undisturbed in zip(rest, whole[done:], strict=True):
            np.testing.assert_array_equal(one.probabilities, undisturbed.probabilities)
            assert one.duration_s == undisturbed.duration_s


def test_what_was_not_decoded_is_a_problem_and_the_rest_is_decoded(tmp_path: Path):
    sound = tones(500, seconds=4.0)
    for name in ("whole", "cut", "on"):
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE_HZ)
    whole = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 4])
    (tmp_path / "on.wav").write_bytes(whole + whole[:4] + bytes(range(256)) * 99)
    (tmp_path / "twice.wav").write_bytes(2 * whole)
    found = {one.recording.name: one for one in heard(tmp_path) if isinstance(one, RecordingScores)}
    assert found["cut.wav"].problem == "lasts 1.0 s, by its header 4.0 s"
    assert found["cut.wav"].duration_s == pytest.approx(1.0, abs=0.01) and len(found["cut.wav"].start_s)
    assert found["on.wav"].problem == "continues for 25,348 bytes after the decoded part"
    assert found["twice.wav"].problem == found["whole.wav"].problem == ""
    assert (found["on.wav"].duration_s, found["twice.wav"].duration_s) == (4.0, 8.0)


def test_seconds_classified_add_up_to_the_recordings(field: Path):
    found = heard(field)
    seconds = sum(one for one in found if isinstance(one, float))
    assert seconds == pytest.approx(sum(one.duration_s for one in found if isinstance(one, RecordingScores)))


def test_a_recording_is_as_long_as_it_is_though_windows_lie_far_apart(field: Path):
    found = {Path(one.recording.path).stem: one for one in heard(field, hop_s=8.5) if isinstance(one, RecordingScores)}
    assert found["3"].duration_s == pytest.approx(9.1) and found["5"].duration_s == 33.0
    assert found["5"].start_s.tolist() == [0.0, 8.5, 17.0, 25.5]


def test_pictures_are_made_where_they_are_needed(field: Path):
    assert all(one.overview is None for one in heard(field) if isinstance(one, RecordingScores))
    pictures = [
        one.overview for one in heard(field, overview=True) if isinstance(one, RecordingScores) and not one.problem
    ]
    assert all(picture is not None and picture.picture().max() > 20 for picture in pictures)


def test_whoever_stops_listening_leaves_no_thread_behind(field: Path):
    before = threading.active_count()
    for _ in range(3):
        listening = stream_scores(recordings_of([str(field)]), Pitches(), StreamSettings(0.01, batch=2))
        next(listening)
        listening.close()
    assert threading.active_count() == before


def test_an_error_of_the_classifier_or_of_birdclf_is_not_swallowed(field: Path, monkeypatch):
    class Broken(Pitches):
        def __call__(self, windows):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream_scores(recordings_of([str(field)]), Broken(), StreamSettings(0.5)))
    monkeypatch.setattr("birdclf.detection.stream.FileReader", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        heard(field)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"hop_s": 0.0}, "--hop 0"), ({"hop_s": 1e-9}, "--hop 1e-09"), ({"hop_s": float("inf")}, "--hop inf"),
        ({"batch": 0}, "--batch-size 0"),
    ],
)  # fmt: skip
def test_what_is_no_way_to_listen_is_refused(field: Path, how, words):
    with pytest.raises(UserError, match=words):
        heard(field, **how)
