"""Feature store: features of whole recordings in memory-mapped files, with the measurements of the audit.

A store is a folder named by the hash of its catalog and of every setting of its features. It is built in a temporary
folder under a file lock and then renamed, so an incomplete store is never read, and a killed build can be resumed.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.audio.mixing import Mix
from birdclf.data.catalog import Catalog
from birdclf.store.build import build, scratch_folder
from birdclf.store.extraction import LEVEL_FILE, Analyser, Extraction, frames_file
from birdclf.store.plan import StorePlan
from birdclf.store.shard import clear_shards, describe_shards

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureStore:
    """A finished store, opened for reading.

    Attributes:
        folder: Folder of the store.
        index: One row per recording: ``recording_id``, ``offset`` and ``frames`` (into the packed frames; 0 frames if
            it could not be decoded), and the columns of :class:`birdclf.audit.measure.Measurement`.
        n_bands: Values per frame.
        stored_type: Their type.
    """

    folder: Path
    index: pd.DataFrame
    n_bands: int
    stored_type: str = "float16"

    @cached_property
    def frames(self) -> NDArray[np.floating]:
        """Frames of all recordings, one after the other: ``(total, n_bands)`` of the stored type."""
        file = self.folder / frames_file(self.stored_type)
        return np.memmap(file, dtype=self.stored_type, mode="r").reshape(-1, self.n_bands)

    @cached_property
    def level_db(self) -> NDArray[np.float16]:
        """Energy of each frame between 1 and 10 kHz, in dB: ``(total,)``."""
        return np.memmap(self.folder / LEVEL_FILE, dtype=np.float16, mode="r")


def open_store(
    catalog: Catalog, analyser: Analyser, root: Path, workers: int | None = None, mix: Mix | None = None
) -> FeatureStore:
    """Return the feature store of a catalog, built if there is none.

    Args:
        catalog: Recordings; those that cannot be decoded are listed in the index with their reason.
        analyser: Features.
        root: Folder of all stores; created if missing.
        workers: Processes that decode and analyse; None for one per core, 0 for this process.
        mix: Policy on channels, offset and gain; None for the unchanged mean of the channels.

    Raises:
        UserError: If the store cannot be written, or a worker process is killed.
    """
    plan = StorePlan(catalog, Extraction(catalog.reader, mix or Mix(), analyser), root)
    with plan.failures_explained():
        root.mkdir(parents=True, exist_ok=True)
        if not plan.finished:
            with plan.lock():
                if not plan.finished:  # another process may have built it in the meantime
                    _build(plan, workers)
    return open_finished(plan)


def open_finished(plan: StorePlan) -> FeatureStore:
    """Open a finished store."""
    index, analyser = pd.read_parquet(plan.folder / "index.parquet"), plan.extraction.analyser
    return FeatureStore(plan.folder, index, analyser.n_bands, analyser.stored_type)


def _build(plan: StorePlan, workers: int | None) -> None:
    if text := describe_shards(plan.folder):
        log.info("%s", text)
    with scratch_folder(plan.folder.with_name(f".{plan.folder.name}.tasks.")) as scratch:
        title, clips = f"decoding {plan.catalog.name}", plan.catalog.clips()
        plan.extraction.analyser.begin_store(clips, scratch)
        rows = build(clips, plan.extraction, plan.building, scratch, title, workers)
    plan.finish(rows)
    clear_shards(plan.folder)
