"""Shards: ranges of a catalog's recordings, each built by a separate process in a folder beside the store.

Shards of different ``store.shards`` are never mixed, since this number is part of a shard's name.
"""

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from birdclf.errors import UserError
from birdclf.files import lock_file

MOST_NAMED: Final = 8
"""Most shards that a message lists."""


@dataclass(frozen=True, order=True)
class Shard:
    """Shard ``number``, counted from 0, of ``count``.

    Raises:
        UserError: If there is no such shard.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"store.shards={self.count} is not a number of shards. Choose 1 or more.")
        if not 0 <= self.number < self.count:
            allowed = "0 alone" if self.count == 1 else f"0 to {self.count - 1}"
            raise UserError(
                f"store.shard={self.number} is out of range: with store.shards={self.count} it is {allowed}. Choose "
                f"one of these, or change store.shards for all workers."
            )

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count}"

    @classmethod
    def chosen(cls, number: int | None, count: int) -> "Shard | None":
        """Return the shard that ``store.shard`` and ``store.shards`` name; None if one process builds the store.

        Raises:
            UserError: If there is no such shard.
        """
        shard = cls(number or 0, count)
        if count > 1 and number is None:
            raise UserError(
                f"store.shards={count} needs a store.shard, the part that this process builds. Give each worker "
                f"one of store.shard=0 to {count - 1}, or all in one command: -m 'store.shard=range({count})'."
            )
        return shard if count > 1 else None

    def all(self) -> "list[Shard]":
        """Return all shards of the store, including this one, in order."""
        return [Shard(number, self.count) for number in range(self.count)]

    def range(self, recordings: int) -> range:
        """Return the positions of its recordings; the sizes of shards differ by one at most."""
        return range(recordings * self.number // self.count, recordings * (self.number + 1) // self.count)

    def folder(self, store: Path) -> Path:
        """Return the folder in which it is built, beside the store."""
        return store.with_name(f".{store.name}.shard-{self.number}-of-{self.count}")

    def lock(self, store: Path) -> Path:
        """Return the lock file of its build."""
        return store.with_name(f"{store.name}.shard-{self.number}-of-{self.count}.lock")

    def mark(self, store: Path) -> Path:
        """Return the empty file that marks a finished shard.

        It lies beside the store, not in the shard: a client of a network file system that creates a file in a folder
        sees the earlier changes of others to this folder, but not necessarily those to other folders.
        """
        return store.with_name(f".{store.name}.shard-{self.number}-of-{self.count}.finished")


def unbuilt_shards(shards: list[Shard], store: Path) -> list[Shard]:
    """Return the shards that are not finished."""
    return [shard for shard in shards if not shard.mark(store).exists()]


def shard_numbers(shards: list[Shard]) -> str:
    """Return the numbers of shards as ``0,2,3``, or the first ones of many."""
    more = f",… ({len(shards)} in all)" if len(shards) > MOST_NAMED else ""
    return ",".join(str(shard.number) for shard in shards[:MOST_NAMED]) + more


def shard_overrides(shards: list[Shard]) -> str:
    """Return the command-line overrides that build some shards of the same ``store.shards``."""
    return f"{'-m ' if len(shards) > 1 else ''}store.shards={shards[0].count} store.shard={shard_numbers(shards)}"


def shards_beside(store: Path) -> list[Shard]:
    """Return the finished and unfinished shards of a store, for all values of ``store.shards``."""
    name = re.compile(rf"\.?{re.escape(store.name)}\.shard-(\d+)-of-(\d+)(\.lock|\.finished)?")
    matches = (name.fullmatch(path.name) for path in store.parent.iterdir())
    return sorted({Shard(int(match[1]), int(match[2])) for match in matches if match})


def describe_shards(store: Path) -> str:
    """Return a message on existing shards for a process that builds the whole store; empty if there are none."""
    started = [shard for shard in shards_beside(store) if shard.folder(store).is_dir()]
    texts = []
    for count in sorted({shard.count for shard in started}):
        found = [shard for shard in started if shard.count == count]
        left = unbuilt_shards(found[0].all(), store) or found[:1]
        texts.append(
            f"there are shards of this store, finished or not: {shard_numbers(found)} of {count}. They are not used "
            f"here; to use them, stop this and run birdclf prepare with the same source and {shard_overrides(left)}"
        )
    return "\n".join(texts)


def clear_shards(store: Path) -> None:
    """Remove the shards of a finished store, except those with a running process, which removes them itself."""
    for shard in shards_beside(store):
        with suppress(BlockingIOError, PermissionError), lock_file(shard.lock(store), busy=BlockingIOError()):
            shard.mark(store).unlink(missing_ok=True)
            shutil.rmtree(shard.folder(store), ignore_errors=True)
            shard.lock(store).unlink(missing_ok=True)
