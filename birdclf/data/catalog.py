"""Catalog: the table of recordings, whatever their source."""

import difflib
import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypedDict

import numpy as np
import pandas as pd

from birdclf.audio.clip import Clip, Reader
from birdclf.audio.files import FileReader
from birdclf.checks import choice, fraction, require, whole
from birdclf.data.background import JoinedReader, read_background
from birdclf.data.listing import NUMBERS
from birdclf.data.tables import read_names
from birdclf.errors import UserError
from birdclf.random import key_of
from birdclf.targets import NONE
from birdclf.text import printable

COLUMNS: dict[str, str | float | None] = {
    "recording_id": None, "species": None, "path": "", "group": "", **NUMBERS, "stamp": "",
}  # fmt: skip

PUBLISHED: Final = "published_split"
"""Column of a source whose test recordings are published: ``test`` for them."""


@dataclass(frozen=True)
class Catalog:
    """Recordings with their species, whatever the source.

    Attributes:
        table: One row per recording, sorted by ``recording_id``, with the columns of ``COLUMNS`` and those that the
            source adds: ``recording_id`` (unique and stable), ``species`` (the primary one, ``none`` where none is
            heard), ``labels`` (tuple of all species that are heard, sorted), perhaps ``masked`` (tuple of those of
            which is not known whether they are heard), ``path`` (empty for procedural sound),
            ``group`` (recordist or individual, may be empty), ``start_s`` and ``end_s`` (the interval of the file),
            ``duration_s`` and ``sample_rate_hz`` (from the source's table, else NaN and 0: no file is opened here), and
            ``stamp`` (changes when the sound of the row changes).
        reader: Opens the clips.
        name: Name of the source, for messages and reports.
        background_share: Share of the rows of species ``none`` among an epoch's draws; None as they occur.

    Raises:
        UserError: If a column is missing, an id occurs twice or there is no recording.
    """

    table: pd.DataFrame
    reader: Reader
    name: str
    background_share: float | None = None

    def __post_init__(self) -> None:
        missing = [c for c, default in COLUMNS.items() if default is None and c not in self.table.columns]
        if missing:
            raise UserError(f"{self.name}: the catalog lacks the column(s) {', '.join(missing)}.")
        if self.table.empty:
            raise UserError(f"{self.name}: there is no recording in this source.")
        table = self.table.copy()
        for column, default in COLUMNS.items():
            if column not in table.columns:
                table[column] = default
        table = table.astype({"recording_id": str, "species": str, "path": str, "group": str})
        if "labels" not in table.columns:
            table["labels"] = [() if name == NONE else (name,) for name in table.species]
        else:
            table["labels"] = [tuple(sorted(set(names))) for names in table.labels]
        table = table.sort_values("recording_id", kind="stable").reset_index(drop=True)
        twice = table.recording_id[table.recording_id.duplicated()]
        if len(twice):
            raise UserError(
                f"{self.name}: recording_id {twice.iloc[0]!r} occurs more than once; ids must be unique "
                f"({len(twice)} repeats). Give each row an id of its own."
            )
        object.__setattr__(self, "table", table)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def classes(self) -> tuple[str, ...]:
        """Sorted names of the species."""
        return tuple(sorted(self.table.species.unique()))

    @property
    def class_counts(self) -> "pd.Series[int]":
        """Number of recordings of each species, in the order of :attr:`classes`."""
        return self.table.species.value_counts().reindex(list(self.classes))

    @property
    def content_hash(self) -> str:
        """Hash of all that determines the sound: ids, paths, intervals, stamps, reader."""
        digest = hashlib.blake2b(self.reader.fingerprint().encode(), digest_size=12)
        sound = self.table[["recording_id", "path", "start_s", "end_s", "stamp"]]
        digest.update(np.ascontiguousarray(pd.util.hash_pandas_object(sound, index=False)).tobytes())
        return digest.hexdigest()

    def clips(self) -> list[Clip]:
        """Return one clip per row, in the order of the table."""
        t = self.table
        return [Clip(*row) for row in zip(t.recording_id, t.path, t.start_s, t.end_s, strict=True)]

    def subset(self, keep: "pd.Series[bool]") -> "Catalog":
        """Return the catalog of the rows where ``keep`` holds."""
        return replace(self, table=self.table[keep])


