"""Run folders without a training: as many recordings, species and seeds as a test of the report wants."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from birdclf.data.sources.synthetic import synthetic_catalog
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.label_predictions import AnyPredictions, LabelPredictions
from birdclf.metrics.predictions import Predictions
from birdclf.report.configurations import Configuration, configurations
from birdclf.runs.run import LeftOut, find_runs, read_runs
from birdclf.targets import HEADLINES, Task

AVIARY_SCALE = 0.02
AVIARY = {"_target_": "birdclf.data.sources.synthetic.synthetic_catalog", "scale": AVIARY_SCALE}
MODELS = {"audio_cnn": 343_801, "audio_cnn_v2": 4_222_041}
CRITERIA = {
    "goals": [
        {"name": "accurate", "metric": "test/accuracy", "above": 0.05},
        {"name": "impossible", "metric": "macro_f1", "above": 0.9999},
        {"name": "better", "metric": "accuracy", "beats": "audio_cnn cross_entropy"},
        {"name": "stable", "metric": "accuracy", "spread_below": 0.5},
        {"name": "unknown", "metric": "test/beauty", "above": 1},
    ],
    "stretch": [{"metric": "test/few_f1", "above": 0.001}],
}
REFERENCE = {"test": {"accuracy": 0.395}, "epochs": 23}


def species_names(classes: int) -> list[str]:
    return [f"species {k:02d}" for k in range(classes)]


def write_run(
    folder: Path,
    skill: float = 0.6,
    seed: int = 1,
    classes: int = 8,
    clips: int = 160,
    epochs: int = 6,
    model: str = "audio_cnn",
    loss: str = "cross_entropy",
    data_seed: int | None = None,
    overrides: tuple[str, ...] = (),
    fraction: float = 1.0,
    task: Task = "single_label",
    **config: Any,
) -> Path:
    """Write a run that is right in a share ``skill`` of its clips, more often for frequent species.

    Args:
        folder: Where to write it.
        skill: Share of right answers, about.
        seed: Seed of the run, which also decides its split.
        classes: K.
        clips: Test clips, and validation clips.
        epochs: Rows of the history.
        model: Name in the overrides and in the configuration.
        loss: The same.
        data_seed: Seed of recordings and split, that of the run if None.
        overrides: Set on the command line beside model, loss and seed.
        fraction: Share of the train recordings that is kept, as ``split.train_fraction``.
        task: Of ``multi_label`` a test clip has up to three species, and none in every fifth.
        **config: Further top-level keys of the configuration.
    """
    names, data = species_names(classes), np.random.default_rng(seed if data_seed is None else data_seed)
    rng = np.random.default_rng([seed, round(1000 * skill), *f"{model} {loss}".encode()])
    train = np.maximum(2, (300 * np.arange(1, classes + 1) ** -1.6).astype(int))
    frequency, kept = train / train.sum(), np.ceil(fraction * train).astype(int)
    tables, metrics = [], {}
    rows = [(f"train{k}_{i}", names[k], "train") for k in range(classes) for i in range(kept[k])]
    sets = [[species] for _, species, _ in rows]
    for split in ("val", "test"):
        target = data.choice(classes, size=clips, p=frequency)
        ids = np.array(
            [f"{split}{i:05d}_{seed if data_seed is None else data_seed}" for i in range(clips)], dtype=object
        )
        logits = rng.normal(0, 1, (clips, classes)).astype(np.float32)
        right = rng.random(clips) < skill
        answer = np.where(right, target, rng.integers(0, classes, clips))
        logits[np.arange(clips), answer] = logits.max(axis=1) + rng.uniform(0.1, 6, clips)
        predictions: AnyPredictions = Predictions(ids, target, logits, ids)
        labels = [[names[k]] for k in target]
        if task == "multi_label":
            several = data.random((clips, classes)) < 0.1
            several[np.arange(clips), target] = True
            several[::5] = False
            logits = rng.normal(-2, 1, (clips, classes)).astype(np.float32)
            logits += 4 * np.where(rng.random((clips, classes)) < skill, several, rng.random((clips, classes)) < 0.1)
            predictions = LabelPredictions(ids, several.astype(np.int8), logits, ids, np.full(clips, 5.0))
            labels = [[names[k] for k in np.flatnonzero(row)] for row in several]
        metrics[split] = predictions.figures(kept, Evaluation(draws=100))
        tables.append(predictions.table(split, tuple(names)))
        rows += [(name, names[k], split) for name, k in zip(ids, target, strict=True)]
        sets += labels
    folder.mkdir(parents=True)
    if fraction < 1:
        config = {"split": {"train_fraction": fraction}} | config
        gone = [(f"train{k}_{i}", names[k]) for k in range(classes) for i in range(kept[k], train[k])]
        pd.DataFrame(gone, columns=["recording_id", "species"]).to_csv(folder / "left_out.csv", index=False)
    pd.concat(tables, ignore_index=True).to_parquet(folder / "predictions.parquet")
    told = pd.DataFrame(rows, columns=["recording_id", "species", "split"])
    if task == "multi_label":
        told["labels"] = [json.dumps(each) for each in sets]
    told.to_csv(folder / "split.csv", index=False)
    headline = next(iter(HEADLINES[task]))
    accuracy, monitor = metrics["val"][headline]["value"], f"val/{headline}"
    facts = {"monitor": monitor, "score": accuracy, "best_epoch": epochs, "epochs": epochs}
    facts |= {"parameters": MODELS[model], "classes": classes, "reference": config.get("reference")}
    (folder / "metrics.json").write_text(json.dumps(metrics | facts))
    (folder / "history.json").write_text(json.dumps(_history(epochs, accuracy, headline)))
    (folder / "done.json").write_text(json.dumps({"seconds": 600.0, "score": accuracy, "monitor": monitor}))
    whole = {"name": "made_up", "seed": seed, "monitor": monitor, "task": task, "model": {"_target_": model}}
    whole |= {"loss": {"_target_": loss}, "data": {"_target_": "elsewhere.source"}, "callbacks": {}} | config
    (folder / "config.yaml").write_text(yaml.safe_dump(whole))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(
        yaml.safe_dump([f"model={model}", f"loss={loss}", f"seed={seed}", *overrides])
    )
    provenance = {
        "versions": {"torch": "2.11.0"},
        "machine": {"cpu": "made up"},
        "seed": seed,
        "split_hash": f"s{seed}",
    }
    provenance["catalog"] = {"name": "made up", "content_hash": "c0ffee", "recordings": len(rows), "species": classes}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


def configured(folder: Path) -> tuple[list[Configuration], list[LeftOut]]:
    """Return the configurations below a folder, in the order of their jobs, and what repeats another."""
    return configurations(read_runs(find_runs([folder]))[0])


def write_sweep(folder: Path, seeds: tuple[int, ...] = (1, 2), **more: Any) -> Path:
    """Write a sweep of two networks and two losses, of which the larger network is better and the loss does nothing."""
    job = 0
    for model, skill in (("audio_cnn", 0.4), ("audio_cnn_v2", 0.75)):
        for loss in ("cross_entropy", "focal"):
            for seed in seeds:
                write_run(folder / f"{job}_job", skill, seed, model=model, loss=loss, **more)
                job += 1
    return folder


def name_recordings_of_the_aviary(sweep: Path) -> None:
    """Give the clips of made-up runs the names of recordings that the aviary can sing."""
    ids = synthetic_catalog(scale=AVIARY_SCALE).table.recording_id
    for path in sweep.glob("*/predictions.parquet"):
        table = pd.read_parquet(path)
        named = [i % len(ids) for i in range(len(table))]
        table = table.assign(recording_id=ids.to_numpy()[named]).drop_duplicates(["split", "recording_id"])
        table.to_parquet(path)


def _history(epochs: int, accuracy: float, headline: str) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "train/nll": 3.0 / epoch,
            f"train/{headline}": min(1.0, accuracy * epoch / epochs + 0.1),
            "val/nll": 2.5 / epoch + 0.05 * epoch**2,
            f"val/{headline}": accuracy * epoch / epochs,
            "lr": 1e-3 * 0.5 ** (epoch // 3),
            "windows_per_s": 130.0,
        }
        for epoch in range(1, epochs + 1)
    ]
