import math

import pytest

from birdclf.errors import UserError
from birdclf.metrics.criteria import Criteria

ABOVE = {"metric": "test/accuracy", "above": 0.4}


@pytest.mark.parametrize(
    ("entry", "low", "high", "verdict"),
    [
        (ABOVE, 0.41, 0.5, "met"),
        (ABOVE, 0.3, 0.39, "not met"),
        (ABOVE, 0.39, 0.41, "undecided"),
        (ABOVE, math.nan, math.nan, "undecided"),
        ({"metric": "accuracy", "spread_below": 0.02}, 0.005, 0.015, "met"),
        ({"metric": "accuracy", "spread_below": 0.02}, 0.03, 0.1, "not met"),
        ({"metric": "accuracy", "spread_below": 0.02}, 0.01, 0.1, "undecided"),
        ({"metric": "accuracy", "beats": "phase2a"}, 0.01, 0.1, "met"),
        ({"metric": "accuracy", "beats": "phase2a"}, -0.1, -0.01, "not met"),
        ({"metric": "accuracy", "beats": "phase2a"}, -0.01, 0.1, "undecided"),
    ],
)
def test_verdicts(entry, low, high, verdict):
    (criterion,) = Criteria([entry]).goals
    assert criterion.judge(low, high) == verdict


def test_names():
    goals = Criteria([ABOVE, {**ABOVE, "name": "accurate"}, {"metric": "accuracy", "beats": "phase2a"}]).goals
    assert [goal.name for goal in goals] == ["test/accuracy above 0.4", "accurate", "accuracy beats phase2a"]


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ([], "criteria is"),
        ({"aims": []}, "criteria is"),
        ({"goals": {"metric": "accuracy"}}, "criteria.goals is"),
        ({"goals": ["accuracy"]}, r"criteria.goals\[0\]"),
        ({"goals": [ABOVE, {"above": 1}]}, r"criteria.goals\[1\].*metric"),
        ({"stretch": [{"metric": "accuracy"}]}, r"criteria.stretch\[0\] has no condition"),
        ({"goals": [{**ABOVE, "beats": "x"}]}, "above and beats"),
        ({"goals": [{**ABOVE, "below": 1}]}, "below is unknown"),
        ({"goals": [{**ABOVE, "above": True}]}, "must be a number"),
        ({"goals": [{**ABOVE, "above": math.nan}]}, "must be a number"),
        ({"goals": [{"metric": "accuracy", "beats": 2}]}, "name of an experiment"),
    ],
)
def test_what_is_refused(node, said):
    with pytest.raises(UserError, match=said):
        Criteria.of(node)


def test_none_is_no_criteria():
    assert Criteria.of(None).goals == Criteria.of({"goals": None}).stretch == ()


def test_a_composed_configuration_names_its_class():
    node = {"_target_": "birdclf.metrics.criteria.Criteria", "goals": [{"metric": "accuracy", "above": 0.4}]}
    assert [goal.name for goal in Criteria.of(node).goals] == ["accuracy above 0.4"]
