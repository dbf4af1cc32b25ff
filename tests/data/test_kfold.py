import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog
from birdclf.data.splits import KFoldSplit
from birdclf.errors import UserError

SEEDS = st.integers(0, 2**31)
ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), min_size=1, max_size=80)
FOLDS = st.integers(3, 6)


def catalog(made: list[tuple[int, int]]) -> Catalog:
    """Return a catalog of the species and group (0: none) of each recording."""
    table = pd.DataFrame(
        {
            "recording_id": [f"r{i:03d}" for i in range(len(made))],
            "species": [f"s{s}" for s, _ in made],
            "group": [f"g{g}" if g else "" for _, g in made],
        }
    )
    return Catalog(table, FileReader(), "made")


def every_fold(made: Catalog, seed: int, folds: int, repeats: int = 1, **arguments) -> list[pd.DataFrame]:
    """Return the recordings as each fold splits them; none where the catalog is too small."""
    try:
        assigned = [KFoldSplit(folds, fold, repeats, **arguments).assign(made, seed) for fold in range(folds * repeats)]
    except UserError as error:
        assert "cannot fill" in str(error) or "no species" in str(error)
        return []
    owner = made.table.group.where(made.table.group != "", made.table.recording_id + " alone")
    tables = [made.table.assign(owner=owner, split=made.table.recording_id.map(one.to_dict())) for one in assigned]
    return [table[table.split.notna()] for table in tables]


@given(ROWS, SEEDS, FOLDS, st.booleans())
def test_the_test_folds_partition_the_recordings(made, seed, folds, grouped):
    tables = every_fold(catalog(made), seed, folds, grouped=grouped)
    if tables:
        tested = [name for table in tables for name in table.recording_id[table.split == "test"]]
        assert len(tested) == len(set(tested))
        assert all(set(table.recording_id) == set(tested) for table in tables)


@given(ROWS, SEEDS, FOLDS, st.booleans())
def test_every_class_has_train_recordings_in_every_fold(made, seed, folds, grouped):
    for table in every_fold(catalog(made), seed, folds, grouped=grouped):
        assert (table.split == "train").groupby(table.species).any().all()


@given(ROWS, SEEDS, FOLDS)
def test_no_group_is_in_two_splits(made, seed, folds):
    for table in every_fold(catalog(made), seed, folds, grouped=True):
        assert (table.groupby("owner").split.nunique() == 1).all()


@given(ROWS, SEEDS, FOLDS)
def test_folds_and_classes_are_even(made, seed, folds):
    tables = every_fold(catalog(made), seed, folds)
    if tables:
        sizes = [(table.split == "test").sum() for table in tables]
        assert max(sizes) - min(sizes) <= 1
        counts = pd.DataFrame([table.species[table.split == "test"].value_counts() for table in tables]).fillna(0)
        assert (counts.max() - counts.min() <= 1).all()


@given(ROWS, SEEDS, st.booleans(), st.randoms(use_true_random=False))
def test_the_seed_and_not_the_order_of_rows_decides(made, seed, grouped, shuffle):
    whole = catalog(made)
    order = list(range(len(made)))
    shuffle.shuffle(order)
    shuffled = Catalog(whole.table.iloc[order], FileReader(), "made")
    for one, two in zip(
        every_fold(whole, seed, 3, grouped=grouped), every_fold(shuffled, seed, 3, grouped=grouped), strict=True
    ):
        assert one.set_index("recording_id").split.to_dict() == two.set_index("recording_id").split.to_dict()


@pytest.mark.parametrize("grouped", [False, True])
def test_validation_is_the_next_fold(grouped):
    made = catalog([(i % 2, 1 + i // 2) for i in range(60)])
    tables = every_fold(made, 1, 5, grouped=grouped)
    tested, validated = ([set(t.recording_id[t.split == stage]) for t in tables] for stage in ("test", "val"))
    assert validated == tested[1:] + tested[:1]
    assert [len(names) for names in tested] == [12] * 5


@pytest.mark.parametrize("grouped", [False, True])
def test_repeats_are_other_partitions(grouped):
    made = catalog([(i % 2, 1 + i // 2) for i in range(60)])
    tables = every_fold(made, 1, 5, repeats=2, grouped=grouped)
    tested = [frozenset(t.recording_id[t.split == "test"]) for t in tables]
    assert len(tested) == 10 and set(tested[:5]).isdisjoint(tested[5:])
    assert frozenset.union(*tested[:5]) == frozenset.union(*tested[5:]) == set(made.table.recording_id)
    once = every_fold(made, 1, 5, grouped=grouped)
    assert [frozenset(t.recording_id[t.split == "test"]) for t in once] == tested[:5]


def test_a_species_in_one_group_is_left_out_of_every_grouped_fold():
    made = catalog([(0, 1)] * 4 + [(1, g) for g in range(1, 7)])
    assert all(set(table.species) == {"s1"} for table in every_fold(made, 1, 3, grouped=True))
    assert all(set(table.species) == {"s0", "s1"} for table in every_fold(made, 1, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 2}, r"split\.folds is 2; it must be 3 or more"),
        ({"fold": 5}, r"split\.fold is 5; .*it must be 0 to 4\. Raise split\.repeats"),
        ({"fold": -1}, r"split\.fold is -1; .*0 to 4"),
        ({"fold": 10, "repeats": 2}, r"split\.fold is 10; .*0 to 9"),
        ({"repeats": 0}, r"split\.repeats is 0; it must be 1 or more"),
        ({"min_recordings": 1}, r"split\.min_recordings is 1; .*2 or more"),
    ],
)
def test_a_setting_out_of_range_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        KFoldSplit(**arguments)


def test_a_catalog_that_cannot_fill_the_folds_is_refused():
    with pytest.raises(UserError, match=r"4 recordings .* cannot fill split\.folds=5\. Lower split\.folds"):
        KFoldSplit().assign(catalog([(0, 1)] * 4), 1)
    with pytest.raises(UserError, match=r"2 groups .* cannot fill split\.folds=5"):
        KFoldSplit(grouped=True).assign(catalog([(0, 1), (0, 2)] * 4), 1)
    with pytest.raises(UserError, match=r"no species is in 2 groups or more.*split\.grouped=false"):
        KFoldSplit(grouped=True).assign(catalog([(0, 1)] * 4 + [(1, 2)] * 3), 1)
