"""Segments of soundscapes: what is heard in them, and their scores."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_up import CLASSES, RATE_HZ, SILENT, Pitches, tones
from scipy.special import expit

from birdclf.data.soundscapes import SegmentSettings
from birdclf.detection.soundscapes import (
    judge,
    overlapping,
    read_detections,
    read_truth,
    scores_of_detections,
    scores_on_segments,
    window_hop_s,
)
from birdclf.detection.stream import StreamSettings
from birdclf.errors import UserError
from birdclf.metrics.multi_label import logits_of


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


OWL, CRANE, LARK = CLASSES


def field_of(root: Path, annotations: str, **sounds: tuple[float, ...]) -> Path:
    """Write a second of each pitch to a recording of its own, and the table of annotations beside the folder."""
    (root / "field").mkdir()
    for name, pitches_hz in sounds.items():
        soundfile.write(root / "field" / f"{name}.wav", tones(*pitches_hz), RATE_HZ)
    (root / "table.csv").write_text("file,start_s,end_s,label\n" + annotations)
    return root / "field"


def truth_of(root: Path, annotations: str, labels: Path | None = None, classes=CLASSES, **sounds: tuple[float, ...]):
    folder = field_of(root, annotations, **sounds)
    settings = SegmentSettings(segment_s=1.0, unannotated="empty")
    return read_truth(folder, classes, settings, root / "table.csv", labels=labels)


def test_a_segment_is_what_is_annotated_in_it_and_what_the_classifier_says(tmp_path: Path):
    rows = "a,0,2,barn_owl\na,1,2,Crane\nb.wav,1,2,wren\n"
    truth = truth_of(tmp_path, rows, a=(500, 500, 0), b=(0, 2_750))
    assert truth.classes == (OWL, CRANE) and truth.unmapped == {"wren": 1}
    assert truth.target.tolist() == [[1, 0], [1, 1], [0, 0], [0, 0], [0, 0]]
    truth, found = judge(Pitches(), truth, StreamSettings(1.0))
    assert found.recording_id.tolist() == ["a.wav#0-1", "a.wav#1-2", "a.wav#2-3", "b.wav#0-1", "b.wav#1-2"]
    assert found.cluster.tolist() == ["a.wav"] * 3 + ["b.wav"] * 2 and found.duration_s.tolist() == [1.0] * 5
    np.testing.assert_allclose(found.probabilities[[0, 2]], [[1, 0], SILENT[:2]], atol=1e-3)


def test_other_species_are_negatives_but_not_empty_sound(tmp_path: Path):
    truth = truth_of(tmp_path, "a,0,1,barn owl\na,1,2,wren\n", a=(500, 500, 500, 0))
    _, found = judge(Pitches(), truth, StreamSettings(1.0))
    assert truth.others.tolist() == [False, True, False, False] and found.empty.tolist() == [False, False, True, True]
    figures = found.figures(np.array([50]))
    assert figures["empty_hours"] == pytest.approx(2 / 3600)
    assert figures["false_detections_per_hour"]["value"] == pytest.approx(3_600)  # both: silence is half an owl
    assert figures["cmap"]["value"] == pytest.approx(1 / 3)  # the wren is ranked as high as the owl


def test_where_nothing_is_heard_all_species_are_judged(tmp_path: Path):
    truth = truth_of(tmp_path, "a,0,1,none\n", a=(500, 0))
    _, found = judge(Pitches(), truth, StreamSettings(1.0))
    figures = found.figures(np.array([50, 50, 50]))
    assert truth.classes == CLASSES and figures["cmap"]["value"] is None and figures["classes_without_positive"] == 3
    assert figures["false_detections_per_hour"]["value"] == pytest.approx(3_600)  # two owls in two seconds


def test_none_is_no_species(tmp_path: Path):
    truth = truth_of(tmp_path, "a,0,1,none\n", classes=(*CLASSES, "none"), a=(500, 0))
    assert truth.classes == CLASSES and not truth.target.any() and not truth.unmapped and not truth.others.any()


def test_what_cannot_be_decoded_is_left_out_and_noted(tmp_path: Path):
    field = field_of(tmp_path, "a,0,1,crane\nb,0,1,crane\n", a=(1_250, 0), b=(1_250, 0, 0, 0))
    (field / "b.wav").write_bytes((field / "b.wav").read_bytes()[: 44 + 2 * RATE_HZ * 2])
    truth = read_truth(field, CLASSES, SegmentSettings(segment_s=1.0), tmp_path / "table.csv")
    kept, found = judge(Pitches(), truth, StreamSettings(1.0))
    assert len(truth.segments) == 6 and len(kept.segments) == len(found.target) == 4
    assert kept.notes[-1] == "2 segments could not be decoded and are left out"
    for name in ("a", "b"):
        (field / f"{name}.wav").write_bytes((field / "a.wav").read_bytes()[:44])
    with pytest.raises(UserError, match="no segment could be decoded"):
        judge(Pitches(), truth, StreamSettings(1.0))


def test_a_length_that_the_header_does_not_say_is_decoded(tmp_path: Path):
    field = field_of(tmp_path, "a,0,1,crane\n", a=(1_250, 0, 0))
    content = bytearray((field / "a.wav").read_bytes())
    content[4:8] = content[40:44] = bytes(4)  # as a recorder leaves them that lost its power
    (field / "a.wav").write_bytes(content)
    truth = read_truth(field, CLASSES, SegmentSettings(segment_s=1.0), tmp_path / "table.csv")
    assert truth.segments.end_s.tolist() == [1.0, 2.0, 3.0]


def test_labels_of_other_names_are_mapped_by_a_table(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("label,species\nTYTALB,barn owl\n")
    truth = truth_of(tmp_path, "a,0,1,tytalb\n", tmp_path / "labels.csv", a=(500, 0))
    assert truth.classes == (OWL,) and truth.target.tolist() == [[1], [0]]


def test_labels_without_a_species_show_both_sides(tmp_path: Path):
    rows = "".join(f"a,0,1,bird {n}\n" for n in range(7))
    with pytest.raises(UserError) as caught:
        truth_of(tmp_path, rows, a=(500, 0))
    message = str(caught.value)
    assert "bird 0, bird 1, bird 2, bird 3, bird 4 and 2 more" in message and "barn owl, crane, wood lark" in message
    assert "--labels" in message


def test_detections_are_judged_on_the_species_that_are_annotated(tmp_path: Path):
    truth = truth_of(tmp_path, "a,0,1,crane\na,2,3,barn owl\n", a=(1_250, 0, 500))
    table = tmp_path / "peer.csv"
    table.write_text("file,start_s,end_s,label,confidence\na,0,1,crane,0.8\na,1,2,wood lark,0.9\na,2,3,wren,0.7\n")
    detections = read_detections(truth, table, CLASSES)
    assert detections.unmapped == {"wren": 1}
    np.testing.assert_allclose(detections.predictions(truth).probabilities, [[0, 0.8], [0, 0], [0, 0]], atol=1e-6)
    table.write_text("file,start_s,end_s,label\na,0,1,wren\n")
    with pytest.raises(UserError, match=r"peer.csv detects none .* Its labels: wren\. Species: barn owl, crane\."):
        read_detections(truth, table, CLASSES)
    table.write_text("file,start_s,end_s,label,score\na,0,1,crane,0.8\na,1,2,crane,7.5\na,2,3,crane,-1\n")
    with pytest.raises(UserError, match=r"peer.csv has 2 confidences outside 0 to 1, first 7.5. Give probabilities"):
        read_detections(truth, table, CLASSES)


def test_detections_in_other_recordings_are_left_out_and_a_table_of_others_alone_is_refused(tmp_path: Path):
    truth = truth_of(tmp_path, "a,0,1,crane\nb,0,1,crane\n", a=(1_250, 0), b=(1_250, 0))
    table = tmp_path / "peer.csv"
    table.write_text("file,start_s,end_s,label\na,0,1,crane\nelsewhere,0,1,crane\n")
    detections = read_detections(truth, table, CLASSES)
    assert len(detections.table) == 1 and "elsewhere" in " ".join(detections.notes)
    assert detections.predictions(truth).probabilities[:, 0].round(6).tolist() == [1, 0, 0, 0]
    table.write_text("file,start_s,end_s,label\nelsewhere,0,1,crane\n")
    with pytest.raises(UserError, match="elsewhere"):
        read_detections(truth, table, CLASSES)


def test_detections_may_lie_in_a_folder_with_a_table_for_each_recording(tmp_path: Path):
    truth = truth_of(tmp_path, "a,0,1,crane\nb,0,1,crane\n", a=(1_250, 0), b=(1_250, 0))
    folder = tmp_path / "peer"
    folder.mkdir()
    head = "Start (s),End (s),Scientific name,Common name,Confidence\n"
    (folder / "a.BirdNET.results.csv").write_text(f"{head}0,1,Grus grus,Crane,0.75\n1,2,Strix aluco,Tawny owl,0.5\n")
    (folder / "b.BirdNET.results.csv").write_text(head)
    detections = read_detections(truth, folder, CLASSES)
    assert detections.unmapped == {"Strix aluco_Tawny owl": 1}
    assert detections.predictions(truth).probabilities[:, 0].round(6).tolist() == [0.75, 0, 0, 0]


def test_logits_of_probabilities_are_undone_by_the_sigmoid():
    p = np.array([0.0, 1e-30, 1e-3, 0.5, 0.999, 1.0], np.float32)
    logits = logits_of(p)
    assert np.isfinite(logits).all() and (np.diff(logits) > 0).all()
    np.testing.assert_allclose(expit(logits.astype(np.float64)), p, atol=1e-7)
