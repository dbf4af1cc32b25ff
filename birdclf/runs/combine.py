"""A folder that a report reads like a run's, of something that was made of several runs."""

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

import birdclf
from birdclf.config import config_hash, direction
from birdclf.data.splits import STAGES
from birdclf.data.tables import read_own
from birdclf.errors import UserError
from birdclf.files import new_run, refuse_existing, write_whole
from birdclf.metrics.calibration import fit_temperature
from birdclf.metrics.comparison import mcnemar, paired_bootstrap
from birdclf.metrics.figures import Evaluation, log_softmax, negative_log_likelihood, summarise
from birdclf.metrics.predictions import Predictions, read_predictions
from birdclf.runs.opening import check_folder, fitted_of, open_run, read_settings
from birdclf.runs.predictor import Counts, figures_of, predict, write_tables
from birdclf.runs.state import CONFIG, DONE
from birdclf.runs.summary import print_table
from birdclf.text import shown

JUDGED = ("val", "test")


@dataclass(frozen=True)
class Member:
    """A run as a member of an ensemble.

    Attributes:
        folder: The run folder.
        cfg: Its settings.
        classes: Names of the K classes.
        split: ``recording_id``, ``species`` and ``split`` of all its recordings.
        metrics: Content of its ``metrics.json``.
        predictions: By split, ``val`` and ``test``.
    """

    folder: Path
    cfg: DictConfig
    classes: tuple[str, ...]
    split: pd.DataFrame
    metrics: dict[str, Any]
    predictions: dict[str, Predictions]

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain values."""
        config = OmegaConf.to_container(self.cfg)
        assert isinstance(config, dict)
        return {str(key): value for key, value in config.items()}


def read_members(
    runs: Sequence[Path],
    checkpoint: str = "best",
    window: str | None = None,
    source: Sequence[str] = (),
    trusted: Collection[str] = (),
) -> list[Member]:
    """Return runs as members, their predictions in the order of the first one's.

    Predictions are those that a run saved, where they are what is asked for; else its checkpoint makes them.

    Args:
        runs: Run folders, two or more.
        checkpoint: ``best`` or ``last``.
        window: Which window of a recording is used; None for each run's own choice.
        source: Where the runs' recordings are now, such as ``data.root=DIR``.
        trusted: Top-level packages beside ``birdclf`` whose code the run folders may name.

    Raises:
        UserError: If a run is given twice or cannot be used, or its classes or split are not those of the first.
    """
    check_distinct(runs)
    saved = checkpoint == "best" and window is None and not source
    members: list[Member] = []
    for run in runs:
        cfg, split, metrics = read_settings(run, (), trusted), read_split(run), read_metrics(run)
        if saved and (run / "predictions.parquet").is_file():
            found = {stage: read_predictions(run / "predictions.parquet", stage) for stage in JUDGED}
            predictions, classes = {stage: p for stage, (p, _) in found.items()}, found["test"][1]
        else:
            opened = open_run(run, checkpoint, window, source, trusted)
            if not opened.recordings.own:
                raise UserError(
                    f"--source: {opened.recordings.source.name} is not what {run} was split from, on which "
                    f"its ensemble is judged. Evaluate the runs on it one by one."
                )
            table = opened.recordings.source.table
            print(f"predicting: {shown(run)}")
            raw = predict(opened.trainer, opened.loaded.predictor, opened.recordings.loaders, table)
            predictions = fitted_of(opened, raw, trusted).adjusted(raw)
            classes = opened.loaded.classes
        member = Member(run, cfg, classes, split, metrics, predictions)
        if members:
            check_same_task(members[0].folder, members[0].classes, members[0].split, run, classes, split)
            member = replace(member, predictions=_in_order(members[0], member))
        members.append(member)
    return members


def check_distinct(runs: Sequence[Path]) -> None:
    """Refuse what is no folder, or given twice.

    Raises:
        UserError: If one is.
    """
    for i, run in enumerate(runs):
        check_folder(run)
        if run.resolve() in [before.resolve() for before in runs[:i]]:
            raise UserError(f"{run} is given twice: it would count double. Give it once.")


def read_split(run: Path) -> pd.DataFrame:
    """Return ``recording_id``, ``species`` and ``split`` of a run's ``split.csv``.

    Raises:
        UserError: If the file is missing or cannot be read.
    """
    columns = ["recording_id", "species", "split"]
    return read_own(run / "split.csv", columns)[columns]


def read_metrics(run: Path) -> dict[str, Any]:
    """Return the content of a finished run's ``metrics.json``.

    Raises:
        UserError: If it is missing or not that of a run.
    """
    file = run / "metrics.json"
    try:
        metrics = json.loads(file.read_text())
        _ = metrics["monitor"], metrics["parameters"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} cannot be read ({error}): the run did not finish. Go on with it, or leave it out."
        ) from error
    return dict(metrics)


def check_same_task(
    a: Path,
    classes_a: tuple[str, ...],
    split_a: pd.DataFrame,
    b: Path,
    classes_b: tuple[str, ...],
    split_b: pd.DataFrame,
) -> None:
    """Refuse two runs of which one could know the test recordings of the other, or name other species.

    Raises:
        UserError: If classes or split differ; it names the first difference.
    """
    for first, second in ((classes_a, classes_b), (classes_b, classes_a)):
        if gone := [name for name in first if name not in second]:
            has, lacks = (a, b) if first is classes_a else (b, a)
            raise UserError(f"{has} knows the species {gone[0]}, and {lacks} does not. Give runs of the same species.")
    if classes_a != classes_b:
        here, there = next(pair for pair in zip(classes_a, classes_b, strict=True) if pair[0] != pair[1])
        raise UserError(f"{a} has {here} where {b} has {there}: the same species in another order. Train again.")
    stages_a, stages_b = (dict(zip(s.recording_id, s.split, strict=True)) for s in (split_a, split_b))
    for name in sorted(stages_a.keys() | stages_b.keys()):
        in_a, in_b = stages_a.get(name, "left out"), stages_b.get(name, "left out")
        if in_a != in_b:
            raise UserError(
                f"The splits differ: recording {name} is {in_a} in {a} and {in_b} in {b}. Train them with one split, "
                f"such as split=file split.path={a / 'split.csv'}."
            )


def _in_order(first: Member, member: Member) -> dict[str, Predictions]:
    """Return a member's predictions in the order of the first one's."""
    out = {}
    for stage in JUDGED:
        wanted, own = first.predictions[stage], member.predictions[stage]
        order = pd.Index(own.recording_id)
        place = order.get_indexer(pd.Index(wanted.recording_id)) if order.is_unique else np.array([-1])
        if len(own.recording_id) != len(wanted.recording_id) or (place < 0).any():
            raise UserError(
                f"{member.folder} and {first.folder} have predictions for other {stage} recordings, though their "
                f"splits are the same. Evaluate them again."
            )
        moved = Predictions(own.recording_id[place], own.target[place], own.logits[place], own.cluster[place])
        if (moved.target != wanted.target).any():
            at = int(np.argmax(moved.target != wanted.target))
            raise UserError(
                f"{wanted.recording_id[at]} is {first.classes[wanted.target[at]]} in {first.folder} and "
                f"{first.classes[moved.target[at]]} in {member.folder}. Give runs on the same labels."
            )
        out[stage] = moved
    return out


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
    if out is not None:
        refuse_existing(out, "Choose another folder with --out.")


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
