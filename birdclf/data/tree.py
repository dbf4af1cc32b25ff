"""Files below a folder: their paths and stamps, without opening them."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from birdclf.errors import UserError
from birdclf.text import printable

log = logging.getLogger(__name__)

ABSENT: Final = "absent"
UNREADABLE: Final = "unreadable"
NAMED: Final = 6


def walk(base: Path, takes: Callable[[str], bool] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder from ``base`` down with the sorted names of its files.

    Hidden files and folders are skipped. Links to folders are followed, except those into or above a folder that is
    listed anyway. Folders below ``base`` that cannot be read, and names that are not UTF-8, are logged and passed
    over.

    Args:
        base: The folder.
        takes: Which names are wanted; the others, and links that were not followed, are counted in one line of the log.
            None wants all, and logs none of that.

    Raises:
        UserError: If ``base`` itself cannot be read.
    """
    top = os.fspath(base)

    def unreadable(error: OSError) -> None:
        if error.filename == top:
            raise _refused(error) from error
        log.warning(
            "%s cannot be read (%s) and is skipped. Check its permissions, such as with: chmod -R u+rX",
            printable(error.filename),
            error.strerror,
        )

    roots, links, others = [os.path.realpath(top)], 0, Counter[str]()
    for folder, folders, names in os.walk(top, onerror=unreadable, followlinks=True):
        folders[:] = _listed(folder, folders)
        for name in [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            target = os.path.realpath(os.path.join(folder, name))
            if any(os.path.commonpath((root, target)) in (root, target) for root in roots):
                folders.remove(name)
                links += 1
            else:
                roots.append(target)
        listed = _listed(folder, names)
        taken = [name for name in listed if takes is None or takes(name)]
        others.update(ending_of(name) for name in set(listed).difference(taken))
        yield folder, taken
    if takes is not None:
        log_skipped(top, others, links)


def ending_of(name: str) -> str:
    """Return a name's extension in lower case, ``none`` if it has none."""
    return os.path.splitext(name)[1].lower() or "none"


def log_skipped(where: str, others: "Counter[str]", links: int = 0) -> None:
    """Log the numbers of skipped files, by extension, and of skipped links, if any."""
    parts = []
    if count := others.total():
        endings = ", ".join(f"{ending} {number}" for ending, number in others.most_common(NAMED))
        more = ", ..." if len(others) > NAMED else ""
        parts.append(f"{count} file{'s' * (count > 1)} with other endings ({endings}{more})")
    if links:
        words = "a folder that is" if links == 1 else "folders that are"
        parts.append(f"{links} link{'s' * (links > 1)} to {words} listed already or above")
    if parts:
        log.warning("%s: skipped %s", printable(where), printable(" and ".join(parts)))


def data_root(root: str, holds: str) -> Path:
    """Return the folder that ``data.root`` names; ``holds`` is its expected content, such as ``the recordings``.

    Raises:
        UserError: If it is not a folder.
    """
    base = Path(root).expanduser()
    if not os.path.isdir(base):
        raise UserError(f"data.root={root} is not a folder. Point it at {holds}.")
    return base


def folders_in(base: Path) -> list[Path]:
    """Return the folders in a folder, including links to folders, sorted, without hidden ones.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        names = sorted(os.listdir(base))
    except OSError as error:
        raise _refused(error) from error
    return [base / name for name in names if not name.startswith(".") and os.path.isdir(base / name)]


def _refused(error: OSError) -> UserError:
    return UserError(f"{error.filename} cannot be read: {error.strerror}. Check its permissions.")


def _listed(folder: str, names: list[str]) -> list[str]:
    """Return the names that are not hidden and can be written to a table, sorted."""
    kept = []
    for name in sorted(names):
        if name.startswith("."):
            continue
        if any("\udc80" <= letter <= "\udcff" for letter in name):  # how Python spells bytes that are not UTF-8
            log.warning("%s holds a name that is not UTF-8, %a, which is skipped. Rename it.", printable(folder), name)
            continue
        kept.append(name)
    return kept


def real_paths(files: Iterable[str | Path]) -> list[str]:
    """Return absolute paths without symbolic links, except links in a loop; each folder is resolved once."""
    folders: dict[str, str] = {}
    resolved = []
    for file in files:
        folder, name = os.path.split(file)
        if name in ("", ".", "..") or os.path.islink(file):
            resolved.append(os.path.realpath(file))
            continue
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        resolved.append(os.path.join(folders[folder], name))
    return resolved


def stamp_of(file: str | Path) -> str:
    """Return a text that changes when a file is rewritten: its size and modification time.

    It is ``absent`` for a missing file or broken link, and ``unreadable`` for one without read permission, which is
    tried again once it can be read.
    """
    try:
        status = os.stat(file)
    except PermissionError:
        return UNREADABLE
    except (OSError, ValueError):  # ValueError: a name that holds a null byte
        return ABSENT
    if not stat.S_ISREG(status.st_mode):
        return ABSENT
    return f"{status.st_size}-{status.st_mtime_ns}" if os.access(file, os.R_OK) else UNREADABLE
