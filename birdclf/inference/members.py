"""The members of an ensemble: what several runs said of the same recordings."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from birdclf.catalog.tables import read_own
from birdclf.errors import UserError
from birdclf.evaluation.predictions import Predictions, read_predictions
from birdclf.inference.opening import check_folder, fitted_of, open_run
from birdclf.inference.settings import read_settings
from birdclf.quoting import shown
from birdclf.training.results import predict

STAGES = ("val", "test")


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
            found = {stage: read_predictions(run / "predictions.parquet", stage) for stage in STAGES}
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
    for stage in STAGES:
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
