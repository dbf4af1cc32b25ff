"""Names of species in annotations, and the classes that they stand for."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from birdclf.data.tables import read_csv
from birdclf.errors import UserError
from birdclf.targets import NONE

NOTHING: Final = (NONE, "nocall", "no call", "nobird", "no bird", "nothing", "silence")
"""Labels that say that a recording was listened to and nothing was heard."""


@dataclass(frozen=True)
class LabelMap:
    """Classes of labels.

    Attributes:
        of: Class by label, of the labels that have one.
        unmapped: Labels without a class, sorted.
    """

    of: dict[str, str]
    unmapped: list[str]


def map_labels(labels: Iterable[str], classes: Sequence[str], table: Path | None = None) -> LabelMap:
    """Return the class of each label, by name.

    Case, underscores, hyphens and spaces do not matter. Of ``Scientific name_Common name`` the whole or either part
    counts, in labels and in classes. A name that fits several classes fits none.

    Args:
        labels: Any names, repeats included.
        classes: Names of the classes.
        table: CSV with the columns ``label`` and ``species``, which decides for the labels that it has.

    Raises:
        UserError: If the table cannot be read, names a species that is not a class, or gives a label two species.
    """
    whole = {name: name for name in classes}
    loose = _unique((plain(name), name) for name in classes)
    parts = _unique((part, name) for name in classes for part in _parts(name))

    def by_name(label: str) -> str | None:
        tries: list[tuple[Mapping[str, str], list[str]]] = [(whole, [label]), (loose, [plain(label)])]
        tries += [(loose, _parts(label)), (parts, [plain(label), *_parts(label)])]
        return next((found[key] for found, keys in tries for key in keys if key in found), None)

    given: dict[str, str] = {}
    if table is not None:
        rows = read_csv(table, ("label", "species"))
        for line, label, species in zip(rows.index, rows.label, rows.species, strict=True):
            found = by_name(species)
            if found is None:
                raise UserError(
                    f"{table}: line {line} names the species {species!r}, which is not one of the {len(classes)} "
                    f"classes. Correct or delete the line."
                )
            if given.setdefault(plain(label), found) != found:
                raise UserError(f"{table}: line {line} gives {label!r} a second species, {species}. Keep one.")
    names = sorted(set(labels))
    mapped = {label: given.get(plain(label)) or by_name(label) for label in names}
    return LabelMap(
        {label: found for label, found in mapped.items() if found is not None},
        [label for label, found in mapped.items() if found is None],
    )


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the name of each key that has one name alone."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    for key, name in pairs:
        names[key].add(name)
    return {key: next(iter(found)) for key, found in names.items() if len(found) == 1}


def _parts(name: str) -> list[str]:
    """Return both parts of ``Scientific name_Common name``, the first of which has a space or equals the second."""
    left, _, right = name.partition("_")
    return [plain(left), plain(right)] if right and (" " in left.strip() or left == right) else []


def says_nothing(label: str) -> bool:
    """Return whether a label is one of ``NOTHING``, in any spelling."""
    return plain(label) in NOTHING


def plain(name: str) -> str:
    """Return a name without case, in which underscores, hyphens and spaces are one space."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
