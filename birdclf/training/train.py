"""One training run, from a configuration to a finished run folder."""

import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from birdclf.config import config_hash, plain
from birdclf.data.dataset import Part
from birdclf.data.module import RecordingDataModule
from birdclf.environment import keep_freed_memory
from birdclf.errors import UserError
from birdclf.files import writing_to
from birdclf.runs.checkpoint import load_weights
from birdclf.runs.fitted import fit_on_validation, rows_of
from birdclf.runs.predictor import predict
from birdclf.runs.state import CONFIG, begun, check_same, forget_failure, held
from birdclf.runs.summary import print_results
from birdclf.text import shown
from birdclf.training.build import build_callbacks, build_classifier, build_data, check_settings
from birdclf.training.callbacks.rate_finder import STEPS, RangeTest, check_finder, find_rate, write_finding
from birdclf.training.callbacks.snapshot import Progress, ending, latest
from birdclf.training.loggers import ClipEmbedder, build_loggers
from birdclf.training.module import SpeciesClassifier
from birdclf.training.results import check_data, check_start, mark_done, write_beginning, write_results
from birdclf.training.trainer import process_count
from birdclf.training.workers import fit, worker_processes

log = logging.getLogger(__name__)

INTERRUPTED = 1  # status that Lightning leaves with after Ctrl-C
NOT_HYPERPARAMETERS = (
    *("name", "run_dir", "callbacks", "logger", "store", "reference", "channels_last", "evaluation", "criteria"),
    *("resume", "fail_fast", "members", "allow", "lr_find"),
)


