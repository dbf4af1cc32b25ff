"""One training run, from a configuration to a finished run folder."""

import dataclasses
import logging
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

from birdclf.allocator import keep_freed_memory
from birdclf.config import FALLS, TrainConfig, config_hash, plain
from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.training.classifier import SpeciesClassifier
from birdclf.training.outcome import load_weights, mark_done, predict, write_results, write_split
from birdclf.training.summary import print_results

log = logging.getLogger(__name__)

MONITORED = ("accuracy", "macro_f1", "macro_f1_evaluable", "weighted_f1", "balanced_accuracy", *FALLS)
NOT_HYPERPARAMETERS = ("name", "run_dir", "callbacks", "logger", "store", "reference", "channels_last")


def train(cfg: DictConfig) -> float:
    """Train once and leave a complete run folder.

    Args:
        cfg: Composed ``conf/train.yaml``.

    Returns:
        Best value of the monitored metric.

    Raises:
        UserError: If a setting or the data cannot be used, or the run folder holds a run already.
    """
    began = time.time()
    config = plain(cfg)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it repeats what train.log says, and advertises
    _check_settings(cfg)
    folder = Path(cfg.run_dir)
    if (folder / "split.csv").exists():
        raise UserError(f"{folder} holds a run already; nothing is overwritten. Choose another hydra.run.dir.")
    folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    data = build_data(cfg)
    data.prepare()
    log.info(data.summary())
    classifier = build_classifier(cfg, data)
    logger = instantiate(cfg.logger)
    try:
        callbacks = [instantiate(callback) for callback in cfg.callbacks.values() if callback is not None]
        checkpoint = _the_checkpoint(callbacks)
        trainer: pl.Trainer = instantiate(
            cfg.trainer, callbacks=callbacks, logger=logger, default_root_dir=folder, _convert_="all"
        )
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
        write_split(folder, data)
        logger.begin({key: value for key, value in config.items() if key not in NOT_HYPERPARAMETERS})
        parameters = sum(p.numel() for p in classifier.network.parameters())
        network = type(classifier.network).__name__
        log.info("%s: %s parameters, %s precision", network, f"{parameters:,}", trainer.precision)

        trainer.fit(classifier, datamodule=data)
        if trainer.interrupted:
            raise KeyboardInterrupt
        epochs = trainer.current_epoch
        assert checkpoint.best_model_score is not None
        score = float(checkpoint.best_model_score)
        best_epoch = load_weights(classifier, Path(checkpoint.best_model_path))
        predictions = predict(trainer, classifier, data)
        facts = {
            "monitor": cfg.monitor,
            "score": score,
            "best_epoch": best_epoch,
            "epochs": epochs,
            "parameters": parameters,
            "classes": len(data.classes),
            "reference": config["reference"],
        }
        metrics = write_results(folder, data, predictions, facts, logger)
    finally:
        logger.close()
    mark_done(folder, config_hash(config), score, cfg.monitor, began)
    print_results(metrics, folder)
    return score


def build_data(cfg: DictConfig) -> RecordingDataModule:
    """Return the data module of a configuration, not yet prepared."""
    return RecordingDataModule(
        catalog=instantiate(cfg.data),
        features=instantiate(cfg.features),
        split=instantiate(cfg.split),
        window=instantiate(cfg.window),
        audio=instantiate(cfg.audio),
        audit=instantiate(cfg.audit),
        batch_size=cfg.loader.batch_size,
        num_workers=cfg.loader.num_workers,
        store_dir=cfg.store.dir,
        store_workers=cfg.store.workers,
        seed=cfg.seed,
    )


def build_classifier(cfg: DictConfig, data: RecordingDataModule) -> SpeciesClassifier:
    """Return the classifier of a configuration for prepared data."""
    network = instantiate(cfg.model, num_classes=len(data.classes), in_channels=data.features.shape[0])
    loss = instantiate(cfg.loss, class_counts=data.class_counts)
    return SpeciesClassifier(
        network=network,
        loss=loss,
        features=data.features,
        classes=data.classes,
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
        monitor=cfg.monitor,
        channels_last=cfg.channels_last,
        config=plain(cfg),
    )


def _check_settings(cfg: DictConfig) -> None:
    """Build what can be built for two classes, so that a wrong setting is refused before any sound is read."""
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    unknown = [str(key) for key in cfg if key not in known]
    if unknown:
        raise UserError(f"There is no setting {unknown[0]!r}. The top level has {', '.join(known)}.")
    _check_monitor(cfg.monitor)
    shape = instantiate(cfg.features).shape
    network = instantiate(cfg.model, num_classes=2, in_channels=shape[0])
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape))
    except RuntimeError as error:
        raise UserError(
            f"model: {type(network).__name__} cannot take features of shape {tuple(shape)} (channels, "
            f"coefficients, frames): {error}. Choose another model or larger features.*."
        ) from error
    instantiate(cfg.loss, class_counts=torch.tensor([2, 1]))
    try:
        optimizer = instantiate(cfg.optimizer)(network.parameters())
    except (TypeError, ValueError) as error:
        raise UserError(f"The optimizer refuses its settings (optimizer.*): {error}") from error
    try:
        instantiate(cfg.scheduler)(optimizer)
    except (TypeError, ValueError) as error:
        raise UserError(f"The schedule refuses its settings (scheduler.*): {error}") from error
    instantiate(cfg.split)
    instantiate(cfg.window)
    instantiate(cfg.audio)
    instantiate(cfg.audit)
    instantiate(cfg.trainer, callbacks=[], logger=False, default_root_dir=Path(cfg.run_dir), _convert_="all")


def _check_monitor(monitor: str) -> None:
    allowed = [f"val/{name}" for name in MONITORED]
    if monitor not in allowed:
        why = " A weighted or focal loss is no measure across losses; val/nll is." if monitor == "val/loss" else ""
        raise UserError(f"monitor is {monitor!r}; it must be one of {', '.join(allowed)}.{why}")


def _the_checkpoint(callbacks: list[pl.Callback]) -> ModelCheckpoint:
    found = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    if len(found) != 1:
        raise UserError(
            f"callbacks has {len(found)} ModelCheckpoint callbacks; exactly 1 is needed, to decide the best weights."
        )
    return found[0]
