"""Combinations of several runs, in a folder that a report reads like any run's."""

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
from numpy.typing import NDArray
from omegaconf import OmegaConf

import birdclf
from birdclf.config import config_hash, direction
from birdclf.errors import UserError
from birdclf.files import new_run, refuse_existing, write_whole
from birdclf.metrics.calibration import fit_temperature
from birdclf.metrics.comparison import mcnemar, paired_bootstrap
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.label_predictions import AnyPredictions
from birdclf.metrics.predictions import Predictions
from birdclf.runs.opening import calibration_of, check_folder, open_run, read_settings
from birdclf.runs.predictor import predict
from birdclf.runs.results import figures_of, print_table, score, write_tables
from birdclf.runs.run import CONFIG, DONE, LEFT_OUT, METRICS, PREDICTIONS, Run, supports_of
from birdclf.text import printable

JUDGED = ("val", "test")


@dataclass(frozen=True)
class Member:
    """A run as a member of an ensemble or a soup.

    Attributes:
        classes: Names of the K classes, in the order of its logits.
        predictions: By split, ``val`` and ``test``.
    """

    run: Run
    classes: tuple[str, ...]
    predictions: dict[str, Predictions]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.folder

    @property
    def supports(self) -> dict[str, NDArray[np.int64]]:
        """``(K,)`` recordings of each class by split."""
        return supports_of(self.run.split, self.classes)


def read_members(
    runs: Sequence[Path],
    checkpoint: str = "best",
    window: str | None = None,
    source: Sequence[str] = (),
    trusted: Collection[str] = (),
) -> list[Member]:
    """Return two or more runs as members, their predictions in the order of the first one's.

    Saved predictions are used if they match the options, which are those of :func:`birdclf.runs.opening.open_run`; else
    the checkpoint predicts.

    Raises:
        UserError: If a run is given twice or cannot be used, or its classes or split are not those of the first.
    """
    check_distinct(runs)
    saved = checkpoint == "best" and window is None and not source
    members: list[Member] = []
    for run in runs:
        read_settings(run, (), trusted)  # a member is untrusted
        part = Run(run)
        check_finished(part)
        if saved and (run / PREDICTIONS).is_file():
            found, classes = part.predictions, part.classes
        else:
            opened = open_run(run, checkpoint, window, source, trusted)
            if not opened.recordings.own:
                raise UserError(
                    f"--source: {opened.recordings.source.name} is not what {run} was split from, on which "
                    f"its ensemble is judged. Evaluate the runs on it one by one."
                )
            table = opened.recordings.source.table
            print(f"predicting: {printable(run)}")
            raw = predict(opened.trainer, opened.loaded.predictor, opened.recordings.loaders, table)
            found = calibration_of(opened, raw, trusted).adjusted(raw)
            classes = opened.loaded.classes
        member = Member(part, classes, of_one_class(found, run))
        if members:
            check_same_task(members[0].run, members[0].classes, part, classes)
            member = replace(member, predictions=_in_order(members[0], member))
        members.append(member)
    return members


def of_one_class(predictions: Mapping[str, AnyPredictions], run: Path) -> dict[str, Predictions]:
    """Return predictions of one class a recording.

    Raises:
        UserError: If they are of sets of classes.
    """
    single = {stage: found for stage, found in predictions.items() if isinstance(found, Predictions)}
    if len(single) < len(predictions):
        raise UserError(
            f"{run} has task=multi_label; ensembles and soups are of task=single_label. Judge such runs one by one."
        )
    return single


def check_distinct(runs: Sequence[Path]) -> None:
    """Refuse paths that are no folder or are given twice.

    Raises:
        UserError: If one is.
    """
    for i, run in enumerate(runs):
        check_folder(run)
        if run.resolve() in [before.resolve() for before in runs[:i]]:
            raise UserError(f"{run} is given twice: it would count double. Give it once.")


def check_finished(run: Run) -> None:
    """Refuse a run without figures, or whose figures another program wrote.

    Raises:
        UserError: If it is one.
    """
    if missing := [name for name in ("monitor", "parameters") if name not in run.metrics]:
        raise UserError(f"{run.folder / METRICS} lacks {missing[0]}: it is not that of a run. Leave it out.")


def check_same_task(run_a: Run, classes_a: tuple[str, ...], run_b: Run, classes_b: tuple[str, ...]) -> None:
    """Refuse two runs of which one may have trained on the other's test recordings, or that have other species.

    Raises:
        UserError: If classes or split differ; it names the first difference.
    """
    a, b = run_a.folder, run_b.folder
    for first, second in ((classes_a, classes_b), (classes_b, classes_a)):
        if gone := [name for name in first if name not in second]:
            has, lacks = (a, b) if first is classes_a else (b, a)
            raise UserError(f"{has} knows the species {gone[0]}, and {lacks} does not. Give runs of the same species.")
    if classes_a != classes_b:
        here, there = next(pair for pair in zip(classes_a, classes_b, strict=True) if pair[0] != pair[1])
        raise UserError(f"{a} has {here} where {b} has {there}: the same species in another order. Train again.")
    stages_a, stages_b = (dict(zip(s.recording_id, s.split, strict=True)) for s in (run_a.split, run_b.split))
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


