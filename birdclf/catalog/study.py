"""What the study had: its species, and the recordings of each."""

import csv
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def study_counts() -> tuple[tuple[str, int], ...]:
    """Return the 90 species and the recordings of each, most first; the study left out the last, which has one."""
    with (files("birdclf.catalog") / "species_counts.csv").open(encoding="utf-8") as file:
        return tuple((row["species"], int(row["recordings"])) for row in csv.DictReader(file, strict=True))


def has_the_studys_counts(counts: Iterable[tuple[str, int]]) -> bool:
    """Return whether species and the recordings of each are the study's, all 89; hyphens and capitals do not count."""
    kept = [(_plain(species), n) for species, n in study_counts() if n > 1]
    return sorted((_plain(species), n) for species, n in counts) == sorted(kept)


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s-]+", name.strip().lower()))
