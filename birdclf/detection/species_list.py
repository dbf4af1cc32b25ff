"""A list of the species that occur at a place."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from birdclf.data.tables import read_names
from birdclf.errors import UserError


def read_species(file: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the species of a list: a line each, ``#`` before remarks; or a CSV with a column ``species``.

    Case does not count. What the classifier does not know is refused, since it would never be found.

    Args:
        file: The list.
        classes: Names that the classifier knows.

    Raises:
        UserError: If it cannot be read, is empty, or names a species that the classifier does not know.
    """
    return known_species(read_names(file), classes, str(file))


def known_species(named: Sequence[str], classes: Sequence[str], where: str) -> tuple[str, ...]:
    """Return names as a classifier spells them, each once.

    Raises:
        UserError: If one is unknown, with the likest one that is not.
    """
    spelt = {name.casefold(): name for name in classes}
    found = []
    for name in named:
        if name in classes:  # two of them may differ in case alone
            found.append(name)
            continue
        if name.casefold() not in spelt:
            near = difflib.get_close_matches(name.casefold(), spelt, n=1, cutoff=0.6)
            hint = f"Did you mean {spelt[near[0]]!r}?" if near else "Drop it, or take a model that was trained on it."
            raise UserError(f"{where} names {name!r}, which is none of the model's {len(classes)} species. {hint}")
        found.append(spelt[name.casefold()])
    return tuple(dict.fromkeys(found))
