import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.errors import UserError
from birdclf.metrics.figures import Evaluation


def test_buckets_at_their_borders():
    train = np.array([0, 19, 20, 100, 101, 1000])
    found = {name: np.flatnonzero(members).tolist() for name, members in Evaluation().buckets(train).items()}
    assert found == {"many": [4, 5], "medium": [2, 3], "few": [0, 1]}


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(0, 100), st.integers(0, 100))
def test_every_class_is_in_one_bucket(train, few, more):
    buckets = Evaluation(many=few + more, few=few).buckets(np.array(train))
    assert (sum(members.astype(int) for members in buckets.values()) == 1).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("few", -1),
        ("many", 19),
        ("draws", 99),
        ("bins", 0),
        ("confidence", 0.0),
        ("confidence", 1.0),
        ("margin", -0.01),
        ("margin", 1),
        ("threshold", 0),
        ("threshold", 1.5),
        ("precision", 0.0),
        ("recall", 2),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(key, value):
    with pytest.raises(UserError, match=rf"evaluation\.{key} is {value}"):
        Evaluation(**{key: value})