GRADES = {"A": 5.0, "B": 4.0, "C": 3.0, "D": 2.0, "E": 1.0}
"""Xeno-canto's grades on the scale of ratings, 1 to 5."""
log = logging.getLogger(__name__)


class Selection(TypedDict, total=False):
    """Arguments of :func:`select`, which every source accepts."""

    label: str
    species: Sequence[str] | str | None
    exclude: Sequence[str] | str | None
    min_quality: float | str | None
    max_per_species: int | None
    secondary: str
    background: str | None
    background_share: float | None


def select(
    catalog: Catalog,
    label: str = "species",
    species: Sequence[str] | str | None = None,
    exclude: Sequence[str] | str | None = None,
    min_quality: float | str | None = None,
    max_per_species: int | None = None,
    secondary: str = "positive",
    background: str | None = None,
    background_share: float | None = None,
) -> Catalog:
    """Return the selected recordings, labelled with the selected column, and background recordings beside them.

    Args:
        catalog: Any catalog.
        label: Column that names the class: ``species``, ``family`` or any other column; ``genus`` is the first word of
            ``scientific_name`` where there is no such column. Rows without a value are left out.
        species: Classes to keep, as a list or a file (:func:`birdclf.data.tables.read_names`); None keeps all.
            Recordings of another primary species are left out, and other labels taken from the rest.
        exclude: Classes to leave out, as a list or a file, likewise.
        min_quality: Least quality, 1 to 5 or A to E (5 and A are best); unrated recordings are then left out.
        max_per_species: Most recordings of a class, chosen by their ids; a smaller number selects a subset of those of
            a larger one.
        secondary: What labels besides the primary species are: ``positive`` (heard), ``ignore`` (none) or ``mask``
            (not known: in the column ``masked``).
        background: Folder or table of recordings without any of the classes
            (:func:`birdclf.data.background.read_background`); they become rows of the species ``none`` without labels,
            all of them, whatever the other arguments select.
        background_share: Share of them among the draws of a training epoch, at least 0 and below 1; None as they occur.

    Raises:
        UserError: If a column or class does not exist, a value is out of range, nothing is left, or the background
            cannot be read, is part of the source, or is missing where a share is given.
    """
    table = _labelled(catalog, label)
    classes = {*table.species, *(name for names in table.labels for name in names)}
    if species is not None:
        table = _kept(table, set(_names(species, classes, "species")))
    if exclude is not None:
        table = _kept(table, classes.difference(_names(exclude, classes, "exclude")))
    if min_quality is not None:
        table = table[_quality(catalog)[table.index] >= _grade(min_quality)]
    if max_per_species is not None:
        whole("data.max_per_species", max_per_species, 1)
        draw = table.recording_id.map(lambda name: key_of("max_per_species", name))
        table = table[draw.groupby(table.species).rank(method="first") <= max_per_species]
    table = _with_secondary(table, secondary)
    if left_out := len(catalog) - len(table):
        log.info("%s: %d of %d recordings are left out by data.*", printable(catalog.name), left_out, len(catalog))
    if table.empty:
        raise UserError(
            f"{catalog.name}: no recording is left of {len(catalog)}. "
            f"Loosen data.species, data.exclude or data.min_quality."
        )
    chosen = catalog if table is catalog.table else Catalog(table, catalog.reader, catalog.name)
    if background is not None:
        chosen = _with_background(chosen, background)
    if background_share is None:
        return chosen
    fraction("data.background_share", background_share)
    if NONE not in chosen.classes:
        raise UserError(
            f"data.background_share={background_share:g} is a share of recordings without any of the classes, but "
            f"{catalog.name} has none. Give them by data.background=DIR, or set the share to null."
        )
    return replace(chosen, background_share=float(background_share))


