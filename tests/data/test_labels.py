import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.data.labels import class_list, count_classes, targets_of

NAMES = ("finch", "tit", "wren")
TABLE = pd.DataFrame(
    {
        "species": ["tit", "finch", "none"],
        "labels": [("finch", "tit"), ("finch",), ()],
        "masked": [("wren",), ("tit", "finch"), ()],
    },
    index=[7, 3, 5],
)


def test_sets_are_rows_of_ones_zeros_and_unknowns_in_the_order_of_the_table():
    target = targets_of(TABLE, NAMES, "multi_label")
    # a label is known to be heard, even where the mask names it as well
    np.testing.assert_array_equal(target, [[1, 1, -1], [1, -1, 0], [0, 0, 0]])
    assert target.dtype == np.float32
    assert count_classes(target, 3).tolist() == [2, 1, 0]


def test_the_classes_of_sets_are_all_labels_and_of_single_ones_all_species():
    assert class_list(TABLE, "multi_label") == ("finch", "tit")
    assert class_list(TABLE, "single_label") == ("finch", "none", "tit")


def test_one_class_each():
    target = targets_of(TABLE, class_list(TABLE, "single_label"), "single_label")
    assert target.tolist() == [2, 0, 1] and target.dtype == np.int64
    assert count_classes(target, 4).tolist() == [1, 1, 1, 0]


def test_labels_of_no_class_are_left_out():
    assert targets_of(TABLE, ("wren",), "multi_label").tolist() == [[-1], [0], [0]]


@given(st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=20))
def test_a_matrix_holds_the_sets(sets):
    table = pd.DataFrame({"species": "tit", "labels": [tuple(sorted(names)) for names in sets]})
    target = targets_of(table, NAMES, "multi_label")
    assert [{NAMES[k] for k in np.flatnonzero(row)} for row in target] == sets


def test_a_species_that_is_no_class_cannot_be_a_single_target():
    with pytest.raises(KeyError, match="finch"):
        targets_of(TABLE, ("tit",), "single_label")
