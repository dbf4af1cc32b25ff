"""Thresholds for a stated precision: limits, monotony, hand-made cases, and a part of the simulation of evidence.md."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from simulate_thresholds import CLUSTER, PRECISION, World, judge, table

from birdclf.errors import UserError
from birdclf.metrics.thresholds import fit_thresholds


@pytest.fixture(scope="module")
def world():
    return list(World("miscalibrated", 5).sets(1))[0]


def test_a_calibration_that_is_known_is_found_and_the_precision_is_that_of_the_set():
    rng = np.random.default_rng(0)
    x = rng.uniform(-6, 6, (20_000, 2))
    heard = rng.random(x.shape) < expit(np.array([-1.0, 0.5]) + np.array([0.7, 1.4]) * x)
    p = expit(x)
    for k, one in enumerate(fit_thresholds(p, heard.astype(int), np.arange(len(x)), 0.9)):
        assert (one.intercept, one.slope) == pytest.approx(((-1, 0.7), (0.5, 1.4))[k], abs=0.12)
        found = p[:, k] >= one.threshold
        assert found.sum() == one.detections and heard[:, k].sum() == one.positives
        assert heard[found, k].mean() == pytest.approx(0.9, abs=0.01)
        assert one.precision == pytest.approx(0.9, abs=1e-3) and one.low < 0.9 < one.high
        assert one.probability_right(one.threshold) < 0.85, "at the threshold it is lower than above it"
        assert one.probability_right(0.5) == pytest.approx(expit(one.intercept))
        assert one.listen == 0


def test_the_threshold_is_the_lowest_score_from_which_the_estimate_reaches_the_precision(world):
    p, heard = world
    for k, one in enumerate(fit_thresholds(p, heard, CLUSTER, PRECISION)):
        if not one.detections:
            continue
        right = expit(one.intercept + one.slope * logit(np.clip(p[:, k].astype(float), 1e-7, 1 - 1e-7)))
        assert right[p[:, k] >= one.threshold].mean() == pytest.approx(one.precision) and one.precision >= PRECISION
        lower = p[p[:, k] < one.threshold, k].max()
        assert right[p[:, k] >= lower].mean() < PRECISION


def test_a_higher_precision_has_higher_thresholds(world):
    p, heard = world
    low, high = (fit_thresholds(p, heard, CLUSTER, precision) for precision in (0.7, 0.95))
    pairs = [(a.threshold, b.threshold) for a, b in zip(low, high, strict=True) if not np.isnan(b.threshold)]
    assert len(pairs) > 10 and all(a < b for a, b in pairs)


def test_few_positives_draw_a_species_to_the_others_and_many_do_not():
    rng = np.random.default_rng(3)
    x = rng.normal(-3, 3, (4_000, 12))
    intercept = np.where(np.arange(12) < 10, 0.0, 4.0)  # the last two are right far more often
    heard = (rng.random(x.shape) < expit(intercept + x)).astype(int)
    heard[20:, 11] = -1  # but of the last little is known
    fitted = fit_thresholds(expit(x), heard, np.arange(len(x)), 0.9)
    usual = np.mean([one.intercept / one.slope for one in fitted[:10]])
    known, unknown = (fitted[k].intercept / fitted[k].slope for k in (10, 11))
    assert usual < unknown < known and known == pytest.approx(4, abs=0.5)


def test_a_species_never_heard_has_a_threshold_above_those_of_the_others_or_none(world):
    p, heard = world
    without = heard.copy()
    without[:, -1] = 0  # it was heard 500 times, and all its high scores are wrong now
    one = fit_thresholds(p, without, CLUSTER, PRECISION)[-1]
    before = fit_thresholds(p, heard, CLUSTER, PRECISION)[-1]
    assert one.positives == 0 and one.detections == 0
    assert np.isnan(one.threshold) or one.threshold > max(before.threshold, p[:, -1].max())


def test_what_no_score_reaches_is_nan_with_the_highest_precision_reached():
    rng = np.random.default_rng(1)
    heard = (rng.random((2_000, 3)) < 0.3).astype(int)  # scores say nothing
    for one in fit_thresholds(rng.random((2_000, 3)), heard, np.arange(2_000), 0.9):
        assert np.isnan(one.threshold) and one.detections == 0
        assert 0.2 < one.precision < 0.6 and one.low < one.precision < one.high


def test_masked_entries_change_nothing(world):
    p, heard = world
    twice = np.concatenate([p, p[::-1]]), np.concatenate([heard, np.full_like(heard, -1)])
    assert fit_thresholds(*twice, np.concatenate([CLUSTER, CLUSTER + 99]), 0.9) == fit_thresholds(
        p, heard, CLUSTER, 0.9
    )


def test_clips_of_one_cluster_count_for_less():
    rng = np.random.default_rng(2)
    x = rng.normal(-2, 3, (200, 5))
    heard = (rng.random(x.shape) < expit(x)).astype(int)
    copies = 8
    p, again = expit(np.repeat(x, copies, axis=0)), np.repeat(heard, copies, axis=0)
    once = fit_thresholds(expit(x), heard, np.arange(200), 0.9)
    apart = fit_thresholds(p, again, np.arange(200 * copies), 0.9)
    together = fit_thresholds(p, again, np.repeat(np.arange(200), copies), 0.9)
    for a, b, c in zip(once, apart, together, strict=True):
        assert b.high - b.low < 0.7 * (c.high - c.low), "copies are no new evidence"
        assert c.high - c.low == pytest.approx(a.high - a.low, rel=0.35)
        assert c.listen > b.listen


def test_scores_of_exactly_0_and_1_and_ties_are_taken():
    p = np.float32([[1.0], [1.0], [1.0], [0.0], [0.0], [0.5], [0.5], [0.5]] * 20)
    heard = np.array([[1], [1], [1], [0], [0], [0], [1], [0]] * 20)
    (one,) = fit_thresholds(p, heard, np.arange(len(p)), 0.9)
    assert one.threshold == 1.0 and one.detections == 60 and all(np.isfinite(dataclasses.astuple(one)))


def test_no_species_heard_anywhere_is_refused():
    with pytest.raises(UserError, match="None of the 2 species is heard in any of 3 clips"):
        fit_thresholds(np.full((3, 2), 0.5), np.zeros((3, 2), int), np.arange(3), 0.9)


def test_names_and_order_do_not_matter(world):
    p, heard = world
    order = np.random.default_rng(0).permutation(len(p))
    before = fit_thresholds(p, heard, CLUSTER, 0.9)
    after = fit_thresholds(p[order], heard[order], CLUSTER[order].astype(str), 0.9)
    for a, b in zip(before, after, strict=True):
        assert dataclasses.astuple(a) == pytest.approx(dataclasses.astuple(b), rel=1e-3, nan_ok=True)


@pytest.mark.slow
def test_the_promise_is_kept_on_other_soundscapes():
    """A part of the table in docs/evidence.md; bounds leave room for the error of 10 worlds of each kind."""
    found = table(pd.DataFrame([row for kind in ("calibrated", "miscalibrated") for row in judge(kind, 10)]))
    for kind in ("calibrated", "miscalibrated"):
        pooled, own, one = (
            found.loc[(kind, name)] for name in ("partial pooling", "own detections", "one calibration")
        )
        assert abs(pooled.precision - PRECISION) < 0.015 and pooled.broken <= 0.2
        assert pooled.held_species > own.held_species and pooled.held_species > one.held_species + 0.2
        assert pooled.broken_species < min(own.broken_species, 0.13) and pooled.few > own.few
        assert pooled.recall > 0.9 * pooled.ideal and pooled.recall > one.recall + 0.05
