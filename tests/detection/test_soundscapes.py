"""Probabilities of segments of soundscapes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_up import CLASSES, RATE_HZ, Pitches, tones

from birdclf.detection.soundscapes import overlapping, scores_of_detections, scores_on_segments, window_hop_s
from birdclf.detection.stream import StreamSettings
from birdclf.errors import UserError


def segments_of(*rows: tuple[Path, float, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["path", "start_s", "end_s"])
    return table.assign(path=table.path.map(str))


@pytest.mark.parametrize("window_s", [0.7, 3.0, 5.0, 12.0])
@pytest.mark.parametrize("hop_s", [0.5, 2.5, 3.0, 5.0, 9.0])
@pytest.mark.parametrize("segment_hop_s", [1.0, 5.0, 7.0])
def test_intervals_overlap_as_a_loop_over_all_pairs_finds(window_s, hop_s, segment_hop_s):
    x = np.append(np.arange(0, 60 - window_s, hop_s), 60 - window_s)
    a = np.arange(0, 70, segment_hop_s)
    pairs = {
        (i, j)
        for i, j in np.ndindex(len(a), len(x))
        if min(a[i] + 5, x[j] + window_s) - max(a[i], x[j]) >= min(5, window_s) / 2 - 1e-6
    }
    for found in (overlapping(a, a + 5, x, x + window_s), overlapping(x, x + window_s, a, a + 5)[::-1]):
        assert set(zip(*map(np.ndarray.tolist, found), strict=True)) == pairs and len(found[0]) == len(pairs)


def test_half_of_the_shorter_is_enough_and_less_is_not():
    start_s, end_s = np.array([0.0, 0.0, 0.0]), np.array([4.4, 4.5, 1.0])
    i, j = overlapping(start_s, end_s, np.array([0.0, 3.0]), np.array([3.0, 6.0]))
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1), (2, 0)]


@pytest.mark.parametrize(("window_s", "segment_hop_s", "hop_s"), [
    (5, 5, 5), (3, 5, 2.5), (5, 2.5, 2.5), (10, 5, 5), (2, 5, 5 / 3), (0.1, 0.3, 0.1),
])  # fmt: skip
def test_a_window_begins_with_each_segment(window_s, segment_hop_s, hop_s):
    assert window_hop_s(window_s, segment_hop_s) == pytest.approx(hop_s)


@pytest.mark.parametrize("window_s", np.arange(0.3, 14, 0.37))
def test_each_segment_has_a_window_at_the_hop_that_is_chosen(window_s):
    hop_s = window_hop_s(window_s, 5.0)
    window_start_s = np.append(np.arange(0, 100 - window_s, hop_s), 100 - window_s)
    start_s = np.arange(0, 100, 5.0)
    i, _ = overlapping(start_s, start_s + 5.0, window_start_s, window_start_s + window_s)
    assert set(i) == set(range(len(start_s)))


def test_recordings_are_scored_in_whatever_order_their_segments_stand(tmp_path: Path):
    low, high = tmp_path / "low.wav", tmp_path / "high.wav"
    soundfile.write(low, tones(500, 1_250, 500, 0), RATE_HZ)
    soundfile.write(high, tones(2_750, 2_750, 1_250, 1_250), RATE_HZ)
    segments = segments_of((high, 2, 4), (low, 0, 2), (high, 0, 2), (low, 2, 4), (low, 1, 2), (high, 0, 4))
    scores = scores_on_segments(Pitches(), segments, StreamSettings(1.0, batch=3))
    assert scores.dtype == np.float32 and scores.shape == (6, len(CLASSES))
    heard = [{CLASSES[k] for k in np.flatnonzero(row > 0.9)} for row in scores]
    owl, crane, lark = CLASSES
    assert heard == [{crane}, {owl, crane}, {lark}, {owl}, {crane}, {crane, lark}]


def test_what_cannot_be_decoded_has_no_score_and_is_told(tmp_path: Path, capsys):
    whole, cut, bad = (tmp_path / f"{name}.wav" for name in ("whole", "cut", "bad"))
    soundfile.write(whole, tones(500, 500, 500, 500), RATE_HZ)
    cut.write_bytes(whole.read_bytes()[: RATE_HZ * 2 * 2 + 44])
    bad.write_bytes(b"no sound")
    segments = segments_of((bad, 0, 2), (cut, 0, 2), (cut, 2, 4), (whole, 2, 4))
    scores = scores_on_segments(Pitches(), segments, StreamSettings(1.0))
    assert np.isnan(scores).all(axis=1).tolist() == [True, False, True, False]
    said = capsys.readouterr().err
    assert "bad.wav cannot be decoded" in said and "cut.wav lasts 2.0 s, by its header 4.0 s" in said


def test_a_recording_shorter_than_a_window_is_one_segment(tmp_path: Path):
    soundfile.write(tmp_path / "short.wav", tones(1_250, seconds=0.6), RATE_HZ)
    scores = scores_on_segments(Pitches(), segments_of((tmp_path / "short.wav", 0, 1)), StreamSettings(1.0))
    assert scores[0, 1] > 0.9


def test_a_hop_that_is_no_time_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="--hop 0"):
        scores_on_segments(Pitches(), segments_of((tmp_path / "a.wav", 0, 1)), StreamSettings(0.0))


def test_a_segment_has_the_highest_confidence_of_the_detections_that_overlap_it():
    segments = segments_of(*((name, start, start + 5) for name in ("a", "b") for start in (0, 5, 10)))
    rows = [
        ("a", 0, 3, "crane", 0.4),
        ("a", 2, 5, "crane", 0.6),
        ("a", 4, 7, "owl", 0.9),  # most of it in the second segment
        ("b", 1, 15, "owl", 0.7),
        ("b", 0, 3, "wren", 1.0),  # not judged
        ("c", 0, 3, "owl", 1.0),  # of another folder
        ("a", 10, 13, "owl", np.nan),
    ]
    found = pd.DataFrame(rows, columns=["file", "start_s", "end_s", "label", "confidence"])
    scores = scores_of_detections(found, segments, {"crane": 0, "owl": 1}, 2)
    expected = [[0.6, 0], [0, 0.9], [0, 1], [0, 0.7], [0, 0.7], [0, 0.7]]
    np.testing.assert_allclose(scores, expected, atol=1e-7)
    unsaid = scores_of_detections(found.drop(columns="confidence"), segments, {"crane": 0, "owl": 1}, 2)
    np.testing.assert_array_equal(unsaid, np.sign(scores))
    assert not scores_of_detections(found.iloc[:0], segments, {"owl": 0}, 1).any()
