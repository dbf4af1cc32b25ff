"""A folder that a report reads like a run's, of something that was made of several runs."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

import birdclf
from birdclf.config import config_hash, direction
from birdclf.data.split import STAGES
from birdclf.disk import write_whole
from birdclf.errors import UserError
from birdclf.evaluation.calibration import fit_temperature
from birdclf.evaluation.comparison import mcnemar, paired_bootstrap
from birdclf.evaluation.metrics import log_softmax, negative_log_likelihood, summarise
from birdclf.evaluation.predictions import Predictions
from birdclf.evaluation.settings import Evaluation
from birdclf.inference.members import Member
from birdclf.quoting import shown
from birdclf.run_folder import CONFIG, DONE
from birdclf.sweep.launches import new_run
from birdclf.training.results import Counts, figures_of, write_tables
from birdclf.training.summary import print_table

COPIED = ("split.csv", "leaks.csv", "audit.csv")


@dataclass(frozen=True)
class Made:
    """What was made of several runs.

    Attributes:
        kind: ``ensemble`` or ``soup``; a top-level key of its ``config.yaml``.
        recipe: How it was made, as plain values.
        label: What it is, in few words.
        weights: How much each run counts, in the order of the runs; 0 where it does not.
        parameters: Parameters that a prediction takes.
        command: The words that make it again.
    """

    kind: str
    recipe: dict[str, Any]
    label: str
    weights: Sequence[float]
    parameters: int
    command: Sequence[str]


def new_folder(out: Path | None, parent: Path) -> Path:
    """Make a new folder: a given one, or one below a parent that the clock names.

    Raises:
        UserError: If it exists.
    """
    if out is None:
        return new_run(parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    check_new(out)
    out.mkdir(parents=True)
    return out


def check_new(out: Path | None) -> None:
    """Refuse a folder that is there.

    Raises:
        UserError: If it exists.
    """
    if out is not None and out.exists():
        raise UserError(f"{out} exists already; nothing is overwritten. Choose another folder with --out.")


def supports_of(member: Member) -> dict[str, Counts]:
    """Return ``(K,)`` recordings of each class by split."""
    table = member.split
    return {
        stage: np.asarray(counted.reindex(list(member.classes), fill_value=0), dtype=np.int64)
        for stage in STAGES
        for counted in [table.species[table.split == stage].value_counts()]
    }


def monitor_of(members: Sequence[Member]) -> str:
    """Return the metric that the runs were chosen by, or validation accuracy where they were chosen by several."""
    monitors = {str(member.metrics["monitor"]) for member in members}
    return monitors.pop() if len(monitors) == 1 else "val/accuracy"


def score(predictions: Predictions, monitor: str) -> float:
    """Return a metric that may be monitored, such as ``val/macro_f1`` or ``val/nll``, of predictions."""
    name = monitor.partition("/")[2]
    if name == "nll":
        return negative_log_likelihood(log_softmax(predictions.logits), predictions.target)
    return summarise(predictions.confusion)[name]


def best_member(members: Sequence[Member], monitor: str) -> Member:
    """Return the member that is best on validation; the first of equal ones."""
    sign = 1 if direction(monitor) == "max" else -1
    return max(members, key=lambda member: sign * score(member.predictions["val"], monitor))


def metrics_of(
    made: Made, members: Sequence[Member], predictions: Mapping[str, Predictions], settings: Evaluation
) -> dict[str, Any]:
    """Return the content of ``metrics.json``: figures with intervals, and calibration by a temperature of its own."""
    val = predictions["val"]
    temperature = fit_temperature(val.logits, val.target)
    figures = figures_of(predictions, supports_of(members[0])["train"], settings, temperature)
    monitor = monitor_of(members)
    facts = {
        "temperature": temperature,
        "monitor": monitor,
        "score": score(val, monitor),
        "best_epoch": 0,  # it was not trained
        "epochs": 0,
        "parameters": made.parameters,
        "classes": len(members[0].classes),
        "reference": None,
        "members": [
            {"folder": str(member.folder), "weight": float(weight)}
            for member, weight in zip(members, made.weights, strict=True)
        ],
    }
    return figures | facts


def write_made(
    folder: Path,
    made: Made,
    members: Sequence[Member],
    predictions: Mapping[str, Predictions],
    metrics: Mapping[str, Any],
    settings: Evaluation,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write all that a run's folder has but checkpoints; ``done.json`` comes last.

    Args:
        folder: Exists.
        made: What was made.
        members: Of what.
        predictions: By split.
        metrics: :func:`metrics_of` it.
        settings: How it was judged.
        config: Settings of the job that made it, whose overrides are in the folder; None for those of the first member.
    """
    first, own = members[0], config is None
    if config is None:
        hashes = [config_hash(member.config) for member in members]
        config = first.config | {"name": made.kind, made.kind: made.recipe | {"members": hashes}}
        (folder / ".hydra").mkdir()
        OmegaConf.save(OmegaConf.create([f"{made.kind}={made.label}"]), folder / ".hydra" / "overrides.yaml")
    (folder / "history.json").write_text("[]")
    for name in COPIED:
        if (first.folder / name).is_file():
            shutil.copyfile(first.folder / name, folder / name)
    _write_provenance(folder, first, [*made.command, "--out", str(folder)] if own else made.command)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    write_tables(folder, predictions, first.classes, supports_of(first), settings, float(metrics["temperature"]))
    OmegaConf.save(OmegaConf.create(dict(config)), folder / CONFIG)  # UTF-8 in every locale
    seconds = sum(_seconds(m) for m, weight in zip(members, made.weights, strict=True) if weight)
    content = {
        "config_hash": config_hash(config),
        "monitor": metrics["monitor"],
        "score": metrics["score"],
        "seconds": seconds,
    }
    write_whole(folder / DONE, json.dumps(content, indent=1))


