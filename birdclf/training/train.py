"""One training run, from a configuration to a finished run folder."""

import logging
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from birdclf.config import config_hash, flat_settings, resolved_config
from birdclf.cores import NEIGHBOURS
from birdclf.data.dataset import Part
from birdclf.data.module import RecordingDataModule
from birdclf.environment import keep_freed_memory
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import VectorFeatures
from birdclf.files import writing_to
from birdclf.models.head import output_layer
from birdclf.models.image_network import ImageNetwork
from birdclf.runs.checkpoint import load_weights
from birdclf.runs.predictor import predict
from birdclf.runs.results import fit_calibration, print_results, rows_of
from birdclf.runs.run import Run
from birdclf.runs.state import check_same, finished_score, lock_run, remove_failure
from birdclf.text import printable
from birdclf.training.build import build_callbacks, build_classifier, build_data, build_of, trainer_of
from birdclf.training.callbacks.rate_finder import check_finder, suggest_rate
from birdclf.training.callbacks.snapshot import Progress, ending, latest
from birdclf.training.check import check_settings
from birdclf.training.closed_form import ClosedForm
from birdclf.training.loggers import ClipEmbedder, build_loggers
from birdclf.training.module import SpeciesClassifier
from birdclf.training.original import check_original, compare
from birdclf.training.processes import (
    TIMEOUT_S,
    Group,
    be_silent,
    code_hash,
    connected,
    disconnect,
    first_value,
    group_of,
    processes,
    run_processes,
)
from birdclf.training.results import check_unchanged, mark_done, split_hash, write_beginning, write_results
from birdclf.training.start import check_frozen, report, report_loaded
from birdclf.training.trainer import fast_precision

log = logging.getLogger(__name__)

INTERRUPTED = 1  # status that Lightning leaves with after Ctrl-C
NOT_HYPERPARAMETERS = (
    *("name", "run_dir", "callbacks", "logger", "store", "reference", "channels_last", "evaluation", "criteria"),
    *("resume", "fail_fast", "members", "allow", "lr_find", "pictures", "original"),
)


def train(cfg: DictConfig, resume: bool = False) -> float:
    """Train once and leave a complete run folder.

    Args:
        cfg: Composed ``conf/train.yaml``.
        resume: Whether to resume the unfinished run that the folder may hold.

    Returns:
        Best value of the monitored metric, after a post-hoc adjustment its value then; with ``lr_find`` the suggested
        rate, and nothing is trained.

    Raises:
        UserError: If a setting or the data cannot be used, the run folder holds a run already and ``resume`` is not
            set, it holds one of other settings, or it cannot be written to.
        BusyError: If another process trains in the run folder.
    """
    for name in ("pytorch", "fabric"):  # they repeat what train.log says, and advertise
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    check_settings(cfg)
    if cfg.lr_find:
        check_finder(cfg)
    folder = Path(cfg.run_dir)
    way = (
        f"the same command with hydra.run.dir={folder} resume=true, or the same sweep launched again, resumes from the "
        f"last snapshot."
    )
    group = group_of(cfg.trainer)
    if group.count > 1 and group.environment is None:
        return run_processes(group, train, cfg, resume)
    connect = trainer_of(cfg, [], logger=False).strategy.setup_environment
    with connected(group, connect, cfg.trainer.get("timeout_s", TIMEOUT_S)):
        done = finished_score(folder, resolved_config(cfg)) if resume and group.count > 1 and not group.rank else None
        alike = flat_settings(resolved_config(cfg)) | {"code": code_hash(), "version of torch": torch.__version__}
        if (score := first_value({"score": done}, alike)["score"]) is not None:
            if not group.rank:
                log.info("%s is finished: %s %.4f", folder, cfg.monitor, score)
            return float(score)
        if group.rank:
            follow(cfg, group)
            return math.nan
        with writing_to(folder, way):
            folder.mkdir(parents=True, exist_ok=True)
            with lock_run(folder):
                remove_failure(folder)
                return _train(cfg, folder, resume)


