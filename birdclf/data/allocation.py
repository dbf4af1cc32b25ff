"""Stratified allocation of whole groups of recordings to stages.

A group may hold several classes, so this is iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011, "On the
Stratification of Multi-label Data", ECML PKDD) with groups instead of examples:

1. Place: the groups that hold the largest part of some class come first (ties drawn by the seed). Each is assigned to
   the stage where it adds least to the cost: the sum over classes and stages of (part - share)^2 / share, in which a
   class of 3 counts as much as a class of 3,000 and all recordings together count as one more class.
2. Repair: while a class lacks a stage that it should have, the best move of one of its groups is made, with some random
   moves to leave local minima (as in WalkSAT: Selman, Kautz and Cohen, 1994); the best state is kept.
3. Refine: groups move to a stage of lower cost while that helps and no class loses a stage.

Each step is linear in the number of (group, class) pairs.
"""

from collections import deque
from collections.abc import Sequence
from itertools import chain
from operator import mul

import numpy as np
import pandas as pd
from numpy.typing import NDArray

HARD = 1_000_000  # a class that cannot be learned weighs more than any number of classes that cannot be evaluated
CANDIDATES = 24  # groups that one repair considers
PASSES = 4  # rounds of refinement; the first makes nearly all moves


def group_codes(table: pd.DataFrame) -> NDArray[np.int64]:
    """Return the ``(n,)`` number of each row's group, from 0 by ``recording_id``; rows without a group stand alone."""
    named = table.group.fillna("").str.strip()
    codes, names = pd.factorize(named, sort=True)
    alone = (named == "").to_numpy(dtype=bool)
    codes = np.where(alone, len(names) + np.cumsum(alone), codes)
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def allocate(
    group: NDArray[np.int64],
    species: NDArray[np.int64],
    shares: Sequence[float],
    draw: np.random.Generator,
    keep_first: bool,
) -> NDArray[np.int64]:
    """Return the ``(G,)`` stage of each group.

    Args:
        group: ``(n,)`` group of each recording, 0 to G - 1, each in use.
        species: ``(n,)`` class of each recording, 0 to K - 1, each in use.
        shares: Share of each of the S stages; they sum to 1.
        draw: Breaks ties.
        keep_first: First aim for each class: to be in stage 0 if true, else to be in two stages. The second aim is
            that a class of S groups or more is in every stage, as far as the groups shared with others allow.
    """
    state = _Allocation(group, species, shares, keep_first)
    state.place(draw)
    state.repair(draw)
    state.refine()
    return np.array(state.stage, dtype=np.int64)


