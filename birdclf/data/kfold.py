"""Cross-validation: every recording is for test once."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.catalog.catalog import Catalog
from birdclf.data.allocation import allocate, group_codes
from birdclf.data.split import STAGES, enough
from birdclf.errors import UserError
from birdclf.randomness import stream


class KFoldSplit:
    """Fold ``fold`` is for test, the next fold for validation, the rest for training.

    Each species is shared out evenly, by recording or by group. The test folds partition the recordings. A species
    that would be left without a training recording takes back its recordings (or their groups) from validation; what
    can't be both learned and evaluated, a species of one recording (or one group), is left out of every fold.

    With ``repeats`` above 1, folds 0 to ``folds`` - 1 are of the first shuffle, the next ``folds`` of a second one, and
    so on: ``split.folds=5 split.repeats=2 'split.fold=range(0,10)'`` is a sweep over two times five folds.

    Args:
        folds: Number of folds, 3 or more.
        fold: Which fold is for test, 0 to ``folds * repeats`` - 1.
        repeats: Number of shuffles, 1 or more.
        grouped: Whether a group stays in one fold; recordings without a group stand alone.
        min_recordings: Species with fewer recordings are left out, 2 or more.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(
        self, folds: int = 5, fold: int = 0, repeats: int = 1, grouped: bool = False, min_recordings: int = 2
    ) -> None:
        if folds < 3:
            raise UserError(f"split.folds is {folds}; it must be 3 or more, for train, val and test.")
        if repeats < 1:
            raise UserError(f"split.repeats is {repeats}; it must be 1 or more.")
        if not 0 <= fold < folds * repeats:
            raise UserError(
                f"split.fold is {fold}; with split.folds={folds} and split.repeats={repeats} it must be 0 to "
                f"{folds * repeats - 1}. Raise split.repeats for more shuffles."
            )
        if min_recordings < 2:
            raise UserError(
                f"split.min_recordings is {min_recordings}; with split=kfold it must be 2 or more: a single recording "
                f"cannot be both learned and evaluated."
            )
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
        stage = self._stages(fold, group, species)
        names = np.array(STAGES, dtype=object)[stage]
        return pd.Series(names, index=pd.Index(table.recording_id, name=None), name="split", dtype=str).sort_index()

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
    """Deal shuffled recordings out in turn, species after species, so that all sizes differ by 1 at most."""
    place = draw.permutation(int(species.max()) + 1)[species]  # species in a random order
    order = np.lexsort((draw.random(len(species)), place))
    fold = np.empty(len(species), dtype=np.int64)
    fold[order] = draw.permutation(folds)[np.arange(len(species)) % folds]
    return fold