COPIED = ("split.csv", LEFT_OUT, "leaks.csv", "audit.csv")


@dataclass(frozen=True)
class CombinedRun:
    """A run that combines several.

    Attributes:
        kind: ``ensemble`` or ``soup``; a top-level key of its ``config.yaml``.
        recipe: How they were combined, as plain values.
        label: A short description.
        weights: Weight of each run, in the order of the runs; 0 for unused ones.
        parameters: Number of parameters that a prediction uses.
        command: The command line that repeats it.
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
    """Refuse an existing folder.

    Raises:
        UserError: If it exists.
    """
    if out is not None:
        refuse_existing(out, "Choose another folder with --out.")


def monitor_of(members: Sequence[Member]) -> str:
    """Return the monitored metric of the runs, or validation accuracy if they differ in it."""
    monitors = {str(member.run.metrics["monitor"]) for member in members}
    return monitors.pop() if len(monitors) == 1 else "val/accuracy"


def best_member(members: Sequence[Member], monitor: str) -> Member:
    """Return the member that is best on validation; the first of equal ones."""
    sign = 1 if direction(monitor) == "max" else -1
    return max(members, key=lambda member: sign * score(member.predictions["val"], monitor))


def metrics_of(
    combined: CombinedRun, members: Sequence[Member], predictions: Mapping[str, Predictions], settings: Evaluation
) -> dict[str, Any]:
    """Return the content of ``metrics.json``: figures with intervals, calibrated by a newly fitted temperature."""
    val = predictions["val"]
    temperature = fit_temperature(val.logits, val.target)
    figures = figures_of(predictions, members[0].supports["train"], settings, temperature)
    monitor = monitor_of(members)
    facts = {
        "temperature": temperature,
        "monitor": monitor,
        "score": score(val, monitor),
        "best_epoch": 0,  # it was not trained
        "epochs": 0,
        "parameters": combined.parameters,
        "classes": len(members[0].classes),
        "reference": None,
        "members": [
            {"folder": str(member.folder), "weight": float(weight)}
            for member, weight in zip(members, combined.weights, strict=True)
        ],
    }
    return figures | facts


def write_combined(
    folder: Path,
    combined: CombinedRun,
    members: Sequence[Member],
    predictions: Mapping[str, Predictions],
    metrics: Mapping[str, Any],
    settings: Evaluation,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write all files of a run's folder except checkpoints; ``done.json`` comes last.

    ``config`` holds the settings of the job that made it, whose overrides are in the folder; None takes those of the
    first member.
    """
    first, own = members[0], config is None
    if config is None:
        hashes = [config_hash(member.run.config) for member in members]
        config = first.run.config | {"name": combined.kind, combined.kind: combined.recipe | {"members": hashes}}
        (folder / ".hydra").mkdir()
        OmegaConf.save(OmegaConf.create([f"{combined.kind}={combined.label}"]), folder / ".hydra" / "overrides.yaml")
    (folder / "history.json").write_text("[]")
    for name in COPIED:
        if (first.folder / name).is_file():
            shutil.copyfile(first.folder / name, folder / name)
    _write_provenance(folder, first, [*combined.command, "--out", str(folder)] if own else combined.command)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    write_tables(
        folder,
        predictions,
        first.classes,
        first.supports,
        settings,
        float(metrics["temperature"]),
        bool(config.get("pictures", True)),  # older runs have no such setting
    )
    OmegaConf.save(OmegaConf.create(dict(config)), folder / CONFIG)  # UTF-8 in every locale
    seconds = sum(m.run.seconds or 0.0 for m, weight in zip(members, combined.weights, strict=True) if weight)
    content = {
        "config_hash": config_hash(config),
        "monitor": metrics["monitor"],
        "score": metrics["score"],
        "seconds": seconds,
    }
    write_whole(folder / DONE, json.dumps(content, indent=1))


def print_combined(
    combined: CombinedRun,
    members: Sequence[Member],
    predictions: Mapping[str, Predictions],
    metrics: Mapping[str, Any],
    settings: Evaluation,
) -> None:
    """Print the figures, and the paired tests against the member that is best on validation."""
    print_table(f"{combined.label}", {stage: metrics[stage] for stage in ("val", "test")})
    for member, weight in zip(members, combined.weights, strict=True):
        print(printable(f"weight {weight:.3f}: {member.folder}"))
    best = best_member(members, str(metrics["monitor"]))
    a, b = predictions["test"], best.predictions["test"]
    only_a, only_b, p = mcnemar(a.prediction == a.target, b.prediction == b.target)
    print(printable(f"against its best member on {metrics['monitor']}, {best.folder}, on test data:"))
    print(f"  McNemar: {only_a} right that the member has wrong, {only_b} the other way, p = {p:.3f}")
    for name in ("accuracy", "macro_f1"):
        found = paired_bootstrap(
            a.target, a.prediction, b.prediction, a.cluster, len(members[0].classes), settings,
            "accuracy" if name == "accuracy" else "macro_f1",
        )  # fmt: skip
        print(f"  {name}: {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], p = {found.p_value:.3f}")


def _write_provenance(folder: Path, first: Member, command: Sequence[str]) -> None:
    content = first.run.provenance
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
