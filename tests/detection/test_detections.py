"""From probabilities of windows to detections."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.detection.detections import DetectionSettings
from birdclf.errors import UserError

CLASSES = ("a", "b", "c", "d")


def times(n, hop_s=1.0, window_s=1.0):
    start_s = np.arange(n) * hop_s
    return start_s, start_s + window_s


def found(p, detection_settings, start_s=None, end_s=None):
    p = np.asarray(p, np.float32).reshape(-1, len(CLASSES))
    if start_s is None:
        start_s, end_s = times(len(p))
    return detection_settings.detections(p, np.asarray(start_s, float), np.asarray(end_s, float), CLASSES)


def softmaxed(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


@st.composite
def probabilities(draw):
    n, seed = draw(st.integers(1, 12)), draw(st.integers(0, 2**32 - 1))
    return softmaxed(3 * np.random.default_rng(seed).standard_normal((n, len(CLASSES))))


@given(probabilities(), st.floats(0, 1), st.integers(1, 6))
def test_without_merging_each_window_has_its_surest_species(p, least, top_k):
    rows = found(p, DetectionSettings(least, top_k, merge=False))
    expected = set()
    for i, row in enumerate(p):
        best = sorted(range(len(CLASSES)), key=lambda k: (-row[k], k))[:top_k]
        expected |= {(float(i), CLASSES[k]) for k in best if row[k] >= least}
    assert {(one.start_s, one.species) for one in rows} == expected and len(rows) == len(expected)
    assert all(one.windows == 1 and one.confidence >= least - 1e-6 for one in rows)


@given(probabilities(), st.floats(0, 1), st.lists(st.booleans(), min_size=12, max_size=12))
def test_merging_joins_what_touches_and_never_crosses_a_gap(p, least, gaps):
    start_s = np.arange(len(p)) + 0.5 * np.cumsum(gaps[: len(p)])
    alone = found(p, DetectionSettings(least, merge=False), start_s, start_s + 1)
    merged = found(p, DetectionSettings(least), start_s, start_s + 1)
    for one in merged:
        inside = [o for o in alone if o.species == one.species and one.start_s <= o.start_s and o.end_s <= one.end_s]
        assert len(inside) == one.windows
        assert sum(o.end_s - o.start_s for o in inside) == pytest.approx(one.end_s - one.start_s)
        assert one.confidence == max(o.confidence for o in inside)
    assert sum(one.windows for one in merged) == len(alone)
    for one in merged:
        for other in merged:
            assert (
                one is other or one.species != other.species or one.end_s < other.start_s or other.end_s < one.start_s
            )


def test_windows_that_overlap_are_one_detection():
    start_s, end_s = times(4, hop_s=0.5)
    p = np.tile([0.9, 0.1, 0, 0], (4, 1))
    (one,) = found(p, DetectionSettings(), start_s, end_s)
    assert one == (0.0, 2.5, "a", pytest.approx(0.9), 4, None)


def test_a_window_between_them_ends_a_detection():
    p = [[0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0], [0.8, 0.2, 0, 0]]
    rows = found(p, DetectionSettings(0.5))
    assert [one[:3] for one in rows] == [(0, 1, "a"), (1, 2, "b"), (2, 3, "a")]
    assert [one[:3] for one in found(p, DetectionSettings(0.1))] == [(0, 3, "a"), (0, 3, "b")]


def test_they_are_in_order_of_begin_and_then_of_confidence():
    rows = found([[0.3, 0.5, 0.2, 0], [0.1, 0.2, 0.7, 0]], DetectionSettings(0.0, top_k=3, merge=False))
    assert [(one.start_s, one.species) for one in rows] == [(0, "b"), (0, "a"), (0, "c"), (1, "c"), (1, "b"), (1, "a")]


def test_no_confidence_at_all_is_no_detection():
    assert [one.species for one in found([1, 0, 0, 0], DetectionSettings(0.0, top_k=4))] == ["a"]


@given(probabilities(), st.floats(0.1, 8), st.sampled_from([0.3, 1.0]))
def test_smoothing_is_the_mean_of_the_logits_around(p, smooth_s, hop_s):
    start_s, end_s = times(len(p), hop_s)
    middle_s = (start_s + end_s) / 2
    smooth = DetectionSettings(smooth_s=smooth_s).calibrated(p, middle_s, CLASSES)
    log_p = np.log(np.maximum(p.astype(float), 1e-30))
    near = np.abs(middle_s[:, None] - middle_s[None]) <= smooth_s / 2 + 1e-6
    brute = softmaxed(np.stack([log_p[row].mean(axis=0) for row in near]))
    np.testing.assert_allclose(smooth, brute, atol=1e-5)


@given(probabilities(), st.floats(0.1, 30))
def test_smoothing_what_does_not_change_changes_nothing(p, smooth_s):
    same = np.tile(p[:1], (9, 1))
    start_s, end_s = times(9)
    np.testing.assert_allclose(
        DetectionSettings(smooth_s=smooth_s).calibrated(same, (start_s + end_s) / 2, CLASSES), same, atol=1e-6
    )


def test_smoothing_takes_a_probability_of_nothing():
    p = np.asarray([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
    smooth = DetectionSettings(smooth_s=2.0).calibrated(p, np.asarray([0.5, 1.5]), CLASSES)
    np.testing.assert_allclose(smooth, [[0.5, 0.5, 0, 0]] * 2, atol=1e-6)


@given(probabilities(), st.sets(st.sampled_from(CLASSES), min_size=2))
def test_species_that_occur_share_the_probability(p, names):
    kept = np.isin(CLASSES, sorted(names))
    among = DetectionSettings(species=tuple(sorted(names))).calibrated(p, np.arange(len(p)) + 0.5, CLASSES)
    expected = p * kept / (p * kept).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(among, expected, atol=1e-5)
    assert {one.species for one in found(p, DetectionSettings(0.0, species=tuple(names)))} <= names


def test_a_rejected_window_stays_rejected():
    p = np.array([[0.9, 0.1, 0, 0], [0, 0, 0, 0], [0.8, 0.1, 0.1, 0]], dtype=np.float32)
    middle_s = np.arange(3) + 0.5
    for settings in (DetectionSettings(0.0, smooth_s=3.0), DetectionSettings(0.0, species=("a", "b"))):
        out = settings.calibrated(p, middle_s, CLASSES)
        assert (out[1] == 0).all() and (out[[0, 2], 0] > 0.5).all()
    assert 1.0 not in {one.start_s for one in found(p, DetectionSettings(0.0, merge=False, smooth_s=3.0))}


def test_none_of_the_species_keeps_its_probability_beside_a_list():
    p = np.array([[0.02, 0.01, 0.07, 0.9]], dtype=np.float32)
    among = DetectionSettings(species=("a", "b")).calibrated(p, np.asarray([0.5]), ("a", "b", "c", "none"))
    np.testing.assert_allclose(among, [[2 / 93, 1 / 93, 0, 90 / 93]], rtol=1e-5)


def test_species_of_nearly_no_probability_still_share_it():
    p = np.asarray([[1, 1e-25, 3e-25, 0]], np.float32)
    among = DetectionSettings(species=("b", "c")).calibrated(p, np.asarray([0.5]), CLASSES)
    np.testing.assert_allclose(among, [[0, 0.25, 0.75, 0]], atol=1e-5)


def test_nothing_decoded_is_nothing_found():
    for detection_settings in (DetectionSettings(), DetectionSettings(smooth_s=3.0, species=("a", "c"))):
        assert found(np.empty((0, 4)), detection_settings) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_confidence": -0.1}, "--min-confidence -0.1"),
        ({"species": ("a",)}, "names a alone"),
        ({"min_confidence": 1.1}, "--min-confidence 1.1"),
        ({"min_confidence": float("nan")}, "--min-confidence nan"),
        ({"top_k": 0}, "--top-k 0"),
        ({"smooth_s": -1.0}, "--smooth -1"),
        ({"smooth_s": float("inf")}, "--smooth inf"),
        ({"smooth_s": float("nan")}, "--smooth nan"),
    ],
)
def test_values_out_of_range_are_refused(values, words):
    with pytest.raises(UserError, match=words):
        DetectionSettings(**values)
