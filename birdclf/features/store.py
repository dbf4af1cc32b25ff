"""Features of whole recordings, once, packed into memory-mapped float16 files, with what the audit measured.

A store is a folder named by the hash of its catalog and of every setting of its features. It is built in a temporary
folder and renamed whole under a file lock: nobody ever reads half a store, and a killed build goes on where it stood.
"""

import json
import logging
import shutil
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from birdclf.audio.mixing import Mix
from birdclf.catalog.catalog import Catalog
from birdclf.errors import UserError
from birdclf.features.build import build
from birdclf.features.extraction import Analyser, Extraction
from birdclf.features.journal import JOURNAL

log = logging.getLogger(__name__)

VERSION: Final = 2


@dataclass(frozen=True)
class FeatureStore:
    """A finished store, opened for reading.

    Attributes:
        folder: Where it lies.
        index: One row a recording: ``recording_id``, ``offset`` and ``frames`` (into the packed frames; 0 frames
            where it could not be decoded), and the columns of :class:`birdclf.audit.meter.Measurement`.
        n_bands: Values a frame.
    """

    folder: Path
    index: pd.DataFrame
    n_bands: int

    @cached_property
    def frames(self) -> NDArray[np.float16]:
        """Frames of all recordings, one after the other: ``(total, n_bands)``."""
        return np.memmap(self.folder / "frames.f16", dtype=np.float16, mode="r").reshape(-1, self.n_bands)

    @cached_property
    def level_db(self) -> NDArray[np.float16]:
        """Energy of each frame between 1 and 10 kHz, in dB: ``(total,)``."""
        return np.memmap(self.folder / "level.f16", dtype=np.float16, mode="r")


def open_store(
    catalog: Catalog, analyser: Analyser, root: Path, workers: int | None = None, mix: Mix | None = None
) -> FeatureStore:
    """Return the feature store of a catalog, built first where there is none.

    Args:
        catalog: Recordings to hold; those that cannot be decoded are listed in the index with their reason.
        analyser: Features to hold.
        root: Folder of all stores; made where missing.
        workers: Processes that decode and analyse; None for one a core, 0 for this process.
        mix: How channels, offset and gain are treated; None takes the mean of the channels as it is.

    Raises:
        UserError: If the store cannot be written, or a worker process is killed.
    """
    extraction = Extraction(catalog.reader, mix or Mix(), analyser)
    setting = f"{VERSION}|{catalog.content_hash}|{extraction.fingerprint()}"
    folder = root / blake2b(setting.encode(), digest_size=12).hexdigest()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not (folder / "meta.json").is_file():
            lock = FileLock(root / f"{folder.name}.lock")
            try:
                lock.acquire(timeout=0).lock.release()
            except Timeout:
                log.info("another process is building %s; waiting for it", folder)
            with lock:
                if not (folder / "meta.json").is_file():  # somebody else may just have built it
                    _build(catalog, extraction, folder, workers)
    except BrokenExecutor as error:
        raise UserError(
            f"A process that decodes {catalog.name} was killed, perhaps for want of memory. Start again with fewer of "
            f"them, such as store.workers=1; what is done is kept."
        ) from error
    except OSError as error:
        raise UserError(
            f"The feature store {folder} cannot be written: {error.strerror or error}. Free some space or choose "
            f"another folder with store.dir=…; what is done is kept, and the next start goes on from there."
        ) from error
    return FeatureStore(folder, pd.read_parquet(folder / "index.parquet"), analyser.n_bands)


def _build(catalog: Catalog, extraction: Extraction, folder: Path, workers: int | None) -> None:
    temporary = folder.with_name(f".{folder.name}.building")
    for stale in folder.parent.glob(f".{folder.name}.tasks.*"):  # of a build that was killed: the lock is ours
        shutil.rmtree(stale, ignore_errors=True)
    with TemporaryDirectory(prefix=f".{folder.name}.tasks.", dir=folder.parent, ignore_cleanup_errors=True) as scratch:
        build(catalog.clips(), extraction, temporary, Path(scratch), f"decoding {catalog.name}", workers)
    meta = {
        "version": VERSION,
        "catalog": catalog.name,
        "catalog_hash": catalog.content_hash,
        "reader": extraction.reader.fingerprint(),
        "mix": extraction.mix.fingerprint(),
        "features": extraction.analyser.fingerprint(),
        "recordings": len(catalog),
        "n_bands": extraction.analyser.n_bands,
    }
    (temporary / "meta.json").write_text(json.dumps(meta, indent=1))
    (temporary / JOURNAL).unlink()
    temporary.rename(folder)
