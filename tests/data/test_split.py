import math
from importlib.resources import files

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog
from birdclf.data.splits import STAGES, ColumnSplit, FileSplit, StratifiedSplit
from birdclf.errors import UserError

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
SEEDS = st.integers(0, 2**31)


def catalog(counts: list[int], **columns) -> Catalog:
    species = [f"s{k:02d}" for k, n in enumerate(counts) for _ in range(n)]
    ids = [f"{name}-{i:04d}" for i, name in enumerate(species)]
    return Catalog(pd.DataFrame({"recording_id": ids, "species": species} | columns), FileReader(), "made")


def table_of(made: Catalog, stages: pd.Series) -> pd.DataFrame:
    """Return recordings a species (rows) and stage (columns)."""
    named = made.table.assign(split=made.table.recording_id.map(stages.to_dict()))
    return pd.crosstab(named.species, named.split).reindex(columns=list(STAGES), fill_value=0)


@pytest.fixture(scope="module")
def published() -> Catalog:
    with (files("birdclf.data.sources") / "species_counts.csv").open() as file:
        return catalog(pd.read_csv(file).recordings.tolist())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_published_sizes(published, seed):
    assert len(published) == 11_076 and len(published.classes) == 90
    stages = StratifiedSplit(0.70, 0.15, 0.15, min_recordings=2).assign(published, seed)
    assert len(stages) == 11_075
    assert stages.value_counts().to_dict() == {"train": 7751, "val": 1662, "test": 1662}
    table = table_of(published, stages)
    assert len(table) == 89
    assert (table.test > 0).sum() == 87
    pairs = table[table.sum(axis=1) == 2]
    assert len(pairs) == 2 and pairs.train.tolist() == [2, 2]
    assert (table.train > 100).sum() == 23
    assert table.train.between(20, 100).sum() == 36
    assert (table.train < 20).sum() == 30


def test_min_recordings_1_keeps_singletons_in_train(published):
    stages = StratifiedSplit(min_recordings=1).assign(published, 1)
    assert len(stages) == 11_076
    table = table_of(published, stages)
    assert len(table) == 90
    single = table[table.sum(axis=1) == 1]
    assert len(single) == 1 and single.train.tolist() == [1]


@given(COUNTS, SEEDS)
def test_every_recording_is_in_one_stage(counts, seed):
    made = catalog(counts)
    stages = StratifiedSplit(min_recordings=1).assign(made, seed)
    assert stages.index.is_unique and set(stages.index) == set(made.table.recording_id)
    assert set(stages) <= set(STAGES)


@given(COUNTS, SEEDS, st.integers(1, 5))
def test_species_with_too_few_recordings_are_left_out_whole(counts, seed, least):
    made = catalog(counts)
    if max(counts) < least:
        with pytest.raises(UserError, match="min_recordings"):
            StratifiedSplit(min_recordings=least).assign(made, seed)
        return
    kept = made.table[made.table.recording_id.isin(StratifiedSplit(min_recordings=least).assign(made, seed).index)]
    assert kept.species.value_counts().to_dict() == {f"s{k:02d}": n for k, n in enumerate(counts) if n >= least}


@given(COUNTS, SEEDS, st.floats(0.05, 0.9), st.floats(0.05, 0.95))
def test_every_species_keeps_a_recording_in_train(counts, seed, test, part):
    val = (1 - test) * part
    made = catalog(counts)
    table = table_of(made, StratifiedSplit(1 - test - val, val, test, min_recordings=1).assign(made, seed))
    assert (table.train >= 1).all()


@given(COUNTS, SEEDS)
def test_species_are_shared_out_evenly(counts, seed):
    made = catalog(counts)
    table = table_of(made, StratifiedSplit(0.70, 0.15, 0.15, min_recordings=1).assign(made, seed))
    n = table.sum(axis=1)
    assert ((table.test - 0.15 * n).abs() <= 1).all()
    assert ((table.val - 0.15 / 0.85 * (n - table.test)).abs() <= 1).all()


@given(st.lists(st.integers(4, 40), min_size=1, max_size=12), SEEDS)
def test_sizes_are_those_of_two_stages_rounded_up(counts, seed):
    made = catalog(counts)
    sizes = StratifiedSplit(0.70, 0.15, 0.15).assign(made, seed).value_counts()
    total = sum(counts)
    test = math.ceil(round(0.15 * total, 9))
    assert sizes["test"] == test
    assert sizes["val"] == math.ceil(round(0.15 / 0.85 * (total - test), 9))


