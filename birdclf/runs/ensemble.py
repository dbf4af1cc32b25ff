"""Ensembles: the averaged predictions of several runs, ``birdclf evaluate RUN RUN``."""

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from birdclf.config import resolved_config
from birdclf.declared import check_types
from birdclf.errors import UserError
from birdclf.files import writing_to
from birdclf.metrics.ensembles import Average, average_predictions, generalises, greedy_weights
from birdclf.metrics.figures import Evaluation, Vector
from birdclf.metrics.predictions import Predictions
from birdclf.runs.combine import (
    CombinedRun,
    Member,
    check_new,
    metrics_of,
    new_folder,
    print_combined,
    read_members,
    write_combined,
)
from birdclf.runs.opening import built, read_settings
from birdclf.runs.results import score
from birdclf.runs.run import Run
from birdclf.runs.state import check_same, lock_run, remove_failure
from birdclf.text import printable

Weights = Literal["equal", "tuned"]

HOME = Path("outputs/ensembles")


def evaluate_together(
    runs: Sequence[Path],
    average: Average = "probabilities",
    weights: Weights = "equal",
    checkpoint: str = "best",
    window: str | None = None,
    source: Sequence[str] = (),
    out: Path | None = None,
    trusted: Collection[str] = (),
) -> Path:
    """Average the predictions of several runs, and write and print them as a run's evaluation.

    Runs have the same split and classes. ``weights`` are ``equal``, or ``tuned`` on validation by greedy selection
    (Caruana et al., 2004). Tuned ones are taken only where they are better than equal ones on validation recordings
    that they were not fitted on. The other options are those of :func:`birdclf.runs.opening.open_run`.

    Returns:
        The new folder, which a report reads like a run's: ``out``, or one below ``outputs/ensembles``.

    Raises:
        UserError: If the folder exists, or the runs cannot be averaged.
    """
    if len(runs) < 2:
        raise UserError(f"RUN: an ensemble needs two run folders or more, and got {len(runs)}. Give another one.")
    check_new(out)
    members = read_members(runs, checkpoint, window, source, trusted)
    first = members[0].folder
    settings = built(read_settings(first, (), trusted), "evaluation", Evaluation, first, trusted)
    recipe = {"average": average, "checkpoint": checkpoint, "window": window}
    command = _command(runs, average, weights, checkpoint, window, source, trusted)
    combined, predictions = average_of(members, average, weights, recipe, command)
    metrics = metrics_of(combined, members, predictions, settings)
    folder = new_folder(out, HOME)
    write_combined(folder, combined, members, predictions, metrics, settings)
    print_combined(combined, members, predictions, metrics, settings)
    print(f"ensemble folder: {printable(folder)}")
    return folder


def average_of(
    members: Sequence[Member], average: Average, weights: Weights, recipe: Mapping[str, Any], command: list[str]
) -> tuple[CombinedRun, dict[str, Predictions]]:
    """Return the average of members, and its predictions of the validation and test recordings."""
    chosen, message = _weights(members, average, weights)
    predictions = {
        stage: average_predictions([member.predictions[stage] for member in members], chosen, average)
        for stage in ("val", "test")
    }
    used = [member for member, weight in zip(members, chosen, strict=True) if weight]
    combined = CombinedRun(
        "ensemble",
        {**recipe, "weights": [float(weight) for weight in chosen]},
        f"{message} mean of {len(used)} runs' {average}",
        list(map(float, chosen)),
        sum(int(member.run.metrics["parameters"]) for member in used),
        command,
    )
    return combined, predictions


def _command(
    runs: Sequence[Path],
    average: Average,
    weights: Weights,
    checkpoint: str,
    window: str | None,
    source: Sequence[str],
    trusted: Collection[str],
) -> list[str]:
    words = ["birdclf", "evaluate", *map(str, runs), "--average", average, "--weights", weights]
    words += ["--checkpoint", checkpoint, *(["--window", window] if window else [])]
    return words + (["--source", *source] if source else []) + [f"--trust={package}" for package in trusted]


def _weights(members: Sequence[Member], average: Average, weights: Weights) -> tuple[Vector, str]:
    """Return the weights ``(M,)`` and a word for them."""
    equal = np.full(len(members), 1 / len(members))
    if weights == "equal":
        return equal, "equal"
    val = [member.predictions["val"] for member in members]
    of_equal, of_tuned = generalises(val, average)
    if not of_tuned < of_equal:
        print(
            f"tuned weights are no better than equal ones on validation recordings that they were not fitted on (NLL "
            f"{of_tuned:.4f} against {of_equal:.4f} nats): equal ones are taken"
        )
        return equal, "equal"
    print(f"tuned weights: NLL {of_tuned:.4f} against {of_equal:.4f} nats on recordings that they were not fitted on")
    return greedy_weights(val, average), "tuned"


WITHOUT_EFFECT: Final = (
    *("model", "loss", "features", "window", "audio", "audit", "augment", "sampler", "loader", "optimizer"),
    *("scheduler", "layers", "averaging", "posthoc", "trainer", "redraw_output", "allow"),
)
"""Groups that act on a training and not on an average."""


def average_members(cfg: DictConfig, resume: bool = False) -> float:
    """Average the probabilities of ``members`` with equal weights; write a run folder without a checkpoint.

    Of the settings in ``conf/train.yaml``, ``evaluation`` and ``monitor`` act. With ``resume`` the run folder may hold
    the same job, interrupted. Returns the monitored metric.

    Raises:
        UserError: If the members cannot be averaged, or the folder holds something else.
        BusyError: If another process works in the folder.
    """
    check_types(cfg.evaluation, "evaluation")
    config, folder = resolved_config(cfg), Path(cfg.run_dir)
    runs = config["members"]
    if not isinstance(runs, Sequence) or isinstance(runs, str) or len(runs) < 2 or not all(runs):
        raise UserError(
            f"members is {runs!r}; it must be a list of two run folders or more. experiment=phase3_ensemble finds them "
            f"in a sweep alone, beside the experiments that it averages; elsewhere give 'members=[RUN,RUN]'."
        )
    _check_words()
    if config["init_from"] is not None or config["lr_find"]:
        raise UserError("members are averaged and nothing is trained: leave out init_from and lr_find.")
    with writing_to(folder, "run the same command again."):
        folder.mkdir(parents=True, exist_ok=True)
        with lock_run(folder):
            remove_failure(folder)
            if (earlier := Run(folder)).begun:
                check_same(earlier, config)
                if not resume:
                    raise UserError(f"{folder} holds a run already; nothing is overwritten. Choose another folder.")
            members = read_members([Path(str(run)) for run in runs])
            settings = instantiate(cfg.evaluation)
            recipe = {"checkpoint": "best", "window": None}
            command = ["birdclf", *sys.argv[1:]]
            combined, predictions = average_of(members, "probabilities", "equal", recipe, command)
            value = score(predictions["val"], cfg.monitor)
            metrics = metrics_of(combined, members, predictions, settings) | {"monitor": cfg.monitor, "score": value}
            write_combined(folder, combined, members, predictions, metrics, settings, config)
    print_combined(combined, members, predictions, metrics, settings)
    return value


def _check_words() -> None:
    """Refuse settings of a training; in a sweep they may be meant for other jobs.

    Raises:
        UserError: If there is one.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.RUN:
        return
    for word in HydraConfig.get().overrides.task:
        group = re.split(r"[.=/@]", word.lstrip("+~"))[0]
        if group in WITHOUT_EFFECT:
            raise UserError(f"members are averaged, nothing is trained, so that {word} changes nothing. Leave it out.")
