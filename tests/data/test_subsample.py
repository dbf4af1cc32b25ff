"""Train splits of which a part is kept: nested, by species, and nothing else changes."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.data.splits import ColumnSplit, StratifiedSplit
from birdclf.errors import UserError

COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=12)
FRACTIONS = st.floats(0.01, 1.0)
SEEDS = st.integers(0, 2**31)


def table(counts: list[int], held_out: int = 2) -> pd.DataFrame:
    """Return so many train recordings of each species, and some of val and test."""
    rows = [
        (f"s{k:02d}-{stage}{i:03d}", f"s{k:02d}", stage)
        for k, n in enumerate(counts)
        for stage, size in (("train", n), ("val", held_out), ("test", held_out))
        for i in range(size)
    ]
    return pd.DataFrame(rows, columns=["recording_id", "species", "split"])


def kept(counts: list[int], seed: int = 1, **training) -> pd.DataFrame:
    whole = table(counts)
    return whole[StratifiedSplit(**training).subsample(whole, seed)[0]]


def ids(rows: pd.DataFrame, stage: str = "train") -> set[str]:
    return set(rows.recording_id[rows.split == stage])


@given(COUNTS, FRACTIONS, FRACTIONS, SEEDS)
def test_a_smaller_fraction_keeps_a_subset_and_no_stage_but_train_changes(counts, one, other, seed):
    small, large = (kept(counts, seed, train_fraction=f) for f in sorted((one, other)))
    assert ids(small) <= ids(large)
    for stage in ("val", "test"):
        assert ids(small, stage) == ids(table(counts), stage)


@given(COUNTS, st.integers(1, 30), SEEDS)
def test_fewer_per_species_are_a_subset_and_as_many_as_there_are(counts, most, seed):
    small, large = (kept(counts, seed, train_per_species=n) for n in (most, most + 1))
    assert ids(small) <= ids(large)
    found = small[small.split == "train"].species.value_counts().sort_index()
    assert found.tolist() == [min(n, most) for n in counts]


@given(COUNTS, FRACTIONS, SEEDS)
def test_each_species_keeps_its_share_and_all_together_too(counts, fraction, seed):
    rows = kept(counts, seed, train_fraction=fraction)
    found = rows[rows.split == "train"].species.value_counts().sort_index()
    assert all(abs(n - max(1, fraction * count)) <= 1 for n, count in zip(found, counts, strict=True))
    rich = kept([n + 100 for n in counts], seed, train_fraction=fraction)  # none has to be given one
    assert abs(len(ids(rich)) - fraction * sum(n + 100 for n in counts)) <= max(1, len(counts) / 2)


@given(COUNTS, SEEDS)
def test_the_whole_fraction_keeps_all(counts, seed):
    assert len(kept(counts, seed, train_fraction=1.0)) == len(table(counts))


def test_both_act_together():
    rows = kept([40, 8, 2], train_fraction=0.5, train_per_species=10)
    assert rows[rows.split == "train"].species.value_counts().sort_index().tolist() == [10, 4, 1]
    assert ids(rows) <= ids(kept([40, 8, 2], train_fraction=0.5)) & ids(kept([40, 8, 2], train_per_species=10))


def test_species_that_a_fraction_would_empty_keep_one_and_are_named():
    rows, none = StratifiedSplit(train_fraction=0.01).subsample(whole := table([100, 3, 1]), 1)
    assert whole[rows & (whole.split == "train")].species.value_counts().to_dict() == {"s00": 1, "s01": 1, "s02": 1}
    assert {"s01", "s02"} <= set(none)
    assert StratifiedSplit(train_fraction=0.5).subsample(table([100, 30, 10]), 1)[1] == []


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    whole = table([30, 20])
    split = StratifiedSplit(train_fraction=0.3)
    shuffled = whole.sample(frac=1, random_state=0)
    assert ids(whole[split.subsample(whole, 1)[0]]) == ids(shuffled[split.subsample(shuffled, 1)[0]])
    assert ids(whole[split.subsample(whole, 1)[0]]) != ids(whole[split.subsample(whole, 2)[0]])


@pytest.mark.parametrize(
    "training",
    [
        {"train_fraction": 0},
        {"train_fraction": -1},
        {"train_fraction": 2},
        {"train_fraction": float("nan")},
        {"train_per_species": 0},
        {"train_per_species": 1.5},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_values_out_of_range_are_refused_by_key(training):
    with pytest.raises(UserError, match=f"split.{next(iter(training))} is"):
        StratifiedSplit(**training)


def test_a_seed_is_refused_where_nothing_is_drawn():
    with pytest.raises(UserError, match="nothing is drawn"):
        ColumnSplit(seed=1)
    assert ColumnSplit(seed=1, train_fraction=0.5).seed == 1