def _train(cfg: DictConfig, folder: Path, resume: bool) -> float:
    began, config, run = time.monotonic(), resolved_config(cfg), Run(folder)
    progress = _progress(run, config, resume)
    chosen, why = fast_precision(cfg.trainer.accelerator)
    if cfg.trainer.precision == "auto":
        log.info("trainer.precision=auto is %s: %s; evaluation is in float32", chosen, why)
    keep_freed_memory()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    data = build_data(cfg)
    data.prepare()
    log.info("%s", printable(data.summary(), keep="\n"))
    if isinstance(data.features, VectorFeatures) and data.features.licence:
        log.info("the weights of the frozen network have the licence %s", printable(data.features.licence))
    first_value(
        {"checkpoint": str(progress.path) if progress else None, "ended": bool(progress and progress.ending)},
        {"recordings": split_hash(data.table)},
    )
    classifier, transfer = build_classifier(cfg, data, begins=progress is None)
    if progress is None and isinstance(classifier.network, ImageNetwork) and classifier.network.loaded:
        report_loaded(classifier.network.loaded, cfg.model.pretrained, folder)
    if transfer is not None:
        report(transfer, data.features.settings, data.table, folder)
        check_frozen(classifier.network, transfer, len(data.classes))
    if cfg.init is not None and progress is None:
        build_of(ClosedForm, cfg.init, "init").start(classifier, data)  # type: ignore[type-abstract]
    if progress is None and cfg.original is not None:
        width = output_layer(classifier.network, len(data.classes)).in_features
        compare(classifier, data, check_original(instantiate(cfg.original), data.features, width), folder)
    if cfg.lr_find:
        return suggest_rate(cfg, folder, classifier, data)
    logger = build_loggers(cfg.logger, (progress.epoch + 1 if progress else 1) if run.begun else None)
    try:
        callbacks = build_callbacks(cfg)
        trainer = trainer_of(cfg, callbacks.values(), list(logger))
        parameters = sum(p.numel() for p in classifier.network.parameters())
        network = type(classifier.network).__name__
        log.info("%s: %s parameters, %s precision", network, f"{parameters:,}", trainer.precision)
        alone_on_cpu = processes() == 1 and trainer.strategy.root_device.type == "cpu"
        if alone_on_cpu and (remedy := NEIGHBOURS.remedy(torch.get_num_threads())):
            log.warning("%s", remedy)
        if progress is None:
            write_beginning(folder, config, data, trainer.precision)
            logger.begin({key: value for key, value in config.items() if key not in NOT_HYPERPARAMETERS})
        else:
            check_unchanged(run, data, cfg.init_from)
            log.info("resuming after epoch %d, %.0f s of training", progress.epoch, progress.seconds)
        ended = progress.ending if progress and progress.ending else fit(trainer, classifier, data, progress)
        best = folder / "checkpoints" / ended["best"]
        disconnect()
        facts = {
            "monitor": cfg.monitor,
            "score": ended["score"],
            "best_epoch": load_weights(classifier, best),
            "epochs": ended["epochs"],
            "parameters": parameters,
            "classes": len(data.classes),
            "reference": config["reference"],
        }
        embedder = ClipEmbedder(data)
        watching = [callback for callback in callbacks.values() if isinstance(callback, ProgressBar)]
        judge = trainer_of(cfg, [*watching, *([embedder] if logger.embeddings else [])], logger=False, alone=True)
        loaders = {"val": data.val_dataloader(), "test": data.test_dataloader()}
        predictions = predict(judge, classifier, loaders, data.source.table)
        rows = rows_of(classifier.network, len(data.classes))
        posthoc, counts = instantiate(cfg.posthoc), data.class_counts.tolist()
        prior = classifier.loss.prior_logits
        calibration = fit_calibration(posthoc, predictions["val"], counts, cfg.monitor, rows, prior)
        metrics = write_results(
            folder, data, predictions, instantiate(cfg.evaluation), facts, best, logger, calibration, cfg.pictures
        )
        if (clips := embedder.embeddings()) is not None:
            logger.project(clips, epoch=ended["epochs"])
        seconds = time.monotonic() - began + (progress.seconds if progress else 0.0)
        mark_done(folder, config_hash(config), metrics["score"], cfg.monitor, seconds)
    finally:
        logger.close()
    print_results(metrics, folder)
    return float(metrics["score"])


def follow(cfg: DictConfig, group: Group) -> None:
    """Train as one of several processes that is not the first, and write nothing."""
    be_silent()
    keep_freed_memory()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = build_data(cfg)
    data.prepare()
    first = first_value({}, {"recordings": split_hash(data.table)})
    if first["ended"]:
        return
    classifier, _ = build_classifier(cfg, data, begins=first["checkpoint"] is None)
    trainer = trainer_of(cfg, build_callbacks(cfg).values(), logger=False)
    data.part = Part(group.rank, group.count)
    trainer.fit(classifier, datamodule=data, ckpt_path=first["checkpoint"], weights_only=True)


def _progress(run: Run, config: dict[str, Any], resume: bool) -> Progress | None:
    """Return the progress of the run in a folder, None for a new one; refuse a run that must not resume."""
    if not run.begun:
        return None
    check_same(run, config)
    if not resume:
        raise UserError(
            f"{run.folder} holds a run already; nothing is overwritten. Choose another hydra.run.dir, or resume it by "
            f"resume=true."
        )
    progress = latest(run.folder / "checkpoints")
    if progress is not None and progress.ending is None and progress.processes != processes():
        raise UserError(
            f"{run.folder} was trained by {progress.processes} processes, and {processes()} would resume it. Start as "
            f"many as before."
        )
    return progress


def fit(
    trainer: pl.Trainer,
    classifier: SpeciesClassifier,
    data: RecordingDataModule,
    progress: Progress | None,
) -> dict[str, Any]:
    """Train to the end and return how it ended, see :func:`ending`."""
    count = processes()
    if (clips := int(data.support("val").sum())) < count:
        raise UserError(f"{count} processes train, but the val split has {clips} recordings to share. Use fewer.")
    data.part = Part(0, count)
    try:
        checkpoint = progress.path if progress else None
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as leaving:  # Lightning's response to a signal
        kept = latest(Path(trainer.default_root_dir) / "checkpoints")
        log.info(
            "stopped; resume=true, or the same sweep launched again, %s",
            "resumes from the last snapshot" if kept else "begins again, since no snapshot had been written",
        )
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
    """Warn of a phase of loss or sampler that training never reached."""
    assert trainer.max_epochs is not None
    for part in (classifier.loss, data.sampler):
        if what := part.cut_short(trainer.current_epoch, trainer.max_epochs):
            early = trainer.current_epoch < trainer.max_epochs
            way = " Let it last by callbacks.early_stopping.patience, or give callbacks.early_stopping=null."
            said = "training ended after %d of %d epochs, so that %s.%s"
            log.warning(said, trainer.current_epoch, trainer.max_epochs, what, way if early else "")
