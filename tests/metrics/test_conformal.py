"""Sets of species: coverage by class on exchangeable clips, pools of rare classes, and limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from birdclf.metrics.conformal import class_thresholds


def sample(rng: np.random.Generator, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return softmax scores of clips of each class, better for some classes than for others, and their classes."""
    target = np.repeat(np.arange(len(counts)), counts)
    logits = rng.standard_normal((len(target), len(counts)))
    logits[np.arange(len(target)), target] += np.linspace(0, 3, len(counts))[target]
    p = np.exp(logits)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32), target


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.8, 0.9, 0.95]), st.booleans())
@settings(max_examples=15, deadline=None)
def test_each_class_is_in_its_sets_as_often_as_stated(seed, coverage, sets):
    """Over 60 calibrations of each class with clips enough; the chance of a miss is below 1e-6 a class."""
    rng = np.random.default_rng(seed)
    counts = np.array([int(np.ceil(1 / (1 - coverage))) - 1, 25, 60])
    held, clips = np.zeros(3), np.zeros(3)
    for _ in range(60):
        p, target = sample(rng, counts)
        found = class_thresholds(p, np.eye(3, dtype=np.int8)[target] if sets else target, coverage)
        assert found.pool == ("own",) * 3 and (found.positives == counts).all()
        new, truth = sample(rng, np.array([1, 1, 1]))  # one clip a calibration, so that all are independent
        held += new[np.arange(3), truth] >= found.threshold
        clips += 1
    assert (held >= binom.ppf(1e-6, clips, coverage)).all()


def test_it_is_the_exact_order_statistic():
    scores = np.linspace(0.1, 0.9, 9)[:, None].repeat(2, axis=1)
    target = np.zeros(9, int)
    assert class_thresholds(scores, target, 0.9).threshold[0] == 0.1  # the lowest of 9
    assert class_thresholds(scores, target, 0.5).threshold[0] == pytest.approx(0.5)  # the fifth
    assert class_thresholds(scores[:8], target[:8], 0.9).pool == ("none", "none")


def test_rare_classes_share_a_threshold_and_a_class_without_clips_has_it_too():
    rng = np.random.default_rng(0)
    p, target = sample(rng, np.array([40, 5, 4, 0]))
    found = class_thresholds(p, target, 0.9)
    assert found.pool == ("own", "rare", "rare", "rare")
    rare = np.concatenate([p[target == k, k] for k in (1, 2)])
    assert (found.threshold[1:] == rare.min()).all()


def test_with_too_few_rare_clips_all_classes_decide_and_with_none_a_class_is_in_every_set():
    rng = np.random.default_rng(1)
    p, target = sample(rng, np.array([40, 3]))
    found = class_thresholds(p, target, 0.9)
    assert found.pool == ("own", "all") and found.threshold[1] > 0
    few = class_thresholds(p[:3], target[:3], 0.9)
    assert few.pool == ("none", "none") and (few.threshold == 0).all()


def test_what_is_not_known_is_no_clip_of_a_class():
    p = np.full((12, 2), 0.5)
    target = np.ones((12, 2), np.int8)
    target[:5, 1] = -1
    assert class_thresholds(p, target, 0.9).positives.tolist() == [12, 7]
