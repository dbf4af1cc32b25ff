import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from birdclf.metrics.comparison import (
    class_differences,
    holm,
    mcnemar,
    paired_bootstrap,
    why_not_comparable,
)
from birdclf.metrics.figures import Evaluation, confusion_matrix, precision_recall_f1, summarise
from birdclf.metrics.predictions import Predictions

QUICK = Evaluation(draws=300)
SEEDS = st.integers(0, 10**6)


def pair(seed: int, skills: tuple[float, float], n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 8, n)
    a, b = (np.where(rng.random(n) < skill, target, rng.integers(0, 8, n)) for skill in skills)
    return target, a, b


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_mcnemar_is_statsmodels(answers):
    a, b = np.array(answers).T
    ours = mcnemar(a, b)
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert (ours.only_a, ours.only_b) == (table[0][1], table[1][0])
    theirs = their_mcnemar(table, exact=True).pvalue if ours.only_a + ours.only_b else 1
    assert ours.p_value == pytest.approx(theirs)


@given(SEEDS, st.sampled_from(["macro_f1", "accuracy", "balanced_accuracy"]))
def test_the_difference_is_that_of_the_figures(seed, statistic):
    target, a, b = pair(seed, (0.6, 0.5))
    ours = paired_bootstrap(target, a, b, np.arange(400), 8, QUICK, statistic)
    one, two = (summarise(confusion_matrix(target, p, 8))[statistic] for p in (a, b))
    assert ours.value == pytest.approx(one - two)
    assert ours.low < ours.value < ours.high and 1 / 301 <= ours.p_value <= 1
    back = paired_bootstrap(target, b, a, np.arange(400), 8, QUICK, statistic)
    assert (back.value, back.low, back.high) == pytest.approx((-ours.value, -ours.high, -ours.low))
    assert back.p_value == pytest.approx(ours.p_value)


def test_the_p_value_of_accuracy_is_mcnemars():
    """Swapping the answers to single clips is the sign test of the clips that only one run got right."""
    target, a, b = pair(3, (0.62, 0.55))
    ours = paired_bootstrap(target, a, b, np.arange(400), 8, Evaluation(draws=20_000), "accuracy")
    assert ours.p_value == pytest.approx(mcnemar(a == target, b == target).p_value, abs=0.015)


def test_the_interval_of_accuracy_is_that_of_paired_proportions():
    target, a, b = pair(4, (0.6, 0.5))
    gap = (a == target).astype(float) - (b == target)
    half = stats.t.ppf(0.975, 399) * gap.std(ddof=1) / 20
    ours = paired_bootstrap(target, a, b, np.arange(400), 8, Evaluation(), "accuracy")
    assert (ours.low, ours.high) == pytest.approx((gap.mean() - half, gap.mean() + half), abs=0.005)


def test_equal_runs_do_not_differ():
    target, a, _ = pair(0, (0.6, 0.6))
    assert paired_bootstrap(target, a, a, np.arange(400), 8, QUICK) == (0, 0, 0, 1)
    table = class_differences(target, a, a, np.arange(400), 8, QUICK)
    assert (table.difference == 0).all() and (table.q_value == 1).all()


def test_right_against_wrong_differs_by_all():
    target, right, _ = pair(0, (1.0, 0.0))
    ours = paired_bootstrap(target, right, (target + 1) % 8, np.arange(400), 8, QUICK)
    assert ours.value == 1 and ours.p_value == pytest.approx(1 / 301)


def test_one_cluster_says_nothing_of_a_difference():
    target, a, b = pair(0, (0.9, 0.3))
    assert paired_bootstrap(target, a, b, np.zeros(400), 8, QUICK)[1:] == (-1, 1, 1)


def test_clusters_make_a_difference_less_certain():
    rng = np.random.default_rng(0)
    target, group = rng.integers(0, 8, 400), np.repeat(np.arange(20), 20)
    a, b = (np.where(np.repeat(rng.random(20) < q, 20), target, (target + 1) % 8) for q in (0.7, 0.4))
    alone, together = (paired_bootstrap(target, a, b, c, 8, QUICK) for c in (np.arange(400), group))
    assert together.high - together.low > 2 * (alone.high - alone.low) and together.p_value > alone.p_value


def test_the_worse_classes_are_found():
    target, a, _ = pair(1, (0.8, 0.8), n=1600)
    b = np.where((target == 2) & (a == 2) & (np.arange(1600) % 4 > 0), 5, a)  # three quarters of class 2 are lost
    table = class_differences(target, a, b, np.arange(1600), 10, Evaluation())
    f1 = [precision_recall_f1(confusion_matrix(target, p, 10))[2] for p in (a, b)]
    assert list(table.columns) == ["class_index", "difference", "low", "high", "p_value", "q_value"]
    assert table.class_index.tolist() == list(range(8))  # 8 and 9 have no clip
    np.testing.assert_allclose(table.difference, (f1[0] - f1[1])[:8])
    assert set(table.class_index[table.q_value < 0.05]) == {2, 5}
    np.testing.assert_allclose(table.q_value, multipletests(table.p_value, method="fdr_bh")[1])


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.5], [0.2], [0.05, 0.05], []])
def test_holm_is_that_of_statsmodels(p):
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]) if p else [])


def predictions(ids: str, target: list[int]) -> Predictions:
    names = np.array(list(ids), dtype=object)
    return Predictions(names, np.array(target), np.zeros((len(ids), 3), dtype=np.float32), names)


@pytest.mark.parametrize(
    ("other", "classes", "words"),
    [
        (predictions("cba", [2, 1, 0]), "xyz", ""),  # another order
        (predictions("abc", [0, 1, 2]), "xyw", "The class lists differ: 3 and 3 species, 2 of them common."),
        (predictions("abc", [0, 1, 2]), "xzy", "The class lists hold the same 3 species in another order."),
        (predictions("abd", [0, 1, 2]), "xyz", "The recordings differ: 3 and 3, 2 of them common."),
        (predictions("abca", [0, 1, 2, 0]), "xyz", "The recordings are the same 3, but not as often: 3 and 4."),
        (predictions("abc", [0, 2, 2]), "xyz", "The species of 1 of 3 recordings differ."),
    ],
)
def test_why_runs_are_not_comparable(other, classes, words):
    assert why_not_comparable(predictions("abc", [0, 1, 2]), other, tuple("xyz"), tuple(classes)) == words
