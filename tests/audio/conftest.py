"""Sound that is given as an array, cut into blocks at will."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from birdclf.audio.clip import Clip, Sound


@dataclass(frozen=True)
class ArrayReader:
    """Reads one array ``(samples, channels)``, whatever the clip."""

    samples: np.ndarray
    rate: int
    block: int

    @contextmanager
    def open(self, clip: Clip) -> Iterator[Sound]:
        cuts = range(self.block, len(self.samples), self.block)
        blocks = np.split(self.samples, cuts) if len(self.samples) else []
        yield Sound(self.rate, self.samples.shape[1], len(self.samples) / self.rate, iter(blocks))

    def fingerprint(self) -> str:
        return "array"


@pytest.fixture(scope="session")
def array_reader() -> type[ArrayReader]:
    """Return the reader of an array: ``array_reader(samples, rate, block)``."""
    return ArrayReader