def print_made(
    made: Made,
    members: Sequence[Member],
    predictions: Mapping[str, Predictions],
    metrics: Mapping[str, Any],
    settings: Evaluation,
) -> None:
    """Print the figures, and the paired tests against the member that is best on validation."""
    print_table(f"{made.label}", {stage: metrics[stage] for stage in ("val", "test")})
    for member, weight in zip(members, made.weights, strict=True):
        print(shown(f"weight {weight:.3f}: {member.folder}"))
    best = best_member(members, str(metrics["monitor"]))
    a, b = predictions["test"], best.predictions["test"]
    only_a, only_b, p = mcnemar(a.prediction == a.target, b.prediction == b.target)
    print(shown(f"against its best member on {metrics['monitor']}, {best.folder}, on test data:"))
    print(f"  McNemar: {only_a} right that the member has wrong, {only_b} the other way, p = {p:.3f}")
    for name in ("accuracy", "macro_f1"):
        found = paired_bootstrap(
            a.target, a.prediction, b.prediction, a.cluster, len(members[0].classes), settings,
            "accuracy" if name == "accuracy" else "macro_f1",
        )  # fmt: skip
        print(f"  {name}: {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], p = {found.p_value:.3f}")


def _write_provenance(folder: Path, first: Member, command: Sequence[str]) -> None:
    file = first.folder / "provenance.json"
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        content = {}
    own = {
        "command": command,
        "overrides": [],
        "versions": {
            "birdclf": birdclf.__version__,
            "torch": torch.__version__,
            **{name: version(name) for name in ("numpy", "pandas")},
        },
    }
    kept = {key: content[key] for key in ("machine", "catalog", "split_hash", "seed") if key in content}
    (folder / "provenance.json").write_text(json.dumps(own | kept, indent=1))


def _seconds(member: Member) -> float:
    try:
        return float(json.loads((member.folder / DONE).read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
