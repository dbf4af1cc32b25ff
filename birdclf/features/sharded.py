"""One worker of several that build a store together, on one machine or on many that share a file system.

Each builds its shard in a folder of its own, under a lock of its own; whoever finds all of them finished puts the store
together. No lock is waited for while another one is held.
"""

import logging
from pathlib import Path

from birdclf.audio.mixing import Mix
from birdclf.catalog.catalog import Catalog
from birdclf.features.build import build, scratch_folder
from birdclf.features.extraction import Analyser, Extraction
from birdclf.features.lock import held
from birdclf.features.merge import merge, read_rows
from birdclf.features.plan import StorePlan
from birdclf.features.shard import Shard, clear_shards, missing, numbers, settings
from birdclf.features.store import FeatureStore, opened

log = logging.getLogger(__name__)


def build_shard(
    catalog: Catalog, analyser: Analyser, root: Path, shard: Shard, workers: int | None = None, mix: Mix | None = None
) -> FeatureStore | None:
    """Build one shard of a catalog's feature store, and the store itself if this shard was the last one.

    The store has the bytes that :func:`birdclf.features.store.open_store` would have written. While it is put together
    the disk holds about twice its size; the shards go once it is in its place.

    Args:
        catalog: Recordings of the whole store.
        analyser: Features to hold.
        root: Folder of all stores, on a file system that all workers share and that has working locks.
        shard: Which part is built here.
        workers: Processes that decode and analyse; None for one a core, 0 for this process.
        mix: How channels, offset and gain are treated; None takes the mean of the channels as it is.

    Returns:
        The store if it was put together here, None where other shards are missing or another worker has done it.

    Raises:
        UserError: If a file cannot be written, a worker process is killed, or another shard is damaged.
    """
    plan = StorePlan(catalog, Extraction(catalog.reader, mix or Mix(), analyser), root)
    with plan.failures_explained():
        root.mkdir(parents=True, exist_ok=True)
        if not plan.finished:
            with held(shard.lock(plan.folder), f"{shard} of {plan.folder}"):
                _build(plan, shard, workers)
        made = _put_together(plan, shard)
        if plan.finished:
            clear_shards(plan.folder)
    return opened(plan) if made else None


def _build(plan: StorePlan, shard: Shard, workers: int | None) -> None:
    if plan.finished:  # while the lock was waited for
        return
    place, clips = shard.folder(plan.folder), plan.catalog.clips()
    span = shard.range(len(clips))
    mine = clips[span.start : span.stop]
    mark = shard.mark(plan.folder)
    if mark.exists():
        if read_rows(place, mine, plan.extraction.analyser.n_bands) is not None:
            log.info("%s is finished already", shard)
            return
        log.warning("%s is damaged; what is lost of it is computed anew", place)
        mark.unlink()
    log.info("%s: %d of %d recordings, from the one at position %d", shard, len(mine), len(clips), span.start)
    place.mkdir(exist_ok=True)
    with scratch_folder(place / "tasks.") as scratch:
        build(mine, plan.extraction, place, scratch, f"decoding {shard} of {plan.catalog.name}", workers)
    mark.touch()


def _put_together(plan: StorePlan, shard: Shard) -> bool:
    """Make the store of its shards if all are there; return whether that was done here."""
    shards = shard.all()
    left = missing(shards, plan.folder)
    if left and not plan.finished:  # in this order: the shards of a finished store are removed
        log.info(
            "%s is finished; not yet: %s. The last worker puts the store together and writes audit.csv and audit.html; "
            "this one writes neither. What nobody is at is built by birdclf prepare with the same source and %s",
            *(shard, numbers(left), settings(left)),
        )
        return False
    if not plan.finished:
        with held(plan.lock, str(plan.folder)):
            if not plan.finished:
                log.info("all %d shards are finished; putting the store together", shard.count)
                n_bands, title = plan.extraction.analyser.n_bands, f"merging {plan.catalog.name}"
                plan.finish(merge(plan.catalog.clips(), shards, plan.folder, plan.building, n_bands, title))
                return True
    log.info(
        "the store %s is finished; nothing is left to do. Its audit is in the run folder of the worker that put it "
        "together; birdclf prepare without store.shards writes audit.csv and audit.html again",
        plan.folder,
    )
    return False
