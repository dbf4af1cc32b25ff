"""The ``prepare`` command: decode a source once, for the audit and the feature store."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from birdclf.audit.page import write_page
from birdclf.audit.rules import Rules
from birdclf.data.catalog import Catalog
from birdclf.data.tables import csv_text
from birdclf.declared import hold_to_types
from birdclf.errors import UserError
from birdclf.files import write_whole, writing_to
from birdclf.store.open import FeatureStore, open_store
from birdclf.store.shard import Shard
from birdclf.store.workers import build_shard
from birdclf.text import shown

log = logging.getLogger(__name__)


def prepare(cfg: DictConfig) -> FeatureStore | None:
    """Build the store of a composed ``conf/prepare.yaml``; write ``audit.csv`` and ``audit.html`` to the run folder.

    Returns:
        The store; None from a worker of several (``store.shards``) that has not put it together, and then no audit.

    Raises:
        UserError: If the source cannot be read, the store cannot be written, the run folder holds an audit already, or
            there is no such shard.
    """
    shard = Shard.chosen(cfg.store.shard, cfg.store.shards)
    folder = Path(cfg.run_dir)
    if (folder / "audit.csv").exists():
        raise UserError(f"{folder} holds an audit already; nothing is overwritten. Choose another hydra.run.dir.")
    hold_to_types(cfg)
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
        write_whole(folder / "audit.csv", csv_text(audit))  # last: where it is, nothing is written again
    hours = audit.duration_s.sum() / 3600
    verdicts = audit.verdict.value_counts()
    log.info("%s: %d recordings, %.1f hours of sound", shown(catalog.name), len(catalog), hours)
    for verdict, what in (("reject", "set aside"), ("warn", "used with a warning")):
        if count := int(verdicts.get(verdict, 0)):
            first = audit[audit.verdict == verdict].iloc[0]
            log.info("%s: %d, the first %s %s", what, count, shown(first.recording_id), shown(first.reason))
    log.info("audit: %s", shown(folder / "audit.html"))
    log.info("store: %s", store.folder)
    return store
