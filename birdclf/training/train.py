"""One training run, from a configuration to a finished run folder."""

import logging
import time
from pathlib import Path

import lightning.pytorch as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from birdclf.allocator import keep_freed_memory
from birdclf.config import config_hash, plain
from birdclf.errors import UserError
from birdclf.training.building import build_callbacks, build_classifier, build_data, check_settings
from birdclf.training.checkpoint import load_weights
from birdclf.training.outcome import mark_done, write_beginning, write_results
from birdclf.training.projector import ClipEmbedder
from birdclf.training.results import predict
from birdclf.training.summary import print_results

log = logging.getLogger(__name__)

NOT_HYPERPARAMETERS = (
    *("name", "run_dir", "callbacks", "logger", "store", "reference", "channels_last", "evaluation", "criteria"),
)


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
    check_settings(cfg)
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
        callbacks, checkpoint = build_callbacks(cfg)
        trainer: pl.Trainer = instantiate(
            cfg.trainer, callbacks=callbacks, logger=logger, default_root_dir=folder, _convert_="all"
        )
        write_beginning(folder, config, data)
        logger.begin({key: value for key, value in config.items() if key not in NOT_HYPERPARAMETERS})
        parameters = sum(p.numel() for p in classifier.network.parameters())
        network = type(classifier.network).__name__
        log.info("%s: %s parameters, %s precision", network, f"{parameters:,}", trainer.precision)

        trainer.fit(classifier, datamodule=data)
        if trainer.interrupted:
            raise KeyboardInterrupt
        assert checkpoint.best_model_score is not None
        score, best = float(checkpoint.best_model_score), Path(checkpoint.best_model_path)
        facts = {
            "monitor": cfg.monitor,
            "score": score,
            "best_epoch": load_weights(classifier, best),
            "epochs": trainer.current_epoch,
            "parameters": parameters,
            "classes": len(data.classes),
            "reference": config["reference"],
        }
        loaders = {"val": data.val_dataloader(), "test": data.test_dataloader()}
        embedder = ClipEmbedder(data)
        if logger.embeddings:
            trainer.callbacks.append(embedder)  # type: ignore[attr-defined]
        predictions = predict(trainer, classifier, loaders, data.source.table)
        metrics = write_results(folder, data, predictions, instantiate(cfg.evaluation), facts, best, logger)
        if (clips := embedder.embeddings()) is not None:
            logger.project(clips, epoch=trainer.current_epoch)
    finally:
        logger.close()
    mark_done(folder, config_hash(config), score, cfg.monitor, began)
    print_results(metrics, folder)
    return score
