"""Putting a store's frames together from its shards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from birdclf.audio.clip import Clip
from birdclf.errors import UserError
from birdclf.features.build import Files, fill
from birdclf.features.journal import JOURNAL, Rows
from birdclf.features.shard import Shard

RECORDINGS_A_PIECE: Final = 256


def merge(clips: list[Clip], shards: list[Shard], store: Path, folder: Path, n_bands: int, title: str) -> Rows:
    """Write the ``frames.f16`` and ``level.f16`` of finished shards to a folder, one after the other.

    The shards stay as they are, so that the disk holds about twice the store. The journal is that of a build: a merge
    that is killed goes on where it stood, as would one process that builds the store alone, and the other way round.

    Args:
        clips: All clips, in the order of the store.
        shards: All shards of it, in order.
        store: Where the store will lie.
        folder: Folder to write to; it may hold the beginning of the same store.
        n_bands: Values a frame.
        title: What the progress bar says.

    Returns:
        A row a clip: ``recording_id``, ``frames`` and the measurement.

    Raises:
        OSError: If a file cannot be written.
        UserError: If a shard is damaged.
    """

    def copied(done: int, files: Files) -> Iterator[Rows]:
        for shard in shards:
            span = shard.range(len(clips))
            if span.stop > done:
                yield from _pieces(
                    shard, store, clips[span.start : span.stop], max(0, done - span.start), files, n_bands
                )

    return fill(clips, folder, n_bands, title, copied)


def read_rows(place: Path, clips: list[Clip], n_bands: int) -> Rows | None:
    """Return the rows of a shard that is whole, or None.

    Args:
        place: Folder of the shard.
        clips: Its clips, in order.
        n_bands: Values a frame.
    """
    try:
        rows: Rows = [json.loads(line) for line in (place / JOURNAL).read_bytes().splitlines()]
        frames = sum(row["frames"] for row in rows)
        names = [row["recording_id"] for row in rows]
        sizes = [(place / name).stat().st_size for name in ("frames.f16", "level.f16")]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = names == [clip.recording_id for clip in clips] and sizes == [2 * n_bands * frames, 2 * frames]
    return rows if whole else None


def _pieces(shard: Shard, store: Path, clips: list[Clip], done: int, files: Files, n_bands: int) -> Iterator[Rows]:
    place = shard.folder(store)
    rows = read_rows(place, clips, n_bands)
    if rows is None:
        raise UserError(
            f"{place} is damaged. Start its worker again, which mends it: birdclf prepare with the same source and "
            f"store.shards={shard.count} store.shard={shard.number}."
        )
    before = sum(row["frames"] for row in rows[:done])
    with open(place / "frames.f16", "rb") as frames, open(place / "level.f16", "rb") as level:
        sources = tuple(zip((frames, level), files, (2 * n_bands, 2), strict=True))
        for source, _, size in sources:
            source.seek(before * size)
        for start in range(done, len(rows), RECORDINGS_A_PIECE):
            piece = rows[start : start + RECORDINGS_A_PIECE]
            for source, target, size in sources:
                _copy(source, target, size * sum(row["frames"] for row in piece))
            yield piece


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        block = source.read(min(size, 2**20))
        if not block:
            raise OSError(f"{source.name} has become shorter")
        target.write(block)
        size -= len(block)
