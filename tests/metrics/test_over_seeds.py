import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from birdclf.metrics.over_seeds import MOST_SEEDS, SCALE, Influence, OverSeeds, Sampling, sampling

FIGURES = st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=8)
CHOICE = st.builds(Sampling, st.floats(1e-5, 0.01), st.floats(0, 0.005), st.floats(3, 1000))


def over(values, own=0.03**2, common=0.0, freedom=100.0) -> OverSeeds:
    return OverSeeds(np.asarray(values), Sampling(own, common, freedom))


def test_two_seeds_that_differ_by_the_same_are_no_certainty():
    """The paired t-test said +11.2 points [+11.2, +11.2], p < 0.001."""
    found = over([0.112, 0.112], own=0.05**2)
    low, high = found.interval()
    assert low < 0.04 < 0.18 < high and found.p_value() > 0.005


@given(FIGURES, CHOICE, st.floats(0.5, 0.99))
def test_no_interval_is_narrower_than_the_test_recordings_allow(values, choice, confidence):
    found = OverSeeds(np.array(values), choice)
    least = stats.norm.ppf(0.5 + confidence / 2) * np.sqrt(choice.common + choice.own / len(values))
    low, high = found.interval(confidence)
    assert low < found.value < high and (high - low) / 2 >= least * (1 - 1e-6)


@given(FIGURES, CHOICE)
def test_the_interval_is_of_all_values_that_are_not_rejected(values, choice):
    found = OverSeeds(np.array(values), choice)
    for end in found.interval(0.9):
        assert found.p_value(end) == pytest.approx(0.1, rel=1e-3)


def test_the_mixture_is_the_integral_over_the_prior():
    values, own = np.array([0.02, 0.09, 0.05]), 0.02**2

    def joint(tau: float) -> float:
        return float(stats.halfcauchy.pdf(tau, scale=SCALE) * np.prod(stats.norm.pdf(values, m, np.sqrt(own + tau**2))))

    m, total, beyond = values.mean(), 0.0, 0.0
    # The mean is integrated out under a flat prior, which multiplies the likelihood by the root of the variance.
    scale = lambda tau: np.sqrt((own + tau**2) / 3)  # noqa: E731
    total, _ = integrate.quad(lambda tau: joint(tau) * scale(tau), 0, 1, limit=400, points=[0.01, 0.05])
    beyond, _ = integrate.quad(
        lambda tau: joint(tau) * scale(tau) * 2 * stats.norm.sf(m / scale(tau)), 0, 1, limit=400, points=[0.01, 0.05]
    )
    assert over(values, own, freedom=1e7).p_value() == pytest.approx(beyond / total, rel=0.01)


def test_with_many_seeds_the_interval_is_students():
    values = np.random.default_rng(0).normal(0.1, 0.05, 40)
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert over(values, own=0.01**2, freedom=1e6).interval() == pytest.approx((low, high), abs=0.0015)


def test_one_seed_is_judged_by_its_test_recordings_alone():
    half = stats.t.ppf(0.975, 100) * 0.03
    assert over([0.1]).interval() == pytest.approx((0.1 - half, 0.1 + half))


def test_more_spread_and_fewer_seeds_are_less_certain():
    widths = [over(values).half_width() for values in ([0.1] * 5, [0.1, 0.1], [0.05, 0.15], [0.0, 0.2])]
    assert widths == sorted(widths) and over([0.0, 0.2]).p_value() > over([0.1, 0.1]).p_value()


def test_the_jackknife_of_one_split_and_of_several():
    rng = np.random.default_rng(0)
    names, loss = np.arange(100), rng.normal(0, 0.01, (3, 100))
    apart = sampling([Influence(names + 100 * k, loss[k]) for k in range(3)])
    assert apart.own == pytest.approx((loss**2).sum() / 3 * 100 / 99) and apart.common == 0
    same = sampling([Influence(names, loss[0])] * 3)
    assert same.common == pytest.approx((loss[0] ** 2).sum() * 100 / 99) and same.own == pytest.approx(0, abs=1e-12)
    mean = sampling([Influence(names, each) for each in loss])
    of_mean = (loss.sum(axis=0) ** 2).sum() / 9 * 100 / 99
    assert mean.common + mean.own / 3 == pytest.approx(max(of_mean, mean.own / 3))
    assert sampling([Influence(names, np.ones(100))]).freedom == pytest.approx(298)


def test_a_forecast_takes_no_luck_for_shared_recordings():
    """Three seeds share a few recordings, whose errors agree by chance in half of all pilots."""
    rng = np.random.default_rng(3)
    lost = [Influence(rng.permutation(1000)[:150], rng.normal(0, 0.03 / 150**0.5, 150)) for _ in range(3)]
    apart, lucky = sampling(lost), sampling(lost)._replace(common=1e-4, doubt=1e-4)
    assert apart.doubt == pytest.approx(0.03**2 * (67 / 3) ** 0.5 / 150, rel=0.5)  # 67 shared by two of the three
    assert OverSeeds(np.array([0.0, 0.02, 0.01]), lucky).seeds_needed(0.02) < MOST_SEEDS
    sure = lucky._replace(doubt=0.0)
    assert OverSeeds(np.array([0.0, 0.02, 0.01]), sure).seeds_needed(0.02) is None


def test_one_cluster_says_nothing():
    found = OverSeeds.of([0.1, 0.1], [Influence(np.array(["a"]), np.array([0.1]))] * 2)
    assert found.p_value() == 1 and np.isinf(found.half_width())


def test_equal_runs_have_no_difference():
    found = OverSeeds.of([0.0, 0.0], [Influence(np.arange(9), np.zeros(9))] * 2)
    assert found.p_value() == 1 and found.interval()[1] > 0


def test_what_can_be_seen_is_seen_eight_times_in_ten():
    """By simulation with the spread that the forecast supposes."""
    rng, own = np.random.default_rng(1), 0.03**2
    pilot = over(np.array([-0.02, 0.0, 0.02]) * np.sqrt((own + 0.02**2) / 0.02**2), own)
    seeds = pilot.seeds_needed(0.03)
    assert seeds and pilot.detectable(seeds=seeds) <= 0.03 < pilot.detectable(seeds=seeds - 1)
    seen = [over(rng.normal(0.03, np.sqrt(own + 0.02**2), seeds), own).p_value() < 0.05 for _ in range(400)]
    assert 0.74 < np.mean(seen) < 0.9


def test_a_stricter_level_takes_more_seeds_and_few_recordings_never_do():
    pilot = over([0.01, 0.02, 0.0])
    assert pilot.seeds_needed(0.02, level=0.01) > pilot.seeds_needed(0.02)
    assert over([0.01, 0.02, 0.0], common=0.02**2).seeds_needed(0.02) is None
    assert over([0.1]).seeds_needed(0.0001) is None and MOST_SEEDS == 200
