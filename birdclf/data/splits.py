"""Splits of a catalog into train, validation and test recordings."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.checks import above, is_whole, require, whole
from birdclf.data.allocation import allocate, group_codes
from birdclf.data.catalog import PUBLISHED, Catalog
from birdclf.data.tables import read_own
from birdclf.errors import UserError
from birdclf.random import stream

STAGES: Final = ("train", "val", "test")


class Training(TypedDict, total=False):
    """Arguments that every split accepts."""

    seed: int | None
    train_fraction: float
    train_per_species: int | None


class Split(ABC):
    """Assigns recordings to train, val or test, and may keep a part of the train recordings alone.

    Args:
        seed: Of all draws, 0 to 2**32 - 1; None takes the run's.
        train_fraction: Share of each species' train recordings that is kept, above 0 and at most 1.
        train_per_species: Most train recordings of a species that are kept, of those that the share leaves; None for
            all.

    Raises:
        UserError: If a value is out of range, or there is a seed where nothing is drawn.
    """

    draws: ClassVar[bool] = True
    """Whether the seed decides the stages."""

    def __init__(
        self, seed: int | None = None, train_fraction: float = 1.0, train_per_species: int | None = None
    ) -> None:
        self.seed = None if seed is None else whole("split.seed", seed, 0, 2**32 - 1)
        self.train_fraction = above("split.train_fraction", train_fraction, 0, 1)
        self.train_per_species = train_per_species
        if train_per_species is not None:
            whole("split.train_per_species", train_per_species, 1)
        self.subsamples = train_fraction < 1 or train_per_species is not None
        if seed is not None and not (self.draws or self.subsamples):
            raise UserError(
                f"split.seed is {seed}, but a file or a column decides this split and nothing is drawn. Leave "
                f"split.seed out; seed alone varies the training."
            )

    def stages_of(self, catalog: Catalog, seed: int) -> "pd.Series[str]":
        """Return :meth:`assign`, where a drawn split leaves the published test recordings of a source for test.

        They are those with ``test`` in the catalog's column ``published_split``. What would be drawn for test is then
        in train.
        """
        published = catalog.table.get(PUBLISHED)
        if published is None or not self.draws:
            return self.assign(catalog, seed)
        test = published == "test"
        drawn = self.assign(catalog.subset(~test), seed).replace("test", "train")
        ids = catalog.table.recording_id[test]
        return pd.concat([drawn, _by_id(ids, np.full(len(ids), "test", dtype=object))]).sort_index()

    @abstractmethod
    def assign(self, catalog: Catalog, seed: int) -> "pd.Series[str]":
        """Return the stage of each recording, indexed by ``recording_id``; recordings left out are absent."""

    def subsample(self, table: pd.DataFrame, seed: int) -> "tuple[pd.Series[bool], list[str]]":
        """Return which rows are kept, and the species of which the share alone would keep no train recording.

        Each species has one random order of its train recordings, of which the first are kept: a smaller share or
        number keeps a subset of a larger one. Numbers are rounded so that all species together keep the share, but a
        species keeps one recording at least: all points of a learning curve then have the same classes, which a long
        tail would not allow otherwise. Recordings are drawn, not groups: validation and test stay as they are, so that
        no group can come into two stages.

        Args:
            table: ``recording_id``, ``species`` and ``split`` of the recordings that the split keeps.
            seed: Of the draw.
        """
        draw = stream(seed, "train subsample")
        train = table[table.split == "train"].sort_values("recording_id")
        train = train.iloc[draw.permutation(len(train))]
        place, n = train.groupby("species").cumcount(), train.species.value_counts().sort_index()
        rounding = (draw.permutation(len(n)) + 0.5) / len(n)
        quota = pd.Series(np.ceil(self.train_fraction * n - rounding), index=n.index)
        none = [str(name) for name in n.index[quota < 1]]
        kept = quota.clip(lower=1, upper=self.train_per_species)
        gone = place.index[place >= train.species.map(kept)]
        return pd.Series(~table.index.isin(gone), index=table.index), none


class DrawnSplit(Split):
    """A split whose shares are drawn.

    Raises:
        UserError: If the shares are not positive or do not sum to 1, or ``min_recordings`` is below 1.
    """

    def __init__(
        self,
        train: float = 0.70,
        val: float = 0.15,
        test: float = 0.15,
        min_recordings: int = 2,
        **training: Unpack[Training],
    ) -> None:
        super().__init__(**training)
        check_shares(train, val, test, min_recordings)
        self.shares, self.min_recordings = (train, val, test), min_recordings


class StratifiedSplit(DrawnSplit):
    """Splits each species by recording: first the test split, then validation from the rest.

    Each stage has as many recordings as in the study's two-stage split (rounded up), distributed over the species by
    largest remainder with ties drawn by the seed. A species always keeps a recording in train.

    Args:
        min_recordings: Species with fewer recordings are left out; with 1, single recordings stay in train.

    Raises:
        UserError: If the shares are not positive or do not sum to 1, or ``min_recordings`` is below 1.
    """

    def assign(self, catalog: Catalog, seed: int) -> "pd.Series[str]":
        """Return the stage of each kept recording, indexed by ``recording_id``, a function of ids and seed alone.

        Raises:
            UserError: If no species has enough recordings.
        """
        order, (_, val_share, test_share) = stream(seed, "split"), self.shares
        ids = {
            str(species): order.permutation(np.sort(rows.to_numpy(dtype=object)))
            for species, rows in enough(catalog, self.min_recordings).groupby("species").recording_id
        }
        counts = {species: len(names) for species, names in ids.items()}
        test = _shares(counts, test_share, order)
        rest = {species: counts[species] - test[species] for species in counts}
        val = _shares(rest, val_share / (1 - test_share), order)
        stages: dict[str, str] = {}
        for species, names in ids.items():
            borders = np.cumsum([test[species], val[species]])
            for stage, part in zip(("test", "val", "train"), np.split(names, borders), strict=True):
                stages.update(dict.fromkeys(part, stage))
        return pd.Series(stages, name="split", dtype=str).sort_index()


def check_shares(train: float, val: float, test: float, min_recordings: int) -> None:
    """Refuse shares that do not make a split."""
    if not (min(train, val, test) > 0 and abs(train + val + test - 1) <= 1e-6):  # refuses NaN as well
        raise UserError(
            f"split.train, split.val and split.test are {train:g}, {val:g} and {test:g}, which sum to "
            f"{train + val + test:g}; each must be above 0 and together they must be 1, such as 0.7, 0.15, 0.15."
        )
    fits = is_whole(min_recordings) and min_recordings >= 1
    require(fits, "split.min_recordings", min_recordings, "1 or more (2 drops singletons)")


def enough(catalog: Catalog, min_recordings: int) -> pd.DataFrame:
    """Return the rows of the species with ``min_recordings`` or more, in the order of ``recording_id``.

    Raises:
        UserError: If there is no such species.
    """
    counts = catalog.table.species.value_counts()
    table = catalog.table[catalog.table.species.isin(counts.index[counts >= min_recordings])]
    if table.empty:
        raise UserError(
            f"{catalog.name}: no species has split.min_recordings={min_recordings} recordings. "
            f"Lower split.min_recordings or add recordings."
        )
    return table


class FileSplit(Split):
    """Reads the split from a file, such as the ``split.csv`` of an earlier run.

    Args:
        path: CSV with ``recording_id`` and ``split`` (train, val or test).

    Raises:
        UserError: If the file cannot be read, lacks a column, or holds another word than train, val or test.
    """

    draws = False

    def __init__(self, path: str, **training: Unpack[Training]) -> None:
        super().__init__(**training)
        file = Path(path).expanduser()
        if not file.is_file():
            raise UserError(f"split.path={path} does not exist. Point it at the split.csv of a run folder.")
        table = read_own(file, ("recording_id", "split"))
        self.stages, self.path = _checked(table.recording_id, table.split, f"split.path={path}"), path

    def __str__(self) -> str:
        return f"split.path={self.path}"

    def assign(self, catalog: Catalog, seed: int) -> "pd.Series[str]":
        """Return the stage of each recording that the file names, even if the catalog lacks it."""
        return self.stages


class ColumnSplit(Split):
    """Takes the split from a column of the catalog, such as a manifest's ``split``.

    Args:
        column: Name of the column; its words are train, val and test, and rows without a word are left out.
    """

    draws = False

    def __init__(self, column: str = "split", **training: Unpack[Training]) -> None:
        super().__init__(**training)
        self.column = column

    def assign(self, catalog: Catalog, seed: int) -> "pd.Series[str]":
        """Return the stage of each recording whose row has one.

        Raises:
            UserError: If the column is missing or holds another word than train, val or test.
        """
        if self.column not in catalog.table.columns:
            raise UserError(
                f"{catalog.name} has no column {self.column!r} (split.column). Its columns: "
                f"{', '.join(catalog.table.columns)}."
            )
        words = catalog.table[self.column]
        rows = catalog.table[words.notna() & (words != "")]
        return _checked(rows.recording_id, rows[self.column], f"{catalog.name}, column {self.column!r}")


def _checked(ids: "pd.Series[str]", stages: "pd.Series[str]", where: str) -> "pd.Series[str]":
    wrong = stages[~stages.isin(STAGES)]
    if len(wrong):
        raise UserError(f"{where}: split is {wrong.iloc[0]!r} in one row; it must be train, val or test.")
    if ids.duplicated().any():
        raise UserError(f"{where}: recording_id {ids[ids.duplicated()].iloc[0]!r} occurs more than once.")
    return _by_id(ids, stages.to_numpy())


def _by_id(ids: "pd.Series[str]", stages: NDArray[np.object_]) -> "pd.Series[str]":
    return pd.Series(stages, index=pd.Index(ids.to_numpy(), name=None), name="split", dtype=str).sort_index()


def _shares(counts: Mapping[str, int], share: float, order: np.random.Generator) -> dict[str, int]:
    """Distribute ``ceil(share * sum)`` recordings over the species in proportion; each keeps at least one."""
    species = [name for name, count in counts.items() if count > 1]
    n = np.array([counts[name] for name in species], dtype=np.int64)
    wanted = math.ceil(round(share * int(n.sum()), 9))
    quota = share * n
    taken = np.minimum(np.floor(quota).astype(np.int64), n - 1)
    draw = order.random(len(n))
    while (left := wanted - int(taken.sum())) > 0 and (room := taken < n - 1).any():
        need = np.where(room, quota - taken, -np.inf)
        best = np.lexsort((draw, -need))[: min(left, int(room.sum()))]
        taken[best] += 1
    return dict.fromkeys(counts, 0) | dict(zip(species, taken.tolist(), strict=True))


class GroupedSplit(DrawnSplit):
    """Splits each species by group, as close to the shares as the groups allow.

    A recording without a group is a group of its own. A species in one group is wholly in train, since it can be
    learned or evaluated but not both. A species in 3 groups or more is in all three stages, unless other species need
    the same groups elsewhere; a recording in train has priority.

    Raises:
        UserError: If the shares are not positive or do not sum to 1, or ``min_recordings`` is below 1.
    """

    def assign(self, catalog: Catalog, seed: int) -> "pd.Series[str]":
        """Return the stage of each kept recording by ``recording_id``, a function of ids, groups and seed alone.

        Raises:
            UserError: If no species has enough recordings, or there are fewer than 3 groups.
        """
        table = enough(catalog, self.min_recordings)
        group = group_codes(table)
        if group.max() < 2:
            raise UserError(
                f"{catalog.name}: {int(group.max()) + 1} group(s) cannot be shared out over train, val and test; "
                f"split=grouped needs at least 3. Fill in the column group (recordist or individual), or take "
                f"split=stratified."
            )
        species = pd.factorize(table.species, sort=True)[0].astype(np.int64)
        stage = allocate(group, species, self.shares, stream(seed, "split"), keep_first=True)
        return _by_id(table.recording_id, np.array(STAGES, dtype=object)[stage[group]])


class KFoldSplit(Split):
    """Splits for cross-validation: fold ``fold`` is test, the next fold validation, the rest train.

    Each species is distributed evenly, by recording or by group. The test folds partition the recordings. A species
    without a train recording gets its recordings (or their groups) back from validation; a species of one recording (or
    one group), which cannot be both learned and evaluated, is left out of every fold.

    With ``repeats`` above 1, folds 0 to ``folds`` - 1 are of the first shuffle, the next ``folds`` of a second one, and
    so on: ``split.folds=5 split.repeats=2 'split.fold=range(0,10)'`` is a sweep over two times five folds.

    Args:
        folds: Number of folds, 3 or more.
        fold: Which fold is for test, 0 to ``folds * repeats`` - 1.
        repeats: Number of shuffles, 1 or more.
        grouped: Keep a group in one fold; a recording without a group is a group of its own.
        min_recordings: Species with fewer recordings are left out, 2 or more.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(
        self,
        folds: int = 5,
        fold: int = 0,
        repeats: int = 1,
        grouped: bool = False,
        min_recordings: int = 2,
        **training: Unpack[Training],
    ) -> None:
        super().__init__(**training)
        require(folds >= 3, "split.folds", folds, "3 or more, for train, val and test")
        require(repeats >= 1, "split.repeats", repeats, "1 or more")
        if not 0 <= fold < folds * repeats:
            raise UserError(
                f"split.fold is {fold}; with split.folds={folds} and split.repeats={repeats} it must be 0 to "
                f"{folds * repeats - 1}. Raise split.repeats for more shuffles."
            )
        why = "2 or more with split=kfold: a single recording cannot be both learned and evaluated"
        require(min_recordings >= 2, "split.min_recordings", min_recordings, why)
        self.folds, self.fold, self.repeats, self.grouped = folds, fold, repeats, grouped
        self.min_recordings = min_recordings

    def assign(self, catalog: Catalog, seed: int) -> "pd.Series[str]":
        """Return the stage of each kept recording by ``recording_id``, a function of ids, groups and seed alone.

        Raises:
            UserError: If no species has enough recordings or groups, or there are fewer of them than folds.
        """
        table = enough(catalog, self.min_recordings)
        if self.grouped:
            owners = pd.Series(group_codes(table), index=table.index).groupby(table.species).transform("nunique")
            table = table[owners >= 2]
            if table.empty:
                raise UserError(
                    f"{catalog.name}: no species is in 2 groups or more, so that none can be both learned and "
                    f"evaluated. Fill in the column group, or set split.grouped=false."
                )
        group = group_codes(table) if self.grouped else np.arange(len(table), dtype=np.int64)
        if group.max() + 1 < self.folds:
            raise UserError(
                f"{catalog.name}: {int(group.max()) + 1} {'groups' if self.grouped else 'recordings'} of the species "
                f"that are kept cannot fill split.folds={self.folds}. Lower split.folds or add recordings."
            )
        species = pd.factorize(table.species, sort=True)[0].astype(np.int64)
        draw = stream(seed, "folds", self.fold // self.folds)
        if self.grouped:
            fold = allocate(group, species, [1 / self.folds] * self.folds, draw, keep_first=False)[group]
        else:
            fold = _dealt(species, self.folds, draw)
        return _by_id(table.recording_id, np.array(STAGES, dtype=object)[self._stages(fold, group, species)])

    def _stages(
        self, fold: NDArray[np.int64], group: NDArray[np.int64], species: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        test = self.fold % self.folds
        stage = np.where(fold == test, 2, np.where(fold == (test + 1) % self.folds, 1, 0))
        learned = np.bincount(species[stage == 0], minlength=int(species.max()) + 1) > 0
        back = np.zeros(int(group.max()) + 1, dtype=bool)
        back[group[(stage == 1) & ~learned[species]]] = True
        return np.where((stage == 1) & back[group], 0, stage)


def _dealt(species: NDArray[np.int64], folds: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Deal shuffled recordings to the folds in turn, species by species, so all sizes differ by 1 at most."""
    place = draw.permutation(int(species.max()) + 1)[species]  # species in a random order
    order = np.lexsort((draw.random(len(species)), place))
    fold = np.empty(len(species), dtype=np.int64)
    fold[order] = draw.permutation(folds)[np.arange(len(species)) % folds]
    return fold
