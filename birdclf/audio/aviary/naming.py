"""Names of procedural recordings, which hold species, recordist and number and decide the length."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from birdclf.audio.clip import AudioError
from birdclf.random import key_of, uniform

SAMPLE_RATE_HZ = 32_000
MEDIAN_S, SPREAD, SHORTEST_S, LONGEST_S = 6.5, 0.55, 2.0, 20.0
_PATTERN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)_(r\d{4})_(\d{5})")


@dataclass(frozen=True, slots=True)
class RecordingName:
    """The three parts of a recording id such as ``house-sparrow_r0123_00045``."""

    species: str
    recordist: str
    number: int

    def __str__(self) -> str:
        return f"{self.species}_{self.recordist}_{self.number:05d}"

    @classmethod
    def parse(cls, recording_id: str) -> "RecordingName":
        """Return the parts of a recording id.

        Raises:
            AudioError: If the id is not of the form ``species-name_r0123_00045``.
        """
        match = _PATTERN.fullmatch(recording_id)
        if match is None:
            raise AudioError(
                f"{recording_id!r} is not a procedural recording; use a name such as 'house-sparrow_r0123_00045'."
            )
        return cls(match[1], match[2], int(match[3]))

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(durations_s(self.species, np.array([self.number]))[0])


def slug_of(species: str) -> str:
    """Return a species' English name in the form that recording ids use, ``"house-sparrow"``."""
    return "-".join(re.findall(r"[a-z0-9]+", species.lower()))


def family_of(slug: str) -> str:
    """Return the last word of a species' name, such as ``sparrow``, which names its family."""
    return slug.rsplit("-", 1)[-1]


def durations_s(slug: str, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the lengths ``(n,)`` in s, to the millisecond, of recordings ``numbers`` of a species, without rendering.

    Log-normal with a median of 6.5 s, clipped to 2 to 20 s: most recordings are longer than a window of 5 s, a third
    are shorter.
    """
    chance = uniform(key_of("aviary", "duration", slug), numbers)
    seconds = MEDIAN_S * np.exp(SPREAD * ndtri(np.clip(chance, 1e-9, 1 - 1e-9)))
    return np.asarray(np.round(np.clip(seconds, SHORTEST_S, LONGEST_S), 3), dtype=np.float64)
