"""A split that is stratified and grouped together.

A recordist's microphone, place and favourite bird are in all of their recordings: with some in train, a test on
the rest asks less than a test on a stranger's. Here a group is never in two stages. Which group goes where is
decided by iterative stratification over groups, in :mod:`birdclf.data.allocation`: place the groups that matter most to
some species first, give each species the stages that it should have, then move groups as long as the shares get closer.
"""

import numpy as np
import pandas as pd

from birdclf.catalog.catalog import Catalog
from birdclf.data.allocation import allocate, group_codes
from birdclf.data.split import STAGES, check_shares, enough
from birdclf.errors import UserError
from birdclf.randomness import stream


class GroupedSplit:
    """Shares each species out by group, as close to the shares as the groups allow.

    A recording without a group stands alone. A species in one group is wholly in train, since it can be learned or
    evaluated but not both. A species in 3 groups or more is in all three stages, unless its groups are also the only
    ones of other species and so can't all go where they are wanted; a recording for train comes first.

    Args:
        train: Share of each species' recordings for training.
        val: Share for validation.
        test: Share for test.
        min_recordings: Species with fewer recordings are left out.

    Raises:
        UserError: If the shares are not positive or do not sum to 1, or ``min_recordings`` is below 1.

    Example:
        >>> stages = GroupedSplit(0.70, 0.15, 0.15).assign(catalog, seed=1)  # doctest: +SKIP
    """

    def __init__(self, train: float = 0.70, val: float = 0.15, test: float = 0.15, min_recordings: int = 2) -> None:
        check_shares(train, val, test, min_recordings)
        self.shares, self.min_recordings = (train, val, test), min_recordings

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
        names = np.array(STAGES, dtype=object)[stage[group]]
        return pd.Series(names, index=pd.Index(table.recording_id, name=None), name="split", dtype=str).sort_index()
