"""Targets of recordings: one class each, or a set of classes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.targets import MASKED, Task

Targets = NDArray[np.int64] | NDArray[np.float32]
"""``(n,)`` int64 classes, or ``(n, K)`` float32: 1 for a class that is heard, 0 for one that is not, -1 for unknown."""


def class_list(table: pd.DataFrame, task: Task) -> tuple[str, ...]:
    """Return the sorted classes of recordings: their species, or all labels that one of them has."""
    names = table.species if task == "single_label" else table.labels.explode().dropna()
    return tuple(sorted(names.unique()))


def targets_of(table: pd.DataFrame, classes: Sequence[str], task: Task) -> Targets:
    """Return the targets of recordings.

    Args:
        table: One row a recording: ``species``, of sets of classes ``labels``, and perhaps ``masked``, the names of
            which is not known whether they are heard.
        classes: K names, which hold every species; other labels are left out.
        task: Whether a recording has one class or a set.

    Raises:
        KeyError: If a species is no class.
    """
    index = {name: k for k, name in enumerate(classes)}
    if task == "single_label":
        return np.array([index[name] for name in table.species], dtype=np.int64)
    target = np.zeros((len(table), len(classes)), dtype=np.float32)
    for column, code in (("masked", MASKED), ("labels", 1)):
        if column in table:
            pairs = table[column].reset_index(drop=True).explode().map(index).dropna().astype(np.int64)
            target[pairs.index, pairs] = code
    return target


def count_classes(target: Targets, num_classes: int) -> NDArray[np.int64]:
    """Return the ``(K,)`` number of recordings that have each class."""
    if target.ndim == 2:
        return np.asarray((target == 1).sum(axis=0), dtype=np.int64)
    return np.bincount(target.astype(np.int64), minlength=num_classes).astype(np.int64)
