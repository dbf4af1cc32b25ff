"""Secondary species of recordings: names in a source's table become labels."""

import logging
from collections.abc import Iterable, Sequence

import pandas as pd

from birdclf.data.label_names import map_labels
from birdclf.targets import NONE
from birdclf.text import printable

log = logging.getLogger(__name__)


def label_sets(
    species: "pd.Series[str]", secondary: Iterable[Sequence[str]], name: str, *aliases: "pd.Series[str]"
) -> list[tuple[str, ...]]:
    """Return the labels of each recording: its species, and the secondary ones that are a species of this source.

    Names that are no species of it are dropped, and counted in the log.

    Args:
        species: The primary species, one a recording.
        secondary: Names of other species, one sequence a recording.
        name: Name of the source.
        aliases: Other names of the species, such as the scientific ones, one a recording.
    """
    listed = [[one for one in names if one] for names in secondary]
    species = species.astype(str)
    of = dict(zip(species, species, strict=True))
    for other in aliases:
        of = {alias: one for alias, one in zip(other, species, strict=True) if alias} | of
    found = map_labels((one for names in listed for one in names), list(of))
    if found.unmapped:
        log.info(
            "%s: %d secondary species are no species of this source and are dropped: %s%s",
            printable(name), len(found.unmapped), printable(", ".join(found.unmapped[:5])),
            ", ..." if len(found.unmapped) > 5 else "",
        )  # fmt: skip
    return [
        tuple(sorted({own, *(of[found.of[one]] for one in names if one in found.of)} - {NONE}))
        for own, names in zip(species, listed, strict=True)
    ]
