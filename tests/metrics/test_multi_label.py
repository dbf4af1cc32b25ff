"""Is each figure of sets of species that of scikit-learn and torchmetrics, with and without each cluster?"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    log_loss,
    precision_recall_curve,
    recall_score,
    roc_auc_score,
)
from torchmetrics.classification import (
    BinaryCalibrationError,
    MultilabelAUROC,
    MultilabelAveragePrecision,
    MultilabelF1Score,
    MultilabelPrecisionAtFixedRecall,
    MultilabelRecallAtFixedPrecision,
)

from birdclf.metrics import multi_label
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.multi_label import ThresholdCounts, class_rankings

USUAL = Evaluation()


def case(seed: int, n: int = 240, masked: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits with ties, targets with empty rows, a class without a positive and masked entries, and clusters."""
    rng = np.random.default_rng(seed)
    target = (rng.random((n, 7)) < np.geomspace(0.3, 0.01, 7)).astype(np.int8)
    target[:, 5] = 0
    target[::3] = 0
    logits = (rng.standard_normal((n, 7)) + 2 * target - 1).round(1).astype(np.float32)
    target[rng.random(target.shape) < masked] = -1
    member = np.unique(rng.integers(0, 6, n), return_inverse=True)[1]
    return logits, target, member


def by_scikit_learn(score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the figures of one class, NaN without a positive (or, of the ROC curve, a negative)."""
    if not truth.any():
        return dict.fromkeys(("ap", "auroc", "recall_at_precision", "precision_at_recall"), np.nan)
    precision, recall, _ = precision_recall_curve(truth, score)
    return {
        "ap": average_precision_score(truth, score),
        "auroc": np.nan if truth.all() else roc_auc_score(truth, score),
        "recall_at_precision": recall[precision >= USUAL.precision].max(),
        "precision_at_recall": precision[recall >= USUAL.recall].max(),
    }


@pytest.mark.parametrize("block", [multi_label.BLOCK, 20])
@pytest.mark.parametrize("seed", range(4))
def test_rankings_are_scikit_learns_with_and_without_each_cluster(monkeypatch, seed, block):
    monkeypatch.setattr(multi_label, "BLOCK", block)
    logits, target, member = case(seed, masked=0.2 * (seed > 0))
    found = class_rankings(logits, target, member, USUAL)
    for k in range(7):
        known = target[:, k] >= 0
        for left_out in range(-1, member.max() + 1):
            rows = known & (member != left_out)
            expected = by_scikit_learn(logits[rows, k], target[rows, k] == 1)
            for name, value in expected.items():
                own = found[name].value[k] if left_out < 0 else found[name].without[left_out, k]
                assert own == pytest.approx(value, abs=1e-12, nan_ok=True), (name, k, left_out)


@pytest.mark.parametrize("seed", range(3))
def test_means_are_those_of_torchmetrics(seed):
    """BirdSet's cmAP is its macro average over classes with a positive; -1 is its index to ignore."""
    logits, target, member = case(seed)
    p, y = torch.from_numpy(logits).sigmoid(), torch.from_numpy(target).long()
    heard = np.flatnonzero((target == 1).any(axis=0))
    found = class_rankings(p.numpy(), target, member, USUAL)
    given = (p[:, heard], y[:, heard])
    options = {"num_labels": len(heard), "ignore_index": -1}
    assert found["ap"].mean(np.ones(7, dtype=bool)).value == pytest.approx(
        float(MultilabelAveragePrecision(average="macro", **options)(*given)), abs=1e-6
    )
    assert found["auroc"].mean(np.ones(7, dtype=bool)).value == pytest.approx(
        float(MultilabelAUROC(average="macro", **options)(*given)), abs=1e-6
    )
    recall, _ = MultilabelRecallAtFixedPrecision(min_precision=USUAL.precision, **options)(*given)
    precision, _ = MultilabelPrecisionAtFixedRecall(min_recall=USUAL.recall, **options)(*given)
    np.testing.assert_allclose(found["recall_at_precision"].value[heard], recall, atol=1e-6)
    np.testing.assert_allclose(found["precision_at_recall"].value[heard], precision, atol=1e-6)

    counts = ThresholdCounts.of(p.numpy() >= 0.5, target, member)
    for average, value in (("macro", counts.f1().mean(np.ones(7, dtype=bool)).value), ("micro", None)):
        kept = given if average == "macro" else (p, y)
        metric = MultilabelF1Score(num_labels=kept[0].shape[1], threshold=0.4999, average=average, ignore_index=-1)
        own = counts.micro_f1().value if value is None else value
        assert own == pytest.approx(float(metric(*kept)), abs=1e-6)
    errors = multi_label.class_calibration_errors(p.numpy(), target, 15)
    for k in range(7):
        known = y[:, k] >= 0
        assert errors[k] == pytest.approx(float(BinaryCalibrationError(15)(p[known, k], y[known, k])), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_counts_at_a_threshold_are_scikit_learns_without_each_cluster(seed):
    logits, target, member = case(seed)
    called = logits >= 0.3
    counts = ThresholdCounts.of(called, target, member)
    for left_out in range(-1, member.max() + 1):
        of_classes = []
        for k in range(7):
            rows = (target[:, k] >= 0) & (member != left_out)
            y, own = target[rows, k], called[rows, k]
            both = (f1_score(y, own), recall_score(y, own)) if y.any() else (np.nan, np.nan)
            of_classes.append(both)
        pick = [(e.value if left_out < 0 else e.without[left_out]) for e in (counts.f1(), counts.recall())]
        np.testing.assert_allclose(np.transpose(pick), of_classes, atol=1e-12)
        rows = (target >= 0) & (member != left_out)[:, None]
        micro = counts.micro_f1()
        own = micro.value if left_out < 0 else micro.without[left_out]
        assert own == pytest.approx(f1_score(target[rows], called[rows]))


def test_cross_entropy_is_that_of_scikit_learn():
    logits, target, _ = case(0)
    known = target >= 0
    expected = log_loss(target[known], torch.from_numpy(logits).double().sigmoid().numpy()[known])
    assert multi_label.cross_entropy(logits, target) == pytest.approx(expected)
    extreme = np.array([[200.0, -200.0]], dtype=np.float32)
    assert multi_label.cross_entropy(extreme, np.array([[1, 0]], dtype=np.int8)) == pytest.approx(0, abs=1e-12)
    assert multi_label.cross_entropy(extreme, np.array([[0, 1]], dtype=np.int8)) == pytest.approx(200)
    assert np.isnan(multi_label.cross_entropy(extreme, np.full((1, 2), -1, dtype=np.int8)))


def test_the_top_class_is_birdsets():
    """As its TopKAccuracy: of clips with a label, those whose highest score is among their labels."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((300, 6)).astype(np.float32)
    target = (rng.random((300, 6)) < 0.2).astype(np.int8)
    top = torch.from_numpy(logits).topk(1, dim=1).indices
    labelled = target.any(axis=1)
    correct = torch.from_numpy(target).gather(1, top)[:, 0].numpy() == 1
    np.testing.assert_array_equal(multi_label.top_is_heard(logits, target)[labelled], correct[labelled])
    masked = np.array([[0, -1, 1]], dtype=np.int8)
    assert multi_label.top_is_heard(np.array([[0.1, 0.9, 0.5]]), masked).all()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.01, 5), st.floats(-3, 3))
def test_rankings_change_by_no_order_of_clips_and_no_monotone_transform(seed, scale, shift):
    logits, target, member = case(seed, n=60)
    order = np.random.default_rng(seed).permutation(60)
    usual = class_rankings(logits, target, member, USUAL)
    ranks = np.unique(logits, return_inverse=True)[1].reshape(logits.shape)
    for other in (
        class_rankings(logits[order], target[order], member[order], USUAL),
        class_rankings(ranks * scale + shift, target, member, USUAL),
    ):
        for name in usual:
            np.testing.assert_allclose(other[name].value, usual[name].value, atol=1e-12)
            np.testing.assert_allclose(other[name].without, usual[name].without, atol=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_every_clip_several_times_changes_nothing(seed, times):
    logits, target, member = case(seed, n=60)
    usual = class_rankings(logits, target, member, USUAL)
    other = class_rankings(*(np.repeat(each, times, axis=0) for each in (logits, target, member)), USUAL)
    for name in usual:
        np.testing.assert_allclose(other[name].value, usual[name].value, atol=1e-12)


def test_perfect_and_useless_scores():
    target = np.zeros((40, 2), dtype=np.int8)
    target[:10] = 1
    member = np.arange(40) % 4
    perfect = class_rankings(target.astype(float), target, member, USUAL)
    assert all((each.value == 1).all() and (each.without == 1).all() for each in perfect.values())
    useless = class_rankings(np.zeros((40, 2)), target, member, USUAL)
    assert (useless["ap"].value == 0.25).all() and (useless["auroc"].value == 0.5).all()
    assert (useless["recall_at_precision"].value == 0).all() and (useless["precision_at_recall"].value == 0.25).all()
