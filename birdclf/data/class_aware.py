"""Class-aware sampling."""

import numpy as np
from numpy.random import Generator

from birdclf.data.sampling import Numbers, within_classes


class ClassAware:
    """Goes round through the classes, shuffled anew each time, and through each class's recordings (Shen et al., 2016).

    In an epoch no class is drawn more than once more often than another, and each round holds every class once.

    Attributes:
        balances: True.
    """

    balances = True

    def order(self, target: Numbers, epoch: int, rng: Generator) -> Numbers:
        """Return the positions of an epoch's recordings."""
        present = np.unique(target)
        rounds = -(-len(target) // len(present))
        classes = rng.permuted(np.tile(present, (rounds, 1)), axis=1).ravel()[: len(target)]
        return within_classes(target, classes, rng)
