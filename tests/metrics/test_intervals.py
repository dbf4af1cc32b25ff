import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from birdclf.metrics.figures import Evaluation, bucket_table, confusion_matrix, precision_recall_f1, summarise
from birdclf.metrics.intervals import ClusterCounts, Interval, class_f1_intervals, figure_intervals, wilson


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_wilson_is_scipys(trial, confidence):
    hits, n = trial
    ours = wilson(hits, n, confidence)
    theirs = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9) and ours.high == pytest.approx(theirs.high, abs=1e-9)
    assert 0 <= ours.low <= hits / n + 1e-12 and hits / n - 1e-12 <= ours.high <= 1


def test_wilson_at_the_published_size():
    low, high = wilson(710, 1662)  # 42.72 %
    assert (high - low) / 2 == pytest.approx(0.024, abs=5e-4)


QUICK = Evaluation(draws=300)
TRAIN = np.array([500, 300, 200, 90, 50, 30, 10, 5])


def example(n: int = 400, classes: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, n)
    return target, np.where(rng.random(n) < 0.6, target, rng.integers(0, classes, n))


def intervals(target, prediction, cluster, settings=QUICK) -> dict[str, Interval]:
    return figure_intervals(ClusterCounts.of(target, prediction, cluster, 8), TRAIN, settings)


def width(interval: Interval) -> float:
    return interval.high - interval.low


@given(st.integers(0, 10**6))
def test_every_interval_contains_its_figure(seed):
    target, prediction = example(seed=seed)
    confusion = confusion_matrix(target, prediction, 8)
    found = intervals(target, prediction, np.arange(400))
    buckets = bucket_table(confusion, TRAIN)
    expected = summarise(confusion) | {
        f"{b}_{k}": buckets[b][k] for b in buckets for k in ("f1", "recall", "precision")
    }
    assert found.keys() == expected.keys() - {"accuracy"}
    for name, interval in found.items():
        assert 0 <= interval.low < expected[name] < interval.high <= 1
        assert 0.03 < width(interval) < 0.4


@given(st.integers(0, 10**6))
def test_the_order_of_clips_changes_nothing(seed):
    target, prediction = example(seed=seed)
    cluster = np.random.default_rng(seed).integers(0, 50, 400)
    order = np.random.default_rng(seed + 1).permutation(400)
    one, two = intervals(target, prediction, cluster), intervals(target[order], prediction[order], cluster[order])
    for name in one:
        assert one[name] == pytest.approx(two[name])


def test_twice_the_clips_in_the_same_clusters_say_no_more():
    """Copies of a clip in its own cluster leave each cluster's share of every figure, and nearly the correlation."""
    target, prediction = example()
    cluster = np.arange(400) % 100
    once = intervals(target, prediction, cluster)
    twice = intervals(np.tile(target, 2), np.tile(prediction, 2), np.tile(cluster, 2))
    np.testing.assert_allclose(twice["macro_f1"], once["macro_f1"], atol=2e-4)


def test_twice_the_clusters_narrow_the_interval_by_the_root_of_two():
    target, prediction = example()
    usual = Evaluation()
    once = intervals(target, prediction, np.arange(400), usual)["macro_f1"]
    twice = intervals(np.tile(target, 2), np.tile(prediction, 2), np.arange(800), usual)["macro_f1"]
    assert width(once) / width(twice) == pytest.approx(2**0.5, rel=0.05)


def test_weighted_recall_has_the_spread_of_a_proportion():
    """With one class the balanced accuracy is a proportion, so that little but the floor differs from Wilson's."""
    target, prediction = np.zeros(400, dtype=int), (np.arange(400) < 120).astype(int)
    ours = intervals(target, prediction, np.arange(400), Evaluation())["balanced_accuracy"]
    assert ours == pytest.approx(wilson(280, 400), abs=0.005)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_still_has_a_width(right):
    target = np.repeat(np.arange(8), 5)
    found = intervals(target, target if right else (target + 1) % 8, np.arange(40))
    assert found["balanced_accuracy"] == pytest.approx(wilson(40 if right else 0, 40))
    np.testing.assert_allclose(found["macro_f1"], wilson(40 if right else 0, 40), atol=2e-3)


def test_the_class_list_is_fixed():
    target, prediction = example(classes=4)
    found = intervals(target, prediction, np.arange(400))
    assert found["macro_f1"] == pytest.approx(np.array(found["macro_f1_evaluable"]) / 2)
    assert "few_f1" not in found  # no clip of those classes


def test_clusters_widen_the_interval():
    """Recordings of one recordist are right or wrong together."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(40), 10)
    target = rng.integers(0, 4, 400)
    right = np.repeat(rng.random(40) < 0.6, 10)
    prediction = np.where(right, target, (target + 1) % 4)
    alone, clustered = (intervals(target, prediction, c)["macro_f1_evaluable"] for c in (np.arange(400), group))
    assert width(clustered) > 1.8 * width(alone)


def test_the_bootstrap_repeats_and_follows_its_settings():
    target, prediction = example()
    names = np.array([f"r{i % 200}" for i in range(400)], dtype=object)
    usual = intervals(target, prediction, names)
    assert intervals(target, prediction, names) == usual
    narrow = intervals(target, prediction, names, Evaluation(draws=300, confidence=0.5))["macro_f1"]
    assert usual["macro_f1"].low < narrow.low < narrow.high < usual["macro_f1"].high


def test_one_cluster_says_next_to_nothing():
    target, prediction = example(n=30)
    assert width(intervals(target, prediction, np.zeros(30))["macro_f1_evaluable"]) > 0.8


@given(st.integers(0, 10**6))
def test_f1_of_a_class_lies_in_its_interval(seed):
    target, prediction = example(n=60, seed=seed)
    target = target % 6  # two classes without a clip
    limits = class_f1_intervals(ClusterCounts.of(target, prediction, np.arange(60), 8), QUICK)
    f1 = precision_recall_f1(confusion_matrix(target, prediction, 8))[2]
    seen = np.bincount(target, minlength=8) > 0
    assert limits.shape == (8, 2) and np.isnan(limits[~seen]).all()
    assert (limits[seen, 0] <= f1[seen] + 1e-9).all() and (f1[seen] <= limits[seen, 1] + 1e-9).all()


def test_f1_of_a_class_by_hand():
    """6 hits, 2 missed, 2 false: J = 6/10, whose Wilson interval is mapped by 2 J / (1 + J)."""
    target, prediction = np.repeat([0, 0, 1], [6, 2, 2]), np.repeat([0, 1, 0], [6, 2, 2])
    ours = class_f1_intervals(ClusterCounts.of(target, prediction, np.arange(10), 2), QUICK)[0]
    low, high = wilson(6, 10)
    scale = 10 / 9  # the clusters' variance divides by C - 1
    assert ours == pytest.approx([2 * low / (1 + low), 2 * high / (1 + high)], abs=0.02 * scale)