class _Allocation:
    """Groups, their classes and the stage of each; plain lists are faster, since a step reads only a few numbers."""

    def __init__(
        self, group: NDArray[np.int64], species: NDArray[np.int64], shares: Sequence[float], keep_first: bool
    ) -> None:
        together = int(species.max()) + 1  # all recordings as one more class
        columns = together + 1
        pairs, counts = np.unique(
            np.concatenate([group * columns + species, group * columns + together]), return_counts=True
        )
        owner, kind = np.divmod(pairs, columns)
        sizes = np.append(np.bincount(species, minlength=together), len(species))
        part = counts / sizes[kind]
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        self.largest = np.maximum.reduceat(part, starts)
        self.square = np.add.reduceat(part**2, starts).tolist()
        self.border = [*starts.tolist(), len(owner)]
        self.kind: list[int] = kind.tolist()
        self.part: list[float] = part.tolist()
        self.members = owner[np.argsort(kind, kind="stable")]
        self.first_member = np.concatenate([[0], np.cumsum(np.bincount(kind, minlength=columns))])
        self.shares, self.keep_first = list(shares), keep_first
        self.need = [[share] * columns for share in shares]  # what each class still lacks in each stage, as a share
        self.groups = np.diff(self.first_member).tolist()  # groups of each class
        self.here = [[0] * len(shares) for _ in range(columns)]  # groups of each class in each stage
        self.stage = [-1] * len(starts)

    def place(self, draw: np.random.Generator) -> None:
        """Assign each group to a stage."""
        for g in np.lexsort((draw.random(len(self.stage)), -self.largest)).tolist():
            costs = self._costs(g)
            self._move(g, costs.index(min(costs)))

    def repair(self, draw: np.random.Generator) -> None:
        """Move groups until each class has the stages that it should have, or the limit of moves is reached."""
        wrong = deque(k for k in range(len(self.here)) if self._lack(k, self.here[k]))
        left = lowest = sum(self._lack(k, self.here[k]) for k in wrong)
        moved: list[tuple[int, int]] = []  # since the best state: group, stage that it left
        for _ in range(2000 + 20 * len(wrong)):
            while wrong and not self._lack(wrong[0], self.here[wrong[0]]):
                wrong.popleft()
            if not wrong:
                break
            k = wrong.popleft()
            g, stage, gain = self._best_move(k, draw)
            moved.append((g, self.stage[g]))
            self._move(g, stage)
            left += gain
            if left < lowest:
                lowest, moved = left, []
            wrong.extend(j for j in chain(self._kinds(g), [k]) if self._lack(j, self.here[j]))
        for g, stage in reversed(moved):
            self._move(g, stage)

    def refine(self) -> None:
        """Move groups to a stage of lower cost, where no class loses a stage."""
        for _ in range(PASSES):
            moved = 0
            for g in range(len(self.stage)):
                costs = self._costs(g)
                best = costs.index(min(costs))
                if costs[best] < costs[self.stage[g]] - 1e-9 and self._gain(g, best) <= 0:
                    self._move(g, best)
                    moved += 1
            if moved * 1000 <= len(self.stage):  # another round would cost more than it gains
                break

    def _kinds(self, g: int) -> list[int]:
        return self.kind[self.border[g] : self.border[g + 1]]

    def _costs(self, g: int) -> list[float]:
        """Return the cost that a group adds in each stage, as if it were in none."""
        kinds, parts = self._kinds(g), self.part[self.border[g] : self.border[g + 1]]
        square = self.square[g]
        costs = [
            (square - 2 * sum(map(mul, parts, map(need.__getitem__, kinds)))) / share
            for need, share in zip(self.need, self.shares, strict=True)
        ]
        if self.stage[g] >= 0:
            costs[self.stage[g]] -= 2 * square / self.shares[self.stage[g]]
        return costs

    def _move(self, g: int, stage: int) -> None:
        old = self.stage[g]
        for i in range(self.border[g], self.border[g + 1]):
            k, part = self.kind[i], self.part[i]
            self.need[stage][k] -= part
            self.here[k][stage] += 1
            if old >= 0:
                self.need[old][k] += part
                self.here[k][old] -= 1
        self.stage[g] = stage

    def _lack(self, k: int, here: list[int]) -> int:
        """Return the penalty of a class with these numbers of groups in the stages."""
        empty = here.count(0)
        hard = here[0] == 0 if self.keep_first else len(here) - empty < 2
        return HARD * hard + (empty if self.groups[k] >= len(here) else 0)

    def _gain(self, g: int, stage: int) -> int:
        """Return the change of the total penalty by a move; below 0 is better."""
        change, old = 0, self.stage[g]
        for k in self._kinds(g):
            here = self.here[k]
            if here[old] > 1 and here[stage] > 0:
                continue
            after = here.copy()
            after[old] -= 1
            after[stage] += 1
            change += self._lack(k, after) - self._lack(k, here)
        return change

    def _best_move(self, k: int, draw: np.random.Generator) -> tuple[int, int, int]:
        """Return the best of some moves of a class's groups, sometimes a random one: group, stage, change."""
        members = self.members[self.first_member[k] : self.first_member[k + 1]]
        if len(members) > CANDIDATES:
            members = draw.choice(members, CANDIDATES, replace=False)
        moves = [(g, s) for g in members.tolist() for s in range(len(self.shares)) if s != self.stage[g]]
        if draw.random() < 0.2:
            g, stage = moves[int(draw.integers(len(moves)))]
            return g, stage, self._gain(g, stage)
        best: tuple[int, float, int, int] | None = None
        for g, stage in moves:
            gain = self._gain(g, stage)
            if best is None or gain <= best[0]:
                costs = self._costs(g)
                option = (gain, costs[stage] - costs[self.stage[g]], g, stage)
                best = option if best is None else min(best, option)
        assert best is not None
        return best[2], best[3], best[0]