def train(cfg: DictConfig, resume: bool = False) -> float:
    """Train once and leave a complete run folder.

    Args:
        cfg: Composed ``conf/train.yaml``.
        resume: Whether to go on with the unfinished run that the folder may hold.

    Returns:
        Best value of the monitored metric, after a post-hoc adjustment its value then; with ``lr_find`` the suggested
        rate, and nothing is trained.

    Raises:
        UserError: If a setting or the data cannot be used, the run folder holds a run already and ``resume`` is not
            set, it holds one of other settings, or it cannot be written to.
        BusyError: If another process trains in the run folder.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it repeats what train.log says, and advertises
    check_settings(cfg)
    if cfg.lr_find:
        check_finder(cfg)
    folder = Path(cfg.run_dir)
    way = (
        f"the same command with hydra.run.dir={folder} resume=true, or the same sweep launched again, goes on from the "
        f"last snapshot."
    )
    with writing_to(folder, way):
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            forget_failure(folder)
            return _train(cfg, folder, resume)


def _train(cfg: DictConfig, folder: Path, resume: bool) -> float:
    began, config = time.monotonic(), plain(cfg)
    progress = _progress(folder, config, resume)
    keep_freed_memory()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    data = build_data(cfg)
    data.prepare()
    log.info("%s", shown(data.summary(), keep="\n"))
    classifier = build_classifier(cfg, data, begins=progress is None, folder=folder)
    if cfg.lr_find:
        return _find_rate(cfg, folder, classifier, data)
    stopped = (folder / CONFIG).is_file()
    logger = build_loggers(cfg.logger, (progress.epoch + 1 if progress else 1) if stopped else None)
    try:
        callbacks = build_callbacks(cfg)
        trainer: pl.Trainer = instantiate(
            cfg.trainer, callbacks=callbacks, logger=list(logger), default_root_dir=folder, _convert_="all"
        )
        parameters = sum(p.numel() for p in classifier.network.parameters())
        network = type(classifier.network).__name__
        log.info("%s: %s parameters, %s precision", network, f"{parameters:,}", trainer.precision)
        if progress is None:
            write_beginning(folder, config, data)
            logger.begin({key: value for key, value in config.items() if key not in NOT_HYPERPARAMETERS})
        else:
            check_data(folder, data)
            check_start(folder, cfg.init_from)
            log.info("going on after epoch %d, %.0f s of training", progress.epoch, progress.seconds)
        ended = progress.ending if progress and progress.ending else _fit(trainer, classifier, data, progress, config)
        best = folder / "checkpoints" / ended["best"]
        facts = {
            "monitor": cfg.monitor,
            "score": ended["score"],
            "best_epoch": load_weights(classifier, best),
            "epochs": ended["epochs"],
            "parameters": parameters,
            "classes": len(data.classes),
            "reference": config["reference"],
        }
        loaders = {"val": data.val_dataloader(), "test": data.test_dataloader()}
        embedder = ClipEmbedder(data)
        judge = instantiate(
            cfg.trainer, alone=True, callbacks=[*_bars(callbacks), *([embedder] if logger.embeddings else [])],
            logger=False, default_root_dir=folder, _convert_="all",
        )  # fmt: skip
        predictions = predict(judge, classifier, loaders, data.source.table)
        posthoc, counts = instantiate(cfg.posthoc), data.class_counts.tolist()
        rows = rows_of(classifier.network, len(data.classes))
        fitted = fit_on_validation(posthoc, predictions["val"], counts, cfg.monitor, rows)
        metrics = write_results(folder, data, predictions, instantiate(cfg.evaluation), facts, best, logger, fitted)
        if (clips := embedder.embeddings()) is not None:
            logger.project(clips, epoch=ended["epochs"])
        seconds = time.monotonic() - began + (progress.seconds if progress else 0.0)
        mark_done(folder, config_hash(config), metrics["score"], cfg.monitor, seconds)
    finally:
        logger.close()
    print_results(metrics, folder)
    return float(metrics["score"])


def _find_rate(cfg: DictConfig, folder: Path, classifier: SpeciesClassifier, data: RecordingDataModule) -> float:
    """Suggest a rate for a training that is not begun here."""
    test = RangeTest()
    trainer = instantiate(
        cfg.trainer, callbacks=[test], logger=False, default_root_dir=folder, max_epochs=STEPS * 1000, max_steps=STEPS,
        limit_val_batches=0, enable_checkpointing=False, _convert_="all",
    )  # fmt: skip
    rate, table = find_rate(trainer, test, classifier, data)
    logger = build_loggers(cfg.logger)
    try:
        write_finding(folder, rate, table, logger)
    finally:
        logger.close()
    return rate


def _progress(folder: Path, config: dict[str, Any], resume: bool) -> Progress | None:
    """Return how far the run in a folder got, or None for one that is to begin; refuse one that must not go on."""
    earlier = begun(folder)
    if earlier is None:
        return None
    check_same(folder, config, earlier)
    if not resume:
        raise UserError(
            f"{folder} holds a run already; nothing is overwritten. Choose another hydra.run.dir, or go on with it by "
            f"resume=true."
        )
    return latest(folder / "checkpoints")


def _fit(
    trainer: pl.Trainer,
    classifier: SpeciesClassifier,
    data: RecordingDataModule,
    progress: Progress | None,
    config: dict[str, Any],
) -> dict[str, Any]:
    """Train to the end and return how it ended."""
    checkpoint = progress.path if progress else None
    count = process_count(config["trainer"]["devices"])
    if (held_out := int(data.support("val").sum())) < count:
        raise UserError(f"trainer.devices is {count}, but the val split has {held_out} recordings to share. Use fewer.")
    data.part = Part(0, count)
    try:
        with worker_processes(count, config, checkpoint):
            fit(trainer, classifier, data, checkpoint)
    except SystemExit as leaving:  # Lightning's word for a signal
        log.info("stopped; resume=true, or the same sweep launched again, goes on from the last snapshot")
        if isinstance(leaving, SIGTERMException):
            sys.exit(128 + signal.SIGTERM)
        if leaving.code != INTERRUPTED:  # a queue takes the job back, and reads the status
            raise
        raise KeyboardInterrupt from None
    finally:
        data.part = Part()
    _warn_if_cut_short(trainer, classifier, data)
    return ending(trainer)


def _warn_if_cut_short(trainer: pl.Trainer, classifier: SpeciesClassifier, data: RecordingDataModule) -> None:
    """Say what of a loss or a sampler that follows the epochs never came, because training ended early."""
    assert trainer.max_epochs is not None
    for part in (classifier.loss, data.sampler):
        if what := part.cut_short(trainer.current_epoch, trainer.max_epochs):
            early = trainer.current_epoch < trainer.max_epochs
            way = " Let it last by callbacks.early_stopping.patience, or give callbacks.early_stopping=null."
            said = "training ended after %d of %d epochs, so that %s.%s"
            log.warning(said, trainer.current_epoch, trainer.max_epochs, what, way if early else "")


def _bars(callbacks: list[pl.Callback]) -> list[pl.Callback]:
    return [callback for callback in callbacks if isinstance(callback, ProgressBar)]