def _with_background(catalog: Catalog, background: str) -> Catalog:
    table = read_background(background)
    own = table.path[table.path.isin(set(catalog.table.path))]
    if len(own):
        raise UserError(
            f"data.background={background} holds {len(own)} recordings of {catalog.name} itself, first {own.iloc[0]}. "
            f"Give a folder or table of others, or leave their class out by data.exclude."
        )
    reader = catalog.reader if catalog.reader == FileReader() else JoinedReader(catalog.reader)
    rows = [catalog.table, Catalog(table, reader, background).table]
    return Catalog(pd.concat(rows, ignore_index=True), reader, f"{catalog.name} with background")


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
    nothing = table.species == NONE
    named = named.astype(object).mask(nothing, NONE)
    known = named.notna() & (named.astype(str).str.strip() != "")
    one = pd.DataFrame({"species": table.species, "named": named.astype(str)})[known].drop_duplicates("species")
    of = dict(zip(one.species, one.named, strict=True))
    labels = [
        {str(name), *(of[label] for label in labels if label in of)} - {NONE}
        for name, labels in zip(named, table.labels, strict=True)
    ]
    table = table.assign(original_species=table.species, species=named, labels=_sorted(labels, table))
    return table[known].astype({"species": str})


def _sorted(sets: Sequence[Collection[str]], table: pd.DataFrame) -> "pd.Series[str]":
    """Return sets of names as a column of sorted tuples."""
    return pd.Series(pd.array([tuple(sorted(names)) for names in sets], dtype=object), index=table.index)


def _kept(table: pd.DataFrame, classes: set[str]) -> pd.DataFrame:
    """Return the rows of some classes, without other labels."""
    table = table[table.species.isin(classes)]
    return table.assign(labels=_sorted([classes.intersection(names) for names in table.labels], table))


def _with_secondary(table: pd.DataFrame, secondary: str) -> pd.DataFrame:
    """Return a table in which labels besides the species are as ``data.secondary`` says.

    Raises:
        UserError: If it is not ``positive``, ``ignore`` or ``mask``.
    """
    choice("data.secondary", secondary, ("positive", "ignore", "mask"))
    if secondary == "positive":
        return table
    primary = table.species.map(lambda name: () if name == NONE else (name,))
    if (table.labels == primary).all():
        return table
    if secondary == "mask":
        others = [{*names} - {*first} for names, first in zip(table.labels, primary, strict=True)]
        table = table.assign(masked=_sorted(others, table))
    return table.assign(labels=primary)


def _names(given: Sequence[str] | str, classes: set[str], key: str) -> list[str]:
    if isinstance(given, str):
        file = Path(given).expanduser()
        if not file.is_file():
            raise UserError(
                f"data.{key}={given} is not a file. Give a text file with one name per line, or a list: [a,b]."
            )
        given = read_names(file)
    names = [str(name) for name in given]
    for name, value in zip(names, given, strict=True):
        if value is None or (name not in classes and not isinstance(value, str)):
            text = "null" if value is None else name
            raise UserError(
                f"data.{key} holds the value {text}, not a name. Quote a name that YAML reads as a number, true, false "
                f"or null: \"data.{key}=['007','null']\"."
            )
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(sorted(classes)[:10])} and so on."
            raise UserError(f"data.{key} names {name!r}, which is not a class of this source. {hint}")
    return names


def _quality(catalog: Catalog) -> "pd.Series[float]":
    if "quality" not in catalog.table.columns:
        raise UserError(f"data.min_quality: {catalog.name} has no quality ratings. Leave it at null for this source.")
    return pd.to_numeric(catalog.table.quality, errors="coerce")


def _grade(value: float | str) -> float:
    grade = GRADES.get(value.upper()) if isinstance(value, str) else float(value)
    fits = grade is not None and 1 <= grade <= 5
    require(fits, "data.min_quality", value, "a number from 1 to 5 or a grade from A (best) to E")
    return grade or 0.0
