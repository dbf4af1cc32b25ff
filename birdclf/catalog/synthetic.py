"""The embedded default source: a procedural aviary with the species and the imbalance of a real collection."""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ, RecordingName, durations_s, slug_of
from birdclf.audio.aviary.reader import AviaryReader
from birdclf.catalog.catalog import Catalog
from birdclf.catalog.select import Selection, select
from birdclf.catalog.study import study_counts
from birdclf.checks import is_number, is_whole
from birdclf.errors import UserError
from birdclf.randomness import key_of, stream, uniform

NUM_RECORDISTS = 400
MAX_SCALE = 10.0


def _check(name: str, value: object, low: float, high: float, whole: bool, open_low: bool = False) -> None:
    ok = is_whole(value) if whole else is_number(value)
    if not ok or value > high or value < low or (open_low and value == low):  # type: ignore[operator]
        limits = f"above {low:g} and at most {high:g}" if open_low else f"from {low:g} to {high:g}"
        noun = "a whole number" if whole else "a number"
        raise UserError(f"data.{name} is {value!r}; give {noun} {limits}.")


def _recordists(slug: str, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(n,)`` numbers of the recordists: a few contribute much, and each species has its devotees."""
    share = 1.0 / (np.arange(NUM_RECORDISTS) + 4.0)
    share = share * stream("aviary", "devotion", slug).gamma(0.35, size=NUM_RECORDISTS)
    edges = np.cumsum(share) / share.sum()
    chance = uniform(key_of("aviary", "recordists", slug), numbers)
    return np.minimum(np.searchsorted(edges, chance, side="right"), NUM_RECORDISTS - 1)


def synthetic_catalog(
    scale: float = 1.0,
    min_per_species: int = 4,
    num_species: int | None = None,
    snr_db: Sequence[float] = (0.0, 24.0),
    **selection: Unpack[Selection],
) -> Catalog:
    """Return the catalog of the procedural aviary.

    90 species and 11,076 recordings at ``scale=1``, from 1,216 of the house sparrow to one of the hooded
    merganser; mono at 32 kHz, 2 to 20 s long. Nothing is downloaded or rendered here. A smaller scale
    keeps the first recordings of each species, so that its recordings are among those of a larger one.
    Figures measured on it compare with no real collection.

    Args:
        scale: Fraction of each species' full count, above 0 and at most 10.
        min_per_species: No species is scaled below this number, or below its full count where that is less.
        num_species: Number of species from 2 to 90, taken at even steps of the ranking by frequency from
            the commonest down, so that the imbalance is kept; ``None`` takes all.
        snr_db: Lowest and highest signal-to-noise ratio in dB, within [-40, 60]; lower is harder.
        **selection: Which of the recordings, see :func:`birdclf.catalog.select.select`.

    Raises:
        UserError: If a value is out of its range.
    """
    full = study_counts()
    _check("scale", scale, 0, MAX_SCALE, whole=False, open_low=True)
    _check("min_per_species", min_per_species, 1, 10_000, whole=True)
    if num_species is not None:
        _check("num_species", num_species, 2, len(full), whole=True)
        full = tuple(full[i * len(full) // num_species] for i in range(num_species))

    ids: list[str] = []
    species: list[str] = []
    groups: list[str] = []
    durations: list[NDArray[np.float64]] = []
    for name, count in full:
        slug = slug_of(name)
        numbers = np.arange(max(round(scale * count), min(count, min_per_species)), dtype=np.int64)
        recordists = [f"r{r:04d}" for r in _recordists(slug, numbers)]
        ids += [str(RecordingName(slug, r, n)) for n, r in enumerate(recordists)]
        species += [name] * len(numbers)
        groups += recordists
        durations.append(durations_s(slug, numbers))
    table = pd.DataFrame(
        {
            "recording_id": ids,
            "species": species,
            "group": groups,
            "duration_s": np.concatenate(durations),
            "sample_rate_hz": SAMPLE_RATE_HZ,
        }
    )
    return select(Catalog(table, AviaryReader(snr_db=snr_db), "synthetic"), **selection)
