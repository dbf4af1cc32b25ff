"""What a run leaves behind once its best weights are known."""

import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch

from birdclf.data.module import RecordingDataModule
from birdclf.evaluation.figures import confusion_figure, per_class_figure
from birdclf.evaluation.metrics import precision_recall_f1
from birdclf.evaluation.predictions import Predictions, per_class_table, write_predictions
from birdclf.training.classifier import SpeciesClassifier
from birdclf.training.tensorboard import RunLogger


def load_weights(classifier: SpeciesClassifier, checkpoint: Path) -> int:
    """Load a checkpoint's weights and return its epoch, from 1; nothing in the file is executed."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    classifier.load_state_dict(content["state_dict"])
    return int(content["epoch"]) + 1


def predict(trainer: pl.Trainer, classifier: SpeciesClassifier, data: RecordingDataModule) -> dict[str, Predictions]:
    """Return predictions for the validation and the test split."""
    loaders = {"val": data.val_dataloader(), "test": data.test_dataloader()}
    batches = trainer.predict(classifier, dataloaders=list(loaders.values()))
    assert batches is not None
    named = data.source.table
    cluster = named.group.where(named.group != "", named.recording_id).to_numpy(dtype=object)
    out = {}
    for stage, parts in zip(loaders, batches, strict=True):
        recording, target, logits = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        ids = named.recording_id.to_numpy(dtype=object)[recording]
        out[stage] = Predictions(ids, target, logits, cluster[recording])
    return out


def write_split(folder: Path, data: RecordingDataModule) -> None:
    """Write ``split.csv``, ``leaks.csv``, and ``audit.csv``: what was found in each recording, and the verdict."""
    columns = ["recording_id", "species", "split"]
    data.table[columns].to_csv(folder / "split.csv", index=False)
    data.leaks().to_csv(folder / "leaks.csv", index=False)
    data.audit.to_csv(folder / "audit.csv", index=False)


def write_results(
    folder: Path,
    data: RecordingDataModule,
    predictions: dict[str, Predictions],
    facts: dict[str, Any],
    logger: RunLogger,
) -> dict[str, Any]:
    """Write metrics, predictions, tables and figures of a run, and return the metrics."""
    train_counts = data.support("train")
    metrics: dict[str, Any] = {stage: p.figures(train_counts) for stage, p in predictions.items()} | facts
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    write_predictions(folder / "predictions.parquet", [p.table(s, data.classes) for s, p in predictions.items()])
    test = predictions["test"]
    supports = {stage: data.support(stage) for stage in ("train", "val", "test")}
    per_class_table(test, data.classes, supports).to_csv(folder / "per_class.csv", index=False)
    names = list(data.classes)
    pd.DataFrame(test.confusion, index=pd.Index(names, name="species"), columns=names).to_csv(
        folder / "confusion_matrix.csv"
    )
    pictures = {
        "confusion_matrix": confusion_figure(test.confusion, data.classes),
        "per_class_f1": per_class_figure(precision_recall_f1(test.confusion)[2], train_counts, supports["test"]),
    }
    for name, picture in pictures.items():
        picture.savefig(folder / f"{name}.png", dpi=110)
    final = {
        f"{stage}_{name}": _value(metrics[stage][name])
        for stage in ("val", "test")
        for name in ("accuracy", "macro_f1", "balanced_accuracy")
    }
    logger.end(final, pictures, epoch=facts["epochs"])
    return metrics


def mark_done(folder: Path, config_hash: str, score: float, monitor: str, began: float) -> None:
    """Write the marker of a finished run, whole, after everything else."""
    content = {"config_hash": config_hash, "monitor": monitor, "score": score, "seconds": time.time() - began}
    temporary = folder / "done.json.tmp"
    temporary.write_text(json.dumps(content, indent=1))
    temporary.rename(folder / "done.json")


def _value(figure: float | dict[str, float]) -> float:
    return float(figure["value"] if isinstance(figure, dict) else np.asarray(figure))
