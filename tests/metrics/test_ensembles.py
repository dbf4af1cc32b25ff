"""Averages of predictions, and weights for them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from birdclf.metrics.ensembles import average_predictions, generalises, greedy_weights
from birdclf.metrics.figures import log_softmax, negative_log_likelihood
from birdclf.metrics.predictions import Predictions


def member(skill: float, seed: int, n: int = 60, classes: int = 4) -> Predictions:
    """Return predictions whose logits lean towards the truth by so much."""
    target = np.random.default_rng(0).integers(0, classes, n)
    logits = np.random.default_rng([1, seed]).normal(size=(n, classes))
    logits[np.arange(n), target] += skill
    ids = np.array([f"r{i}" for i in range(n)], dtype=object)
    return Predictions(ids, target, logits.astype(np.float32), ids)


def nll(predictions: Predictions) -> float:
    return negative_log_likelihood(log_softmax(predictions.logits), predictions.target)


def test_hand_worked_means():
    ids, target = np.array(["a"], dtype=object), np.array([0])
    a, b = (Predictions(ids, target, np.log([[p, 1 - p]]).astype(np.float32), ids) for p in (0.5, 0.9))
    weights = np.array([1.0, 3.0])
    p = softmax(average_predictions([a, b], weights).logits, axis=1)[0, 0]
    assert p == pytest.approx(0.25 * 0.5 + 0.75 * 0.9, rel=1e-6)
    p = softmax(average_predictions([a, b], weights, "logits").logits, axis=1)[0, 0]
    assert p == pytest.approx(9**0.75 / (1 + 9**0.75), rel=1e-6)  # odds 1 and 9, their weighted geometric mean


@given(seeds=st.lists(st.integers(0, 20), min_size=1, max_size=4), how=st.sampled_from(["probabilities", "logits"]))
def test_an_average_is_a_distribution_and_no_worse_than_its_members_on_average(seeds: list[int], how):
    members = [member(1.0, seed) for seed in seeds]
    mean = average_predictions(members, np.ones(len(members)), how)
    assert np.exp(mean.logits.astype(np.float64)).sum(axis=1) == pytest.approx(1, rel=1e-5)
    assert nll(mean) <= np.mean([nll(m) for m in members]) + 1e-6  # Jensen: -log is convex, log-sum-exp is too
    same = average_predictions([members[0]] * 3, np.array([0.2, 1.0, 2.0]), how)
    assert same.logits == pytest.approx(log_softmax(members[0].logits), abs=1e-5)


@given(seeds=st.sets(st.integers(0, 20), min_size=2, max_size=4), how=st.sampled_from(["probabilities", "logits"]))
def test_greedy_weights_are_no_worse_than_any_member_where_they_were_fitted(seeds: set[int], how):
    members = [member(0.5 + 0.3 * i, seed) for i, seed in enumerate(sorted(seeds))]
    weights = greedy_weights(members, how)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert nll(average_predictions(members, weights, how)) <= min(map(nll, members)) + 1e-6


def test_a_member_that_knows_nothing_gets_no_weight():
    good, noise = member(6.0, 1), member(0.0, 2)
    assert greedy_weights([noise, good]).tolist() == [0, 1]
    equal, tuned = generalises([noise, good])
    assert tuned < equal


def test_weights_that_follow_noise_are_detected_by_other_recordings():
    members = [member(1.0, seed, n=12) for seed in range(8)]
    equal, tuned = generalises(members)
    assert equal < tuned
    assert nll(average_predictions(members, greedy_weights(members))) < nll(average_predictions(members, np.ones(8)))


def test_one_group_alone_shows_nothing():
    a = member(1.0, 0)
    together = Predictions(a.recording_id, a.target, a.logits, np.array(["all"] * len(a.target), dtype=object))
    assert np.isnan(generalises([together, together])).all()
