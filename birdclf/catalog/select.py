"""A subset of any source, and what its classes are: for ablations over the data by override."""

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import pandas as pd

from birdclf.catalog.catalog import Catalog
from birdclf.catalog.tables import read_names
from birdclf.checks import whole
from birdclf.errors import UserError
from birdclf.quoting import shown
from birdclf.randomness import key_of

GRADES = {"A": 5.0, "B": 4.0, "C": 3.0, "D": 2.0, "E": 1.0}
"""Xeno-canto's grades on the scale of ratings, 1 to 5."""


log = logging.getLogger(__name__)


class Selection(TypedDict, total=False):
    """Settings of :func:`select`, which every source takes."""

    label: str
    species: Sequence[str] | str | None
    exclude: Sequence[str] | str | None
    min_quality: float | str | None
    max_per_species: int | None


def select(
    catalog: Catalog,
    label: str = "species",
    species: Sequence[str] | str | None = None,
    exclude: Sequence[str] | str | None = None,
    min_quality: float | str | None = None,
    max_per_species: int | None = None,
) -> Catalog:
    """Return the recordings that are asked for, with the classes that are asked for.

    Args:
        catalog: Any catalog.
        label: Column that names the class: ``species``, ``family`` or any other column; ``genus`` is the first word of
            ``scientific_name`` where there is no such column. Rows without a value are left out.
        species: Classes to keep, as a list or as a file, see
            :func:`birdclf.catalog.tables.read_names`; None keeps all.
        exclude: Classes to leave out, as a list or as a file.
        min_quality: Least quality, 1 to 5 or A to E (5 and A are best); unrated recordings are then left out.
        max_per_species: Most recordings of a class; which ones follows from their ids, and a smaller number keeps a
            part of a larger one's.

    Raises:
        UserError: If a column or class does not exist, a value is out of range, or nothing is left.
    """
    table = _labelled(catalog, label)
    if species is not None:
        table = table[table.species.isin(_names(species, table, "species"))]
    if exclude is not None:
        table = table[~table.species.isin(_names(exclude, table, "exclude"))]
    if min_quality is not None:
        table = table[_quality(catalog)[table.index] >= _grade(min_quality)]
    if max_per_species is not None:
        whole("data.max_per_species", max_per_species, 1)
        draw = table.recording_id.map(lambda name: key_of("max_per_species", name))
        table = table[draw.groupby(table.species).rank(method="first") <= max_per_species]
    if left_out := len(catalog) - len(table):
        log.info("%s: %d of %d recordings are left out by data.*", shown(catalog.name), left_out, len(catalog))
    if table.empty:
        raise UserError(
            f"{catalog.name}: no recording is left of {len(catalog)}. "
            f"Loosen data.species, data.exclude or data.min_quality."
        )
    return catalog if table is catalog.table else Catalog(table, catalog.reader, catalog.name)


def _labelled(catalog: Catalog, label: str) -> pd.DataFrame:
    table = catalog.table
    if label == "species":
        return table
    if label in table.columns:
        named = table[label]
    elif label == "genus" and "scientific_name" in table.columns:
        named = table.scientific_name.str.split().str[0]
    else:
        raise UserError(
            f"data.label={label}: {catalog.name} has no such column. It has {', '.join(map(str, table.columns))}."
        )
    known = named.notna() & (named.astype(str).str.strip() != "")
    return table.assign(original_species=table.species, species=named)[known].astype({"species": str})


def _names(given: Sequence[str] | str, table: pd.DataFrame, key: str) -> list[str]:
    if isinstance(given, str):
        file = Path(given).expanduser()
        if not file.is_file():
            raise UserError(f"data.{key}={given} is no file. Give a text file with a name a line, or a list: [a,b].")
        given = read_names(file)
    names = [str(name) for name in given]
    classes = set(table.species)
    for name, value in zip(names, given, strict=True):
        if value is None or (name not in classes and not isinstance(value, str)):
            said = "null" if value is None else name
            raise UserError(
                f"data.{key} holds the value {said}, not a name. Quote a name that reads like a number, yes, no or "
                f"nothing: \"data.{key}=['007','null']\"."
            )
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(sorted(classes)[:10])} and so on."
            raise UserError(f"data.{key} names {name!r}, which is no class of this source. {hint}")
    return names


def _quality(catalog: Catalog) -> "pd.Series[float]":
    if "quality" not in catalog.table.columns:
        raise UserError(f"data.min_quality: {catalog.name} says nothing of quality. Leave it at null for this source.")
    return pd.to_numeric(catalog.table.quality, errors="coerce")


def _grade(value: float | str) -> float:
    grade = GRADES.get(value.upper()) if isinstance(value, str) else float(value)
    if grade is None or not 1 <= grade <= 5:
        raise UserError(
            f"data.min_quality is {value!r}; it must be a number from 1 to 5 or a grade from A (best) to E."
        )
    return grade
