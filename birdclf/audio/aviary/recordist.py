"""Who holds the microphone: its colour and its noise, the same in all recordings of one recordist."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from birdclf.randomness import stream

GRID_HZ: NDArray[np.float64] = np.concatenate([[0.0], np.geomspace(20, 16_000, 255)])
"""``(256,)`` frequencies in Hz at which every filter of a scene is drawn."""


@dataclass(frozen=True, slots=True)
class Recordist:
    """A recordist's equipment.

    Attributes:
        colour: ``(256,)`` gain of the microphone and the recorder at ``GRID_HZ``.
        noise: ``(256,)`` amplitude of their own noise at ``GRID_HZ``, about 1 at 1 kHz.
    """

    colour: NDArray[np.float64]
    noise: NDArray[np.float64]


@lru_cache(maxsize=2048)
def recordist_named(name: str) -> Recordist:
    """Return the recordist of this name, the same on every call."""
    rng = stream("aviary", "recordist", name)
    octaves = np.log2(np.maximum(GRID_HZ, 20.0) / 1000)
    gain_db = rng.uniform(-1.5, 1.5) * octaves
    for _ in range(3):
        centre, width = rng.uniform(-3, 3.5), rng.uniform(0.4, 1.2)
        gain_db = gain_db + rng.normal(0, 4.0) * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    low_cut, high_cut = rng.uniform(60, 350), rng.uniform(8_500, 15_500)
    hz = np.maximum(GRID_HZ, 1.0)
    colour = 10 ** (gain_db / 20) / np.sqrt((1 + (low_cut / hz) ** 4) * (1 + (hz / high_cut) ** 12))
    noise = 10 ** (rng.uniform(-4.0, 0.5) * octaves / 20)
    return Recordist(colour, noise)
