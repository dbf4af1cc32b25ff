"""The ``prepare`` command: decode a source once, for the audit and the feature store."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from hydra.utils import instantiate
from omegaconf import DictConfig

from birdclf.audio.clip import Clip
from birdclf.audio.mixing import Mix
from birdclf.audit.page import write_page
from birdclf.audit.rules import Rules
from birdclf.data.catalog import Catalog
from birdclf.data.tables import csv_text
from birdclf.declared import check_types
from birdclf.errors import UserError
from birdclf.files import lock_file, refuse_existing, write_whole, writing_to
from birdclf.store.build import Files, build, fill, scratch_folder
from birdclf.store.extraction import LEVEL_FILE, Analyser, Extraction, frame_bytes, frames_file
from birdclf.store.open import FeatureStore, open_finished, open_store
from birdclf.store.plan import JOURNAL, Rows, StorePlan
from birdclf.store.shard import Shard, clear_shards, shard_numbers, shard_overrides, unbuilt_shards
from birdclf.text import printable

RECORDINGS_A_PIECE: Final = 256


def merge(clips: list[Clip], shards: list[Shard], store: Path, folder: Path, analyser: Analyser, title: str) -> Rows:
    """Concatenate the frames and levels of finished shards in a folder.

    The shards are kept, so the disk holds about twice the store. The journal is that of a build: a killed merge can be
    resumed by a merge or by a build of the whole store, and the other way round.

    Returns:
        One row per clip: ``recording_id``, ``frames`` and the measurement.

    Raises:
        UserError: If a shard is damaged.
    """

    def copied(done: int, files: Files) -> Iterator[Rows]:
        for shard in shards:
            span = shard.range(len(clips))
            if span.stop > done:
                yield from _pieces(
                    shard, store, clips[span.start : span.stop], max(0, done - span.start), files, analyser
                )

    return fill(clips, folder, analyser, title, copied)


def read_rows(place: Path, clips: list[Clip], analyser: Analyser) -> Rows | None:
    """Return the rows of a shard, or None if it is not complete."""
    try:
        rows: Rows = [json.loads(line) for line in (place / JOURNAL).read_bytes().splitlines()]
        frames = sum(row["frames"] for row in rows)
        names = [row["recording_id"] for row in rows]
        sizes = [(place / name).stat().st_size for name in (frames_file(analyser.stored_type), LEVEL_FILE)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = names == [clip.recording_id for clip in clips] and sizes == [frame_bytes(analyser) * frames, 2 * frames]
    return rows if whole else None


def _pieces(
    shard: Shard, store: Path, clips: list[Clip], done: int, files: Files, analyser: Analyser
) -> Iterator[Rows]:
    place = shard.folder(store)
    rows = read_rows(place, clips, analyser)
    if rows is None:
        raise UserError(
            f"{place} is damaged. Start its worker again, which repairs it: birdclf prepare with the same source and "
            f"store.shards={shard.count} store.shard={shard.number}."
        )
    before = sum(row["frames"] for row in rows[:done])
    with open(place / frames_file(analyser.stored_type), "rb") as frames, open(place / LEVEL_FILE, "rb") as level:
        sources = tuple(zip((frames, level), files, (frame_bytes(analyser), 2), strict=True))
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


log = logging.getLogger(__name__)


def build_shard(
    catalog: Catalog, analyser: Analyser, root: Path, shard: Shard, workers: int | None = None, mix: Mix | None = None
) -> FeatureStore | None:
    """Build one shard of a catalog's feature store, and merge the store if this shard was the last one.

    The store has the same bytes as that of :func:`birdclf.store.open.open_store`, whose arguments these are. Its root
    is on a file system that all workers share and that has working locks. During the merge the disk holds about twice
    its size; then the shards are removed.

    Returns:
        The store if it was merged here, None if other shards are missing or another worker has merged it.

    Raises:
        UserError: If a file cannot be written, a worker process is killed, or another shard is damaged.
    """
    plan = StorePlan(catalog, Extraction(catalog.reader, mix or Mix(), analyser), root)
    with plan.failures_explained():
        root.mkdir(parents=True, exist_ok=True)
        if not plan.finished:
            waits = f"another process is building {shard} of {plan.folder}; waiting for it"
            with lock_file(shard.lock(plan.folder), waits=waits):
                _build(plan, shard, workers)
        merged = _merge_if_complete(plan, shard)
        if plan.finished:
            clear_shards(plan.folder)
    return open_finished(plan) if merged else None


def _build(plan: StorePlan, shard: Shard, workers: int | None) -> None:
    if plan.finished:  # by another process, while this one waited for the lock
        return
    place, clips = shard.folder(plan.folder), plan.catalog.clips()
    span = shard.range(len(clips))
    own_clips = clips[span.start : span.stop]
    mark = shard.mark(plan.folder)
    if mark.exists():
        if read_rows(place, own_clips, plan.extraction.analyser) is not None:
            log.info("%s is finished already", shard)
            return
        log.warning("%s is damaged; its lost part is computed again", place)
        mark.unlink()
    log.info("%s: %d of %d recordings, from position %d", shard, len(own_clips), len(clips), span.start)
    place.mkdir(exist_ok=True)
    with scratch_folder(place / "tasks.") as scratch:
        plan.extraction.analyser.begin_store(clips, scratch)
        build(own_clips, plan.extraction, place, scratch, f"decoding {shard} of {plan.catalog.name}", workers)
    mark.touch()


def _merge_if_complete(plan: StorePlan, shard: Shard) -> bool:
    """Merge the shards to the store if all are finished; return whether that was done here."""
    shards = shard.all()
    left = unbuilt_shards(shards, plan.folder)
    if left and not plan.finished:  # in this order: the shards of a finished store are removed
        log.info(
            "%s is finished; not yet: %s. The last worker merges the store and writes audit.csv and audit.html; this "
            "one writes neither. Shards without a worker are built by birdclf prepare with the same source and %s",
            *(shard, shard_numbers(left), shard_overrides(left)),
        )
        return False
    if not plan.finished:
        with plan.lock():
            if not plan.finished:
                log.info("all %d shards are finished; merging the store", shard.count)
                analyser, title = plan.extraction.analyser, f"merging {plan.catalog.name}"
                plan.finish(merge(plan.catalog.clips(), shards, plan.folder, plan.building, analyser, title))
                return True
    log.info(
        "the store %s is finished; nothing is left to do. Its audit is in the run folder of the worker that merged it; "
        "birdclf prepare without store.shards writes audit.csv and audit.html again",
        plan.folder,
    )
    return False


def prepare(cfg: DictConfig) -> FeatureStore | None:
    """Build the store of a composed ``conf/prepare.yaml``; write ``audit.csv`` and ``audit.html`` to the run folder.

    Returns:
        The store; None, without an audit, from one of several workers (``store.shards``) that has not merged it.

    Raises:
        UserError: If the source cannot be read, the store cannot be written, the run folder holds an audit already, or
            there is no such shard.
    """
    shard = Shard.chosen(cfg.store.shard, cfg.store.shards)
    folder = Path(cfg.run_dir)
    refuse_existing(folder / "audit.csv", "Choose another hydra.run.dir.")
    check_types(cfg)
    rules: Rules = instantiate(cfg.audit)
    mix, features = instantiate(cfg.audio), instantiate(cfg.features)
    catalog: Catalog = instantiate(cfg.data)
    root, workers = Path(cfg.store.dir), cfg.store.workers
    if shard is None:
        store = open_store(catalog, features, root, workers, mix)
    elif (merged := build_shard(catalog, features, root, shard, workers, mix)) is not None:
        store = merged
    else:
        return None
    audit = rules.judge(store.index, catalog.table)
    with writing_to(folder, "the same command then writes the audit without decoding anything again."):
        folder.mkdir(parents=True, exist_ok=True)
        write_page(audit, catalog.name, folder / "audit.html")
        write_whole(folder / "audit.csv", csv_text(audit))  # last, since it marks a complete audit
    hours = audit.duration_s.sum() / 3600
    verdicts = audit.verdict.value_counts()
    log.info("%s: %d recordings, %.1f hours of sound", printable(catalog.name), len(catalog), hours)
    for verdict, what in (("reject", "set aside"), ("warn", "used with a warning")):
        if count := int(verdicts.get(verdict, 0)):
            first = audit[audit.verdict == verdict].iloc[0]
            log.info("%s: %d, the first %s %s", what, count, printable(first.recording_id), printable(first.reason))
    log.info("audit: %s", printable(folder / "audit.html"))
    log.info("store: %s", store.folder)
    return store
