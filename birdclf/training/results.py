"""Files that a run writes before training and after its evaluation."""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import birdclf
from birdclf.config import JOB_NAMING
from birdclf.data.catalog import Catalog
from birdclf.data.module import RecordingDataModule
from birdclf.data.tables import csv_text
from birdclf.errors import UserError
from birdclf.features.representation import Representation
from birdclf.files import digest, file_hash, write_whole
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.label_predictions import AnyPredictions
from birdclf.runs.checkpoint import keep_calibration
from birdclf.runs.results import Calibration, as_dict, write_tables
from birdclf.runs.run import CONFIG, DONE, LEFT_OUT, METRICS, Run
from birdclf.targets import Task
from birdclf.training.loggers import FINAL, Loggers
from birdclf.training.start import source_file

PACKAGES = ("lightning", "torchmetrics", "numpy", "pandas", "librosa", "hydra-core")


def write_provenance(
    folder: Path,
    catalog: Catalog,
    features: Representation,
    split: pd.DataFrame,
    seed: int,
    precision: str,
    init_from: str | None = None,
) -> None:
    """Write ``provenance.json``, which repeats a run, without user or host: home folders become ``~``.

    ``split`` has ``recording_id`` and ``split`` of the recordings that are used, ``precision`` is the one that
    ``trainer.precision`` came to; ``init_from`` is the run folder or file of the first weights, or None.
    """
    command, overrides = _words()
    content = {
        "command": command,
        "overrides": overrides,
        "versions": {
            "birdclf": birdclf.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,  # with the CUDA build, which the package's own version leaves out
            **{name: version(name) for name in PACKAGES},
        },
        "machine": _machine(),
        "catalog": {
            "name": _nameless(catalog.name),
            "content_hash": catalog.content_hash,
            "recordings": len(catalog),
            "species": len(catalog.classes),
        },
        "split_hash": split_hash(split),
        "features_hash": digest(features.fingerprint().encode()),
        "seed": seed,
        "precision": precision,
        "init_from": _start(init_from) if init_from is not None else None,
    }
    (folder / "provenance.json").write_text(json.dumps(content, indent=1))


def split_hash(split: pd.DataFrame) -> str:
    """Return the hash of the recordings' splits, independent of the order of the rows."""
    rows = sorted(zip(split.recording_id, split.split, strict=True))
    return digest(json.dumps(rows).encode())


def _start(init_from: str) -> dict[str, str]:
    file = source_file(init_from)
    return {"file": _nameless(str(file)), "content_hash": file_hash(file)}


def _words() -> tuple[list[str], list[str]]:
    """Return the command as it was typed and the overrides of this job; both empty when called from Python."""
    if not HydraConfig.initialized():
        return [], []
    typed = [*sys.argv[0].split(), *sys.argv[1:]]
    overrides = [str(word) for word in HydraConfig.get().overrides.task]
    return [_nameless(word) for word in typed if not word.startswith(JOB_NAMING)], [_nameless(o) for o in overrides]


def _nameless(text: str) -> str:
    home = os.path.expanduser("~")  # unchanged where there is no home folder
    return text if home == os.sep else text.replace(home + os.sep, f"~{os.sep}")


def _machine() -> dict[str, Any]:
    """Return the hardware that decides speed; None for unknown parts."""
    try:
        memory_gb = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        memory_gb = None
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gb": memory_gb,
        "gpu": gpu or ("Apple MPS" if torch.backends.mps.is_available() else None),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def write_beginning(folder: Path, config: dict[str, Any], data: RecordingDataModule, precision: str) -> None:
    """Write the files that are complete before training.

    They are ``provenance.json``, ``split.csv``, ``leaks.csv``, and ``audit.csv``: findings on each recording, and the
    verdict; ``left_out.csv`` where a part of the train recordings is used. ``config.yaml`` comes last: where it is, the
    run has begun.
    """
    write_provenance(folder, data.source, data.features, data.table, config["seed"], precision, config["init_from"])
    tables = {
        "split.csv": _of_task(data.table, ["recording_id", "species", "split"], data.task),
        "leaks.csv": data.leaks(),
        "audit.csv": data.audit,
    }
    if len(data.left_out):
        tables[LEFT_OUT] = _of_task(data.left_out, ["recording_id", "species"], data.task)
    for name, table in tables.items():
        write_whole(folder / name, csv_text(table))
    write_whole(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))


