"""The ``prepare`` command: fill the feature store."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from birdclf.catalog.catalog import Catalog
from birdclf.features.store import FeatureStore, open_store

log = logging.getLogger(__name__)


def prepare(cfg: DictConfig) -> FeatureStore:
    """Build the store of a composed ``conf/prepare.yaml`` and list what was set aside in ``audit.csv``.

    Raises:
        UserError: If the source cannot be read or no recording can be used.
    """
    catalog: Catalog = instantiate(cfg.data)
    store = open_store(catalog, instantiate(cfg.features), Path(cfg.store.dir), cfg.store.workers)
    rejected = store.rejected
    rejected.assign(verdict="reject").to_csv(Path(cfg.run_dir) / "audit.csv", index=False)
    hours = store.index.duration_s.sum() / 3600
    log.info("%s: %d recordings, %.1f hours of sound", catalog.name, len(catalog), hours)
    if len(rejected):
        log.info("set aside: %d, the first %s %s (audit.csv)", len(rejected), *rejected.iloc[0])
    log.info("store: %s", store.folder)
    return store
