import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_average_precision, multiclass_calibration_error

from birdclf.metrics import figures as metrics
from birdclf.metrics.figures import Evaluation

CLASSES = 6
SEEDS = st.integers(0, 10**6)


def labels(seed: int, n: int = 60, seen: int = CLASSES - 1) -> tuple[np.ndarray, np.ndarray]:
    """Return true classes below ``seen`` and predictions among all, right about half of the time."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, seen, n)
    return target, np.where(rng.random(n) < 0.5, target, rng.integers(0, CLASSES, n))


@given(SEEDS)
def test_confusion_matrix(seed):
    target, prediction = labels(seed)
    ours = metrics.confusion_matrix(target, prediction, CLASSES)
    np.testing.assert_array_equal(ours, sk.confusion_matrix(target, prediction, labels=range(CLASSES)))


def test_rows_are_true_and_columns_predicted():
    assert metrics.confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 1]), 2).tolist() == [[0, 2], [0, 1]]


@given(SEEDS)
def test_precision_recall_f1_with_a_fixed_class_list(seed):
    target, prediction = labels(seed)
    ours = metrics.precision_recall_f1(metrics.confusion_matrix(target, prediction, CLASSES))
    theirs = sk.precision_recall_fscore_support(target, prediction, labels=range(CLASSES), zero_division=0)
    for one, two in zip(ours, theirs[:3], strict=True):
        np.testing.assert_allclose(one, two)


@given(SEEDS, st.integers(1, CLASSES))
def test_summary(seed, seen):
    target, prediction = labels(seed, seen=seen)
    present = np.unique(target)
    ours = metrics.summarise(metrics.confusion_matrix(target, prediction, CLASSES))

    def f1(average: str, over) -> float:
        return sk.f1_score(target, prediction, average=average, labels=over, zero_division=0)

    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(target, prediction))
    assert ours["macro_f1"] == pytest.approx(f1("macro", range(CLASSES)))
    assert ours["macro_f1_evaluable"] == pytest.approx(f1("macro", present))
    assert ours["weighted_f1"] == pytest.approx(f1("weighted", range(CLASSES)))
    recall = sk.recall_score(target, prediction, average="macro", labels=present, zero_division=0)
    assert ours["balanced_accuracy"] == pytest.approx(recall)


def test_a_class_without_clips_lowers_macro_f1_and_not_the_evaluable_one():
    figures = metrics.summarise(np.array([[3, 0, 0], [0, 2, 0], [0, 0, 0]]))
    assert figures["macro_f1"] == pytest.approx(2 / 3)
    assert figures["macro_f1_evaluable"] == figures["balanced_accuracy"] == figures["accuracy"] == 1


def test_bucket_table_by_hand():
    # class 0 (many): 8 of 10; class 1 (many): no clip; class 2 (medium): 1 of 2, 2 false; class 3 (few): 0 of 1
    confusion = np.array([[8, 0, 2, 0], [0, 0, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]])
    table = metrics.bucket_table(confusion, np.array([500, 200, 50, 5]))
    one = {"classes": 1}
    assert table["many"] == one | {"precision": 0.8, "recall": 0.8, "f1": pytest.approx(16 / 20), "clips": 10}
    assert table["medium"] == one | {"precision": pytest.approx(1 / 3), "recall": 0.5, "f1": 0.4, "clips": 2}
    assert table["few"] == one | {"precision": 0.0, "recall": 0.0, "f1": 0.0, "clips": 1}


def test_an_empty_bucket_has_no_figure():
    table = metrics.bucket_table(np.diag([3, 3]), np.array([50, 60]))
    assert table["many"] == {"precision": None, "recall": None, "f1": None, "classes": 0, "clips": 0}


def test_buckets_follow_the_settings():
    table = metrics.bucket_table(np.diag([3, 3]), np.array([50, 60]), Evaluation(many=55, few=10))
    assert table["many"]["classes"] == table["medium"]["classes"] == 1


@given(SEEDS, st.floats(0.1, 1e4))
def test_log_softmax(seed, scale):
    z = (scale * np.random.default_rng(seed).standard_normal((5, CLASSES))).astype(np.float32)
    ours = metrics.log_softmax(z)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, log_softmax(z.astype(np.float64), axis=1), rtol=1e-9, atol=1e-12)


@given(SEEDS)
def test_nll_is_sklearns_log_loss(seed):
    target, _ = labels(seed)
    log_p = metrics.log_softmax(np.random.default_rng(seed).standard_normal((len(target), CLASSES)))
    theirs = sk.log_loss(target, np.exp(log_p), labels=range(CLASSES))
    assert metrics.negative_log_likelihood(log_p, target) == pytest.approx(theirs)


@given(SEEDS, st.integers(0, 3))
def test_average_precision_is_sklearns_to_the_last_bit(seed, decimals):
    target, _ = labels(seed)
    p = np.random.default_rng(seed).dirichlet(np.ones(CLASSES), len(target)).round(decimals)  # with ties
    theirs = [sk.average_precision_score(target == k, p[:, k]) for k in np.unique(target)]
    assert metrics.macro_average_precision(p, target) == float(np.mean(theirs))


@given(SEEDS, st.integers(1, CLASSES))
def test_top_k_is_sklearns(seed, k):
    target, _ = labels(seed)
    log_p = metrics.log_softmax(np.random.default_rng(seed).standard_normal((len(target), CLASSES)))
    theirs = 1.0 if k == CLASSES else sk.top_k_accuracy_score(target, log_p, k=k, labels=range(CLASSES))
    assert metrics.top_k_accuracy(log_p, target, k) == pytest.approx(theirs)


def test_ties_count_against_the_class():
    log_p = np.full((1, 10), math.log(0.1))
    assert metrics.top_k_accuracy(log_p, np.array([0]), 5) == 0
    assert metrics.top_k_accuracy(log_p, np.array([0]), 10) == 1


def test_top_5_of_three_classes_is_everything():
    assert metrics.top_k_accuracy(np.log([[0.7, 0.2, 0.1]]), np.array([2]), 5) == 1


def test_ratio_is_0_where_it_is_not_defined():
    assert metrics.ratio(np.array([1, 2, 0]), np.array([2, 0, 0])).tolist() == [0.5, 0, 0]


def probabilities(seed: int, n: int) -> np.ndarray:
    z = 2 * np.random.default_rng(seed).standard_normal((n, CLASSES))
    return np.exp(metrics.log_softmax(z))


@given(SEEDS, st.integers(1, 20))
def test_calibration_error_is_torchmetrics(seed, bins):
    target, _ = labels(seed)
    p = probabilities(seed, len(target))
    theirs = multiclass_calibration_error(torch.tensor(p), torch.tensor(target), CLASSES, n_bins=bins)
    assert metrics.expected_calibration_error(p, target, bins) == pytest.approx(float(theirs), abs=1e-6)


def test_certain_and_wrong_is_the_largest_calibration_error():
    p = np.eye(3)[[0, 0, 0, 0]]
    assert metrics.expected_calibration_error(p, np.array([1, 1, 2, 2])) == 1
    assert metrics.expected_calibration_error(p, np.array([0, 0, 0, 0])) == 0


@given(SEEDS)
def test_macro_average_precision_is_torchmetrics(seed):
    target, _ = labels(seed)
    p = probabilities(seed, len(target))
    theirs = multiclass_average_precision(torch.tensor(p), torch.tensor(target), CLASSES, average=None)
    present = np.unique(target)
    assert metrics.macro_average_precision(p, target) == pytest.approx(float(theirs[present].mean()), abs=1e-5)


def test_average_precision_by_hand():
    """The one clip of class 0 is ranked second of three: 1/2; those of class 1 first and second: 1."""
    p = np.array([[0.5, 0.3], [0.6, 0.9], [0.1, 0.8]])
    assert metrics.macro_average_precision(p, np.array([0, 1, 1])) == pytest.approx(0.75)


@given(SEEDS)
def test_the_order_of_clips_changes_nothing(seed):
    target, _ = labels(seed)
    p, order = probabilities(seed, len(target)), np.random.default_rng(seed).permutation(len(target))
    for figure in (metrics.macro_average_precision, metrics.expected_calibration_error):
        assert figure(p, target) == pytest.approx(figure(p[order], target[order]))


def test_ratio_broadcasts():
    assert metrics.ratio(np.ones((2, 3)), np.array([1, 2, 0])).tolist() == [[1, 0.5, 0]] * 2