def _of_task(table: pd.DataFrame, columns: list[str], task: Task) -> pd.DataFrame:
    """Return columns of recordings, of sets also labels, as JSON: a species' name may have any separator in it."""
    own = table[columns]
    return own.assign(labels=table.labels.map(json.dumps)) if task == "multi_label" else own


def check_unchanged(run: Run, data: RecordingDataModule, init_from: str | None) -> None:
    """Refuse to resume a run whose recordings or initial weights have changed.

    An ``init_from`` file that is gone is no longer needed.

    Raises:
        UserError: If a recording was added, removed or changed, or falls into another split, or ``init_from`` changed.
    """
    try:
        began_with = run.provenance
        same = (began_with["catalog"]["content_hash"], began_with["split_hash"])
    except (UserError, KeyError) as error:
        raise UserError(
            f"{run.folder / 'provenance.json'} cannot be read, so that the run cannot resume. Restore it."
        ) from error
    if began_with.get("features_hash") not in (None, digest(data.features.fingerprint().encode())):
        raise UserError(
            f"{run.folder} began with other features than these settings give now: the file of a frozen network or of "
            f"vectors has changed. Bring it back, or choose another folder."
        )
    if same != (data.source.content_hash, split_hash(data.table)):
        raise UserError(
            f"{run.folder} began with other recordings than {data.source.name} gives now; resuming would mix the two. "
            f"Bring them back, or choose another folder."
        )
    try:
        weights = began_with["init_from"]["content_hash"] if init_from is not None else None
        now = file_hash(source_file(init_from)) if init_from is not None else None
    except (OSError, KeyError, TypeError, UserError):
        return
    if weights != now:
        raise UserError(
            f"{run.folder} began with other weights than init_from={init_from} holds now. Bring that file back, remove "
            f"it, or choose another folder."
        )


def write_results(
    folder: Path,
    data: RecordingDataModule,
    predictions: dict[str, AnyPredictions],
    settings: Evaluation,
    facts: dict[str, Any],
    checkpoint: Path,
    logger: Loggers,
    calibration: Calibration,
    draw: bool,
) -> dict[str, Any]:
    """Add the calibration to the checkpoint; write, log and return metrics; write tables and pictures, all adjusted."""
    adjustment = as_dict(calibration.adjustment) if calibration.adjustment else None
    keep_calibration(checkpoint, calibration.temperature, adjustment)
    metrics = calibration.metrics(predictions, data.support("train"), settings) | facts
    if "adjustment" in metrics:
        metrics["score"] = _value(metrics["val"][facts["monitor"].removeprefix("val/")])
    write_whole(folder / METRICS, json.dumps(metrics, indent=1))
    supports = {stage: data.support(stage) for stage in ("train", "val", "test")}
    adjusted, temperature = calibration.adjusted(predictions), calibration.temperature
    pictures = write_tables(folder, adjusted, data.classes, supports, settings, temperature, draw)
    final = {}
    for shown in FINAL[data.task]:
        stage, _, name = shown.partition("_")
        final[shown] = _value(metrics[stage][name])
    logger.end(final, pictures, epoch=facts["epochs"])
    return metrics


def mark_done(folder: Path, config_hash: str, score: float, monitor: str, seconds: float) -> None:
    """Write ``done.json``, the marker of a finished run, after everything else."""
    content = {"config_hash": config_hash, "monitor": monitor, "score": score, "seconds": seconds}
    write_whole(folder / DONE, json.dumps(content, indent=1))


def _value(figure: float | dict[str, float]) -> float:
    return float(figure["value"] if isinstance(figure, dict) else np.asarray(figure))
