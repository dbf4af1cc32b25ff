import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.clip import Clip
from birdclf.audio.files import FileReader
from birdclf.data.catalog import COLUMNS, Catalog
from birdclf.errors import UserError


def catalog(**columns) -> Catalog:
    rows = {"recording_id": ["c", "a", "b"], "species": ["wren", "robin", "wren"]} | columns
    return Catalog(pd.DataFrame(rows), FileReader(), "made")


def test_the_table_is_sorted_and_complete():
    made = catalog(group=["x", "y", ""], colour=[1, 2, 3])
    assert list(made.table.recording_id) == ["a", "b", "c"]
    assert list(made.table.species) == ["robin", "wren", "wren"]
    assert list(made.table.group) == ["y", "", "x"]
    assert list(made.table.colour) == [2, 3, 1]  # what the source adds is carried along
    assert set(COLUMNS) <= set(made.table.columns)
    assert list(made.table.index) == [0, 1, 2]
    assert (made.table.start_s == 0).all() and (made.table.end_s == float("inf")).all()


def test_classes_and_counts_are_in_one_order():
    made = catalog()
    assert made.classes == ("robin", "wren")
    assert made.class_counts.to_dict() == {"robin": 1, "wren": 2}
    assert tuple(made.class_counts.index) == made.classes
    assert len(made) == 3


def test_numbers_become_names():
    made = catalog(species=[10, 9, 10])
    assert made.classes == ("10", "9")


def test_clips_follow_the_table():
    made = catalog(path=["c.wav", "a.wav", "b.wav"], start_s=[0.0, 1.0, 0.0], end_s=[3.0, 2.0, float("inf")])
    assert made.clips() == [
        Clip("a", "a.wav", 1.0, 2.0),
        Clip("b", "b.wav", 0.0, float("inf")),
        Clip("c", "c.wav", 0.0, 3.0),
    ]


def test_the_given_table_is_kept():
    given_table = pd.DataFrame({"recording_id": ["b", "a"], "species": ["x", "y"]})
    Catalog(given_table, FileReader(), "made")
    assert list(given_table.columns) == ["recording_id", "species"]
    assert list(given_table.recording_id) == ["b", "a"]


def test_subset_keeps_the_order():
    made = catalog()
    part = made.subset(made.table.species == "wren")
    assert list(part.table.recording_id) == ["b", "c"]
    assert part.classes == ("wren",)


@pytest.mark.parametrize("column", ["recording_id", "species"])
def test_a_missing_column_is_named(column):
    rows = {"recording_id": ["a"], "species": ["x"]}
    del rows[column]
    with pytest.raises(UserError, match=f"made: .*{column}"):
        Catalog(pd.DataFrame(rows), FileReader(), "made")


def test_duplicates_are_refused_with_the_id():
    with pytest.raises(UserError, match="'a' occurs more than once"):
        catalog(recording_id=["a", "b", "a"])


def test_no_recording_is_refused():
    with pytest.raises(UserError, match="no recording"):
        Catalog(pd.DataFrame({"recording_id": [], "species": []}), FileReader(), "made")


@given(st.permutations(range(6)))
def test_the_hash_does_not_depend_on_the_order_of_rows(order):
    table = pd.DataFrame({"recording_id": list("abcdef"), "species": list("xxyyzz"), "path": list("ABCDEF")})
    plain = Catalog(table, FileReader(), "made").content_hash
    assert Catalog(table.iloc[order], FileReader(), "made").content_hash == plain


@pytest.mark.parametrize(
    "change",
    [
        {"recording_id": ["c", "a", "B"]},
        {"path": ["", "x", ""]},
        {"start_s": [0.0, 0.0, 0.5]},
        {"end_s": [float("inf"), 9.0, float("inf")]},
        {"stamp": ["", "", "1"]},
    ],
)
def test_the_hash_changes_with_what_decides_the_sound(change):
    assert catalog(**change).content_hash != catalog().content_hash


def test_the_hash_does_not_change_with_labels():
    assert catalog(species=["p", "q", "r"], group=["1", "2", "3"]).content_hash == catalog().content_hash
