"""The recordings that a user names: files, folders, patterns, or a list on standard input."""

import difflib
import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from birdclf.audio.formats import ENDINGS, is_sound
from birdclf.data.tables import read_names
from birdclf.data.tree import ending_of, log_skipped, walk
from birdclf.errors import UserError
from birdclf.text import printable

LONGEST_BYTES: Final = 180
"""Most file systems take 255 bytes, of which what is written of a recording adds some."""


class Recording(NamedTuple):
    """A file to classify."""

    path: str  # as the user named it, or the folder above it
    name: str  # where its results go, relative, with slashes; unlike any other's even without its ending
    file: str  # its real path, by which it is identified


def recordings_of(
    given: Sequence[str], listed: Iterable[str] = (), named: Mapping[str, str] | None = None
) -> list[Recording]:
    """Return the recordings that some words name, each file once, in their order.

    A folder stands for the sound files below it, hidden ones excepted. A pattern such as
    ``**/*.wav`` stands for what it fits, if no file has that very name.

    Raises:
        UserError: If a word fits nothing, or no sound file is left.
    """
    return assign_names(files_of(given, listed), named or {})


def files_of(given: Sequence[str], listed: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """Return path and name of the files that some words name, by their real paths; see :func:`recordings_of`."""
    found: dict[str, tuple[str, str]] = {}
    for word in _words(given, listed):
        for path, name in _named(word):
            found.setdefault(os.path.realpath(path), (path, name))
    if not found:
        raise UserError(
            f"There is no sound file in {', '.join(map(str, given))}. Files with {ENDINGS} are "
            f"looked for in folders, at any depth; name others themselves."
        )
    return found


def assign_names(found: Mapping[str, tuple[str, str]], named: Mapping[str, str]) -> list[Recording]:
    """Return the recordings of :func:`files_of`, no two of which have one name; ``named`` are names of some already."""
    taken = {_key(name) for name in named.values()}
    recordings = []
    for file, (path, name) in found.items():
        own = named.get(file) or _free(_short(name), taken)
        taken.add(_key(own))
        recordings.append(Recording(path, own, file))
    return recordings


def _words(given: Sequence[str], listed: Iterable[str]) -> Iterator[str]:
    for word in given:
        if word != "-":
            yield word
            continue
        for line in listed:
            if line.strip("\r\n"):
                yield line.strip("\r\n")


def _named(word: str) -> Iterator[tuple[str, str]]:
    """Yield files that a word stands for, and the name of each below it."""
    path = os.path.expanduser(word)
    if os.path.isdir(path):
        yield from _below(path)
    elif os.path.lexists(path) or not glob.has_magic(path):
        if not os.path.lexists(path):
            raise UserError(f"{word} does not exist. Give sound files, folders, or patterns in quotes such as '*.wav'.")
        yield path, os.path.basename(path)
    else:
        fitting = sorted(set(_fitting(path)))
        if not fitting:
            raise UserError(f"No file fits {word}. Check the pattern; **/ stands for folders at any depth.")
        others = Counter[str]()
        for one in fitting:
            if os.path.isdir(one):
                yield from _below(one)
            elif is_sound(one):
                yield one, os.path.basename(one)
            else:
                others[ending_of(one)] += 1
        log_skipped(word, others)


def _fitting(pattern: str) -> Iterator[str]:
    """Yield what a pattern fits; ``**/`` goes into the folders that a folder's name would."""
    before, deep, after = pattern.partition("**/")
    if not deep or (before and not before.endswith("/")):
        yield from glob.glob(pattern)
        return
    for base in glob.glob(before) if before else [""]:
        for folder, _ in walk(Path(base)):
            inside = folder if base else os.path.relpath(folder)
            yield from _fitting(os.path.join("" if inside == "." else glob.escape(inside), after))


def _below(folder: str) -> Iterator[tuple[str, str]]:
    for inside, names in walk(Path(folder), is_sound):
        for name in names:
            path = os.path.join(inside, name)
            yield path, Path(path).relative_to(folder).as_posix()


def _key(name: str) -> str:
    """Return what must differ: tables stand without the ending, and some systems take no heed of case."""
    return printable(os.path.splitext(name)[0]).casefold()


def _short(name: str) -> str:
    """Return a name whose parts are so short that an ending can be added to each."""
    stem, ending = os.path.splitext(name)
    parts = (printable(part).encode()[:LONGEST_BYTES].decode(errors="ignore") for part in stem.split("/"))
    return "/".join(parts) + ending[:8]


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken: itself, or one with a number before its ending."""
    stem, ending = os.path.splitext(name)
    number, free = 1, name
    while _key(free) in taken:
        number += 1
        free = f"{stem} ({number}){ending}"
    return free


def read_species(file: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the species of a list: a line each, ``#`` before remarks; or a CSV with a column ``species``.

    Case does not count. What the classifier does not know is refused, since it would never be found.

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
