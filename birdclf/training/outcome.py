"""What a run writes when it begins, and what it leaves behind once its best weights are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from birdclf.catalog.tables import csv_text
from birdclf.data.module import RecordingDataModule
from birdclf.disk import write_whole
from birdclf.errors import UserError
from birdclf.evaluation.predictions import Predictions
from birdclf.evaluation.settings import Evaluation
from birdclf.run_folder import CONFIG, DONE
from birdclf.training.checkpoint import keep_fitted
from birdclf.training.fitted import Fitted, plain
from birdclf.training.provenance import split_hash, write_provenance
from birdclf.training.results import write_tables
from birdclf.training.start import file_hash, source_file
from birdclf.training.tensorboard import RunLogger


def write_beginning(folder: Path, config: dict[str, Any], data: RecordingDataModule) -> None:
    """Write what is known before training.

    That is ``provenance.json``, ``split.csv``, ``leaks.csv``, and ``audit.csv``: what was found in each recording, and
    the verdict. ``config.yaml`` comes last: where it is, the run has begun.
    """
    write_provenance(folder, data.source, data.table, config["seed"], config["init_from"])
    for name, table in (
        ("split.csv", data.table[["recording_id", "species", "split"]]),
        ("leaks.csv", data.leaks()),
        ("audit.csv", data.audit),
    ):
        write_whole(folder / name, csv_text(table))
    write_whole(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))


def check_data(folder: Path, data: RecordingDataModule) -> None:
    """Refuse to go on with a run whose source gives other recordings now.

    Raises:
        UserError: If a recording was added, removed or changed, or falls into another split.
    """
    try:
        began_with = json.loads((folder / "provenance.json").read_text())
        same = (began_with["catalog"]["content_hash"], began_with["split_hash"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / 'provenance.json'} cannot be read, so that the run cannot go on.") from error
    if same != (data.source.content_hash, split_hash(data.table)):
        raise UserError(
            f"{folder} began with other recordings than {data.source.name} gives now; going on would mix the two. "
            f"Bring them back, or choose another folder."
        )


def check_start(folder: Path, init_from: str | None) -> None:
    """Refuse to go on with a run that began with other weights than ``init_from`` holds now.

    A file that is gone is no longer needed.

    Raises:
        UserError: If its content has changed.
    """
    if init_from is None:
        return
    try:
        began_with = json.loads((folder / "provenance.json").read_text())["init_from"]["content_hash"]
        now = file_hash(source_file(init_from))
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return
    if began_with != now:
        raise UserError(
            f"{folder} began with other weights than init_from={init_from} holds now. Bring that file back, remove it, "
            f"or choose another folder."
        )


def write_results(
    folder: Path,
    data: RecordingDataModule,
    predictions: dict[str, Predictions],
    settings: Evaluation,
    facts: dict[str, Any],
    checkpoint: Path,
    logger: RunLogger,
    fitted: Fitted,
) -> dict[str, Any]:
    """Keep what was fitted in the checkpoint, write and log metrics, tables and pictures, all of them adjusted.

    Returns:
        The metrics.
    """
    keep_fitted(checkpoint, fitted.temperature, plain(fitted.adjustment) if fitted.adjustment else None)
    metrics = fitted.metrics(predictions, data.support("train"), settings) | facts
    if fitted.adjustment:
        metrics["score"] = _value(metrics["val"][facts["monitor"].removeprefix("val/")])
    write_whole(folder / "metrics.json", json.dumps(metrics, indent=1))
    supports = {stage: data.support(stage) for stage in ("train", "val", "test")}
    adjusted, temperature = fitted.adjusted(predictions), fitted.temperature
    pictures = write_tables(folder, adjusted, data.classes, supports, settings, temperature)
    final = {
        f"{stage}_{name}": _value(metrics[stage][name])
        for stage in ("val", "test")
        for name in ("accuracy", "macro_f1", "balanced_accuracy")
    }
    logger.end(final, pictures, epoch=facts["epochs"])
    return metrics


def mark_done(folder: Path, config_hash: str, score: float, monitor: str, seconds: float) -> None:
    """Write the marker of a finished run, whole, after everything else."""
    content = {"config_hash": config_hash, "monitor": monitor, "score": score, "seconds": seconds}
    write_whole(folder / DONE, json.dumps(content, indent=1))


def _value(figure: float | dict[str, float]) -> float:
    return float(figure["value"] if isinstance(figure, dict) else np.asarray(figure))
