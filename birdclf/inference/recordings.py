"""The recordings that an evaluation predicts: the run's own splits, or all of another source as test."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from birdclf.audio.mixing import Mix
from birdclf.audit.rules import Rules
from birdclf.catalog.catalog import Catalog
from birdclf.catalog.tables import read_own
from birdclf.data.dataset import Batch, WindowDataset, as_fetched
from birdclf.data.split import STAGES, FileSplit
from birdclf.errors import UserError
from birdclf.features.store import FeatureStore, open_store
from birdclf.inference.checkpoint import LoadedRun
from birdclf.inference.settings import built

NAMED = 5  # of a list of names in a message


@dataclass(frozen=True)
class Recordings:
    """What is to be predicted.

    Attributes:
        source: The catalog, to whose rows the batches point.
        loaders: Batches of each split by its name: val and test, train too if it is wanted, or test alone.
        supports: ``(K,)`` recordings of each class: the run's own for train, those of this evaluation for the others.
        own: Whether they are the run's own, in its own splits.
        heard: Recordings of another source that sound the same as one that the run was trained on.
    """

    source: Catalog
    loaders: Mapping[str, DataLoader[Batch]]
    supports: Mapping[str, NDArray[np.int64]]
    own: bool
    heard: int


def open_recordings(
    cfg: DictConfig,
    run: Path,
    loaded: LoadedRun,
    window: str,
    another: bool,
    trusted: Collection[str] = (),
    with_train: bool = False,
) -> Recordings:
    """Return the recordings of an evaluation; their features are computed where the store lacks them.

    A source that holds every recording of the run's ``split.csv`` is the run's own, wherever it lies now.

    Args:
        cfg: Settings of the run, with the source to use.
        run: The run folder.
        loaded: The checkpoint.
        window: Which window of a recording is used: ``first``, ``center``, ``loudest`` or ``all``.
        another: Whether the source may be another than the run's own.
        trusted: Top-level packages whose sources may be built.
        with_train: Whether the train split of the run's own recordings is wanted too, in windows as in training.

    Raises:
        UserError: If the source has moved, has other species, or lacks recordings.
    """
    catalog = run_catalog(cfg, run, another, trusted)
    mix, rules = built(cfg, "audio", Mix, run, trusted), built(cfg, "audit", Rules, run, trusted)
    split = FileSplit(str(run / "split.csv")).assign(catalog, cfg.seed)
    absent = split.index.difference(pd.Index(catalog.table.recording_id))
    if len(absent) and not another:
        raise UserError(
            f"{catalog.name} lacks {len(absent)} of the {len(split)} recordings of {run / 'split.csv'}, first "
            f"{absent[0]!r}. {_moved(cfg)}"
        )
    if strange := sorted(set(catalog.classes) - set(loaded.classes)) if len(absent) else []:
        more = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
        raise UserError(
            f"{catalog.name} has species that the run does not know: {', '.join(strange[:NAMED])}{more}. Leave them "
            f"out, such as with --source data.exclude=[…], or name them as the run does."
        )
    store = open_store(catalog, loaded.predictor.features, Path(cfg.store.dir), cfg.store.workers, mix)
    own, heard = not len(absent), 0
    species = read_own(run / "split.csv", ("recording_id", "species")).set_index("recording_id").species
    if own:
        stages = catalog.table.recording_id.map(split.to_dict())
        _check_decodable(catalog, store, stages.notna().to_numpy())
    else:
        usable = rules.judge(store.index, catalog.table).verdict != "reject"
        if not usable.any():
            raise UserError(
                f"{catalog.name}: none of its {len(catalog)} recordings can be used. birdclf prepare says why."
            )
        stages = pd.Series("test", index=catalog.table.index).where(usable)
        heard = _heard(run, split, store.index[usable])
    index = {name: k for k, name in enumerate(loaded.classes)}
    if unknown := sorted(set(species) - set(index)):
        raise UserError(
            f"{run / 'split.csv'} has species that the checkpoint does not know: {', '.join(unknown[:NAMED])}."
        )

    def count(names: "pd.Series[str]") -> NDArray[np.int64]:
        return np.bincount(names.map(index).to_numpy(dtype=np.int64), minlength=len(index)).astype(np.int64)

    loaders, supports = {}, {"train": count(species[split.index[split == "train"]])}
    for stage in (STAGES if with_train else STAGES[1:]) if own else ("test",):
        rows = catalog.table[stages == stage]
        row, target = (np.asarray(column, dtype=np.int64) for column in (rows.index, rows.species.map(index)))
        policy, train = (str(cfg.window.train) if stage == "train" else window), stage == "train"
        dataset = WindowDataset(store, row, target, policy, loaded.predictor.features.frames, cfg.seed, apart=train)
        loaders[stage] = DataLoader(
            dataset, batch_size=cfg.loader.batch_size, num_workers=cfg.loader.num_workers, collate_fn=as_fetched
        )
        supports.setdefault(stage, count(rows.species))
    return Recordings(catalog, loaders, supports, own, heard)


def run_catalog(cfg: DictConfig, run: Path, another: bool, trusted: Collection[str]) -> Catalog:
    """Return the catalog of a run's source, or of another one.

    Args:
        cfg: Settings of the run, with the source to use.
        run: The run folder.
        another: Whether the source may be another than the run's own.
        trusted: Top-level packages whose sources may be built.

    Raises:
        UserError: If the split is missing, or the source has moved or cannot be read.
    """
    if not (run / "split.csv").is_file():
        raise UserError(f"{run / 'split.csv'} does not exist, so that nobody knows what was test. Restore it.")
    try:
        return built(cfg, "data", Catalog, run, trusted)
    except UserError as error:
        if not isinstance(error.__cause__, UserError):
            raise
        said = str(error.__cause__)  # the source says it better
        raise UserError(said if another else f"{said} {_moved(cfg)}") from error


def _moved(cfg: DictConfig) -> str:
    key = next((name for name in ("root", "path") if name in cfg.data), None)
    if key is None:
        return "Give the settings of its source, such as with --source data.scale=1.0"
    return f"If the recordings have moved, say where they are: --source data.{key}=…"


def _check_decodable(catalog: Catalog, store: FeatureStore, used: NDArray[np.bool_]) -> None:
    gone = catalog.table.recording_id[used & (store.index.frames == 0).to_numpy()]
    if len(gone):
        raise UserError(
            f"{catalog.name}: {len(gone)} recordings of the run cannot be decoded any more, first {gone.iloc[0]!r}. "
            f"Restore the files."
        )


def _heard(run: Path, split: "pd.Series[str]", index: pd.DataFrame) -> int:
    """Return how many recordings have the very sound of a recording that the run was trained on."""
    audit = read_own(run / "audit.csv", ("recording_id", "audio_hash"))
    train = set(audit.audio_hash[audit.recording_id.map(split.to_dict()) == "train"]) - {""}
    return int(index.audio_hash.isin(train).sum())