@given(COUNTS, SEEDS, st.randoms(use_true_random=False))
def test_a_function_of_ids_and_seed_alone(counts, seed, random):
    made = catalog(counts)
    order = list(range(len(made)))
    random.shuffle(order)
    shuffled = Catalog(made.table.iloc[order].assign(path="elsewhere"), made.reader, "other")
    split = StratifiedSplit(min_recordings=1)
    pd.testing.assert_series_equal(split.assign(made, seed), split.assign(shuffled, seed))


def test_another_seed_is_another_split_of_the_same_sizes():
    made = catalog([40, 30, 20, 10])
    one, two = (StratifiedSplit().assign(made, seed) for seed in (1, 2))
    assert (one != two).any()
    pd.testing.assert_series_equal(one.value_counts(), two.value_counts())


def test_shares_act():
    sizes = StratifiedSplit(0.5, 0.2, 0.3).assign(catalog([50, 50]), 1).value_counts()
    assert sizes.to_dict() == {"train": 50, "test": 30, "val": 20}


@pytest.mark.parametrize(
    "shares",
    [
        (0.7, 0.15, 0.1),
        (0.7, 0.2, 0.15),
        (0.8, 0.2, 0.0),
        (1.2, -0.1, -0.1),
        (0.7, math.nan, 0.15),
        (0.7, 0.15, math.nan),
        (math.nan, 0.15, 0.15),
    ],
)
def test_shares_that_are_not_a_whole_are_refused(shares):
    with pytest.raises(UserError, match=r"split\.train, split\.val and split\.test"):
        StratifiedSplit(*shares)


def test_min_recordings_below_1_is_refused():
    with pytest.raises(UserError, match=r"split\.min_recordings is 0"):
        StratifiedSplit(min_recordings=0)


def split_file(tmp_path, text: str) -> str:
    (tmp_path / "split.csv").write_text(text)
    return str(tmp_path / "split.csv")


def test_a_split_file_gives_back_the_split_of_another_run(tmp_path):
    made = catalog([20, 10, 5])
    stages = StratifiedSplit().assign(made, 7)
    table = made.table.assign(split=made.table.recording_id.map(stages.to_dict()))
    path = split_file(tmp_path, table[["recording_id", "species", "split"]].to_csv(index=False))
    for seed in (1, 2):
        assert FileSplit(path).assign(made, seed).to_dict() == stages.to_dict()


def test_a_split_file_may_leave_recordings_out(tmp_path):
    path = split_file(tmp_path, "recording_id,split\ns00-0002,test\ns00-0000,train\n")
    assert FileSplit(path).assign(catalog([4]), 1).to_dict() == {"s00-0000": "train", "s00-0002": "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording_id\na\n", r"lacks the column\(s\) split"),
        ("recording_id,split\na,training\n", "'training' in one row"),
        ("recording_id,split\na,train\nb,\n", "must be train, val or test"),
        ("recording_id,split\na,train\na,test\n", "'a' occurs more than once"),
        ("", "cannot be read"),
    ],
)
def test_a_wrong_split_file_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        FileSplit(split_file(tmp_path, text))


def test_a_missing_split_file_is_named():
    with pytest.raises(UserError, match=r"split\.path=gone\.csv does not exist"):
        FileSplit("gone.csv")


def test_a_column_splits(tmp_path):
    made = catalog([4], split=["train", "val", None, "test"], fold=["test", "train", "train", "val"])
    assert ColumnSplit().assign(made, 1).to_dict() == {"s00-0000": "train", "s00-0001": "val", "s00-0003": "test"}
    assert ColumnSplit("fold").assign(made, 1).tolist() == ["test", "train", "train", "val"]
    assert ColumnSplit().assign(catalog([2], split=["", "val"]), 1).to_dict() == {"s00-0001": "val"}


def test_a_wrong_column_is_refused():
    with pytest.raises(UserError, match="made has no column 'split'"):
        ColumnSplit().assign(catalog([2]), 1)
    with pytest.raises(UserError, match="column 'split': split is 'dev' in one row"):
        ColumnSplit().assign(catalog([2], split=["train", "dev"]), 1)
