"""A run folder opened for evaluation: settings, checkpoint and recordings."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from birdclf.audio.mixing import Mix
from birdclf.audit.rules import Rules
from birdclf.config import conf_dir
from birdclf.data.catalog import Catalog
from birdclf.data.dataset import Batch, WindowDataset, as_fetched
from birdclf.data.labels import class_list, count_classes, targets_of
from birdclf.data.splits import STAGES, FileSplit
from birdclf.data.tables import read_own
from birdclf.environment import keep_freed_memory
from birdclf.errors import UserError
from birdclf.losses.base import as_loss
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.label_predictions import AnyPredictions
from birdclf.posthoc.base import PostHoc, Unadjusted
from birdclf.runs.checkpoint import LoadedRun, build_features, load_run
from birdclf.runs.results import Calibration, fit_calibration, rows_of
from birdclf.runs.run import CONFIG, Run, supports_of
from birdclf.runs.trust import build, check_names
from birdclf.store.open import FeatureStore, open_store

Kind = TypeVar("Kind")


def read_settings(run: Path, source: Sequence[str] = (), trusted: Collection[str] = ()) -> DictConfig:
    """Return the settings of a run folder's ``config.yaml``, with another source where one is given.

    The file is untrusted, like a checkpoint: :mod:`birdclf.runs.trust` says which code it may name.

    Args:
        run: The run folder.
        source: Words such as ``data.root=DIR``, or ``data=folder data.root=DIR`` for a source of another kind.
        trusted: Top-level packages that the user trusts.

    Raises:
        UserError: If there is no such file, it cannot be read or names code that is not trusted, or a word is no
            setting of the source.
    """
    config = Run(run).config
    check_names(config, str(run / CONFIG), trusted)
    cfg = OmegaConf.create(config)
    for word in source:
        key, equals, _ = word.partition("=")
        if not equals or not (key == "data" or key.startswith("data.")):
            raise UserError(f"--source {word}: it takes data=KIND and data.KEY=VALUE, such as data.root=DIR.")
    kinds = [word for word in source if word.startswith("data=")]
    if kinds:
        cfg.data = _option(kinds[-1])
    words = [word for word in source if word not in kinds]
    given = OmegaConf.from_dotlist(words)
    for word in words:
        key, _, typed = word.partition("=")
        if OmegaConf.is_missing(cfg.data, key[5:]) or isinstance(OmegaConf.select(cfg, key), str):
            OmegaConf.update(given, key, typed)  # a text, even if it looks like a number
    return DictConfig(OmegaConf.merge(cfg, given))


def built(
    cfg: DictConfig, group: str, kind: type[Kind], run: Path, trusted: Collection[str] = (), **known: Any
) -> Kind:
    """Build an object of a required class from a group of a run's settings.

    Raises:
        UserError: If it is of another kind, is not trusted, or refuses its settings.
    """
    node = OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=True) if group in cfg else None
    return build(node, kind, group, trusted, str(run / "config.yaml"), **known)


def check_preprocessing(cfg: DictConfig, loaded: LoadedRun, run: Path, trusted: Collection[str] = ()) -> None:
    """Refuse settings under which the store would hold other features than the network was trained on.

    Raises:
        UserError: If features or audio differ between ``config.yaml`` and checkpoint.
    """
    trained = {f"features.{name}": value for name, value in loaded.predictor.features.settings.items()}
    trained |= {f"audio.{name}": value for name, value in (loaded.config.get("audio") or {}).items()}
    # The file of a frozen network counts by its hash, and is needed only where the store lacks vectors.
    known = {
        name: value
        for name, value in loaded.features.settings.items()
        if name == "file" or (name in ("content_hash", "width") and OmegaConf.select(cfg.features, name) is None)
    }
    node = OmegaConf.to_container(cfg.features, resolve=True, throw_on_missing=True)
    features = build_features(node, trusted, str(run / "config.yaml"), **known)
    given = {f"features.{name}": value for name, value in features.settings.items()}
    given |= {f"audio.{name}": value for name, value in cfg.audio.items()}
    for name in sorted(trained.keys() | given.keys()):
        if trained.get(name) != given.get(name):
            raise UserError(
                f"{name} is {given.get(name)!r} in {run / 'config.yaml'} and {trained.get(name)!r} in the checkpoint: "
                f"the network was trained on other features than these. Set it back to {trained.get(name)!r}."
            )


def _option(word: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose("train", overrides=[word]).data
    assert isinstance(node, DictConfig)
    return node


NAMED = 5  # of a list of names in a message


@dataclass(frozen=True)
class Recordings:
    """Recordings that a run is evaluated on.

    Attributes:
        source: The catalog, to whose rows the batches point.
        loaders: Batches of each split by its name: val and test, train if requested, or test alone.
        supports: ``(K,)`` recordings of each class: the run's own for train, those of this evaluation for the others.
        own: Whether they are the run's own, in its own splits.
        trained_on: Recordings of another source that sound the same as one of the run's train split.
    """

    source: Catalog
    loaders: Mapping[str, DataLoader[Batch]]
    supports: Mapping[str, NDArray[np.int64]]
    own: bool
    trained_on: int


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

    A source that holds every recording of the run's ``split.csv`` is the run's own, wherever it lies now; ``another``
    allows a different one. ``with_train`` adds the train split of the run's own, in windows as in training.

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
    named = set(class_list(catalog.table, loaded.task))
    if strange := sorted(named - set(loaded.classes)) if len(absent) else []:
        more = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
        raise UserError(
            f"{catalog.name} has species that the run does not know: {', '.join(strange[:NAMED])}{more}. Leave them "
            f"out, such as with --source data.exclude=[…], or name them as the run does."
        )
    store = open_store(catalog, loaded.predictor.features, Path(cfg.store.dir), cfg.store.workers, mix)
    own, trained_on = not len(absent), 0
    own_split = Run(run).split
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
        trained_on = _trained_on(run, split, store.index[usable])
    if unknown := sorted(set(class_list(own_split, loaded.task)) - set(loaded.classes)):
        raise UserError(
            f"{run / 'split.csv'} has species that the checkpoint does not know: {', '.join(unknown[:NAMED])}."
        )
    loaders, supports = {}, {"train": supports_of(own_split, loaded.classes)["train"]}
    for stage in (STAGES if with_train else STAGES[1:]) if own else ("test",):
        rows = catalog.table[stages == stage]
        row, target = np.asarray(rows.index, dtype=np.int64), targets_of(rows, loaded.classes, loaded.task)
        policy, train = (str(cfg.window.train) if stage == "train" else window), stage == "train"
        dataset = WindowDataset(store, row, target, policy, loaded.predictor.features.frames, cfg.seed, apart=train)
        loaders[stage] = DataLoader(
            dataset, batch_size=cfg.loader.batch_size, num_workers=cfg.loader.num_workers, collate_fn=as_fetched
        )
        supports.setdefault(stage, count_classes(target, len(loaded.classes)))
    return Recordings(catalog, loaders, supports, own, trained_on)


def run_catalog(cfg: DictConfig, run: Path, another: bool, trusted: Collection[str]) -> Catalog:
    """Return the catalog of a run's source, or of ``another`` one in its settings.

    Raises:
        UserError: If the split is missing, or the source has moved or cannot be read.
    """
    if not (run / "split.csv").is_file():
        raise UserError(
            f"{run / 'split.csv'} does not exist, so that the run's test recordings are unknown. Restore it."
        )
    try:
        return built(cfg, "data", Catalog, run, trusted)
    except UserError as error:
        if not isinstance(error.__cause__, UserError):
            raise
        message = str(error.__cause__)  # the source's message is clearer
        raise UserError(message if another else f"{message} {_moved(cfg)}") from error


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


def _trained_on(run: Path, split: "pd.Series[str]", index: pd.DataFrame) -> int:
    """Return the number of recordings whose sound equals that of a train recording of the run."""
    audit = read_own(run / "audit.csv", ("recording_id", "audio_hash"))
    train = set(audit.audio_hash[audit.recording_id.map(split.to_dict()) == "train"]) - {""}
    return int(index.audio_hash.isin(train).sum())


@dataclass(frozen=True)
class OpenedRun:
    """A run, opened for evaluation.

    Attributes:
        cfg: Its settings, with the source that is used.
        trainer: With the run's device and precision.
    """

    folder: Path
    cfg: DictConfig
    loaded: LoadedRun
    window: str
    recordings: Recordings
    trainer: pl.Trainer
    settings: Evaluation


def open_run(
    run: Path,
    checkpoint: str = "best",
    window: str | None = None,
    source: Sequence[str] = (),
    trusted: Collection[str] = (),
    with_train: bool = False,
    embedder: Path | None = None,
) -> OpenedRun:
    """Open a run folder; features are computed where the store lacks them.

    Args:
        run: The run folder.
        checkpoint: ``best`` or ``last``.
        window: Which window of a recording is used; None for the run's own choice.
        source: Settings of another source, such as ``data.root=DIR``.
        trusted: Top-level packages beside ``birdclf`` whose code the run folder may name.
        with_train: Whether to add the train split, in windows as in training.
        embedder: Where the file of its frozen network is now, if it has one.

    Raises:
        UserError: If something is missing or does not fit together.
    """
    check_folder(run)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    keep_freed_memory()
    cfg = read_settings(run, source, trusted)
    loaded = load_run(run, checkpoint, trusted, embedder)
    check_preprocessing(cfg, loaded, run, trusted)
    policy = window or str(cfg.window.eval)
    recordings = open_recordings(cfg, run, loaded, policy, bool(source), trusted, with_train)
    trainer = built(
        cfg, "trainer", pl.Trainer, run, trusted, alone=True, callbacks=[], logger=False, default_root_dir=run
    )
    settings = built(cfg, "evaluation", Evaluation, run, trusted)
    return OpenedRun(run, cfg, loaded, policy, recordings, trainer, settings)


def check_folder(run: Path) -> None:
    """Refuse a path that is no folder.

    Raises:
        UserError: If it is not a folder.
    """
    if not run.is_dir():
        raise UserError(f"{run} is no folder. Give the folder of a run, such as outputs/run/2026-01-31_12-00-00.")


def calibration_of(opened: OpenedRun, raw: Mapping[str, AnyPredictions], trusted: Collection[str] = ()) -> Calibration:
    """Return the calibration in the checkpoint, or fit it: a run stores it in its best checkpoint only.

    Raises:
        UserError: If there are no validation recordings to fit it on.
    """
    cfg, loaded, recordings = opened.cfg, opened.loaded, opened.recordings
    if loaded.temperature is not None:
        return Calibration(loaded.adjustment, loaded.temperature)
    posthoc: PostHoc = Unadjusted()
    if "posthoc" in cfg:  # older runs have none
        posthoc = built(cfg, "posthoc", PostHoc, opened.folder, trusted)  # type: ignore[type-abstract]
    if val := raw.get("val"):
        rows = rows_of(loaded.predictor.network, len(loaded.classes))
        counts = recordings.supports["train"]
        prior = None
        if loaded.task == "multi_label":
            examples = int((Run(opened.folder).split.split == "train").sum())
            given = {"class_counts": torch.from_numpy(counts), "examples": examples}
            prior = as_loss(built(cfg, "loss", nn.Module, opened.folder, trusted, **given)).prior_logits
        return fit_calibration(posthoc, val, counts.tolist(), cfg.monitor, rows, prior)
    if posthoc.corrects_prior:
        raise UserError(
            "The logits of this checkpoint are adjusted by validation recordings, which this source has none of. Use "
            "--checkpoint best, which keeps its adjustment."
        )
    return Calibration(None, 1.0)
