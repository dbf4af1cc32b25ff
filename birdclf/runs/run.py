"""Run folders as the report reads them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import OmegaConf

from birdclf.data.tables import read_own
from birdclf.errors import UserError
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.predictions import Predictions, read_predictions

MARKS = ("done.json", "config.yaml", "split.csv", "metrics.json", "predictions.parquet")
"""Any of these makes a folder a run's, finished or not."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it is.
        config: Its resolved configuration.
        overrides: What was set on the command line, sorted.
        metrics: Content of ``metrics.json``.
        history: One row an epoch.
        test: Predictions for the test split.
        classes: The K species.
        counts: ``(K,)`` recordings of each, in all splits.
        train_counts: ``(K,)`` train recordings of each.
        seconds: Wall time of the run.
        provenance: Command, versions, machine, catalogue and split hash; empty in runs older than that file.
    """

    folder: Path
    config: dict[str, Any]
    overrides: tuple[str, ...]
    metrics: dict[str, Any]
    history: pd.DataFrame
    test: Predictions
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    train_counts: NDArray[np.int64]
    seconds: float
    provenance: dict[str, Any]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config["seed"])

    @property
    def trained(self) -> bool:
        """Whether it was trained, and not made of other runs."""
        return not self.metrics.get("members")

    @property
    def evaluation(self) -> Evaluation:
        """How its figures are grouped, and how sure their intervals are."""
        node = self.config.get("evaluation") or {}  # runs of older versions have none
        return Evaluation(**{key: value for key, value in node.items() if key != "_target_"})

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return str(self.config.get("name", self.folder.name))

    def figure(self, metric: str) -> float | None:
        """Return a metric such as ``test/accuracy``, ``val/nll`` or ``test/few_f1``; None where the run has none."""
        split, _, name = metric.rpartition("/")
        node: Any = self.metrics[split or "test"]
        bucket, _, part = name.partition("_")
        value = node["buckets"][bucket].get(part) if bucket in node.get("buckets", {}) else node.get(name)
        value = value.get("value") if isinstance(value, dict) else value
        return None if value is None else float(value)


class LeftOut(NamedTuple):
    """A folder that the report does without, and why."""

    folder: Path
    reason: str


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders among and below some folders, each once, in the order given.

    Raises:
        UserError: If a path is no folder, or holds no run.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is not a folder; give run folders or the folders of sweeps.")
        marked = {mark.parent for name in MARKS for mark in path.rglob(name)}
        # Hydra's own folder, .hydra, holds a config.yaml too.
        inside = sorted((f for f in marked if not _passed_over(f.relative_to(path))), key=_in_job_order)
        if not inside:
            raise UserError(
                f"{path} holds no run: no folder in it has a config.yaml. Give the folder that birdclf train wrote."
            )
        found |= dict.fromkeys(folder.resolve() for folder in inside)
    return list(found)


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Return the runs that can be used, and the folders that cannot, each with a sentence that says why."""
    runs, left_out = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except UserError as error:
            left_out.append(LeftOut(folder, str(error)))
    return runs, left_out


def read_run(folder: Path) -> Run:
    """Return the run of a folder.

    Raises:
        UserError: If it did not finish, or a file of it is missing or cannot be read.
    """
    if (folder / "pruned.json").is_file() and not (folder / "done.json").is_file():
        raise UserError("Its search stopped the trial early: others were better at the same epoch.")
    if not (folder / "done.json").is_file():
        raise UserError("The run was stopped before its end: it has no done.json. Run its command again.")
    done, metrics = _json(folder / "done.json"), _json(folder / "metrics.json")
    history, config = _json(folder / "history.json"), _yaml(folder / "config.yaml")
    overrides = _yaml(folder / ".hydra" / "overrides.yaml") if (folder / ".hydra" / "overrides.yaml").is_file() else []
    provenance = _json(folder / "provenance.json") if (folder / "provenance.json").is_file() else {}
    predictions = folder / "predictions.parquet"
    if not predictions.is_file():
        raise UserError("The run has no predictions.parquet, without which nothing can be tested. Run it again.")
    try:
        test, classes = read_predictions(predictions, "test")
        split = read_own(folder / "split.csv", ("species", "split"))
        counts, train_counts = (
            np.asarray(species.value_counts().reindex(list(classes), fill_value=0), dtype=np.int64)
            for species in (split.species, split.species[split.split == "train"])
        )
        run = Run(
            folder,
            config,
            tuple(sorted(map(str, overrides))),
            metrics,
            pd.DataFrame(history),
            test,
            classes,
            counts,
            train_counts,
            float(done["seconds"]),
            provenance,
        )
        _check(run)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"A file of the run lacks {error}; it was written by another program or version.") from error
    except Exception as error:  # Arrow and pandas raise whatever they like for a damaged file
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"predictions.parquet or split.csv cannot be read: {said}. Run it again.") from error
    return run


def _check(run: Run) -> None:
    """Read once what the report relies on, so that a file of another shape is found here."""
    for split in ("val", "test"):
        _ = run.metrics[split]["accuracy"]["low"], run.metrics[split]["macro_f1"]["low"]
        _ = run.metrics[split]["buckets"], run.metrics[split]["clips"]
    _ = run.evaluation
    _ = run.seed, [run.metrics[key] for key in ("monitor", "score", "best_epoch", "epochs", "parameters", "classes")]
    if not run.trained:
        return  # it has no epochs
    _ = [run.history[column] for column in ("epoch", "lr", "train/accuracy", "val/accuracy", "val/nll")]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path.name} is missing or cannot be opened ({error.strerror}). Run it again.") from error
    except ValueError as error:
        raise UserError(f"{path.name} is damaged: it is not valid JSON ({error}). Run it again.") from error


def _yaml(path: Path) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise UserError(f"{path.name} is missing or cannot be opened ({error.strerror}). Run it again.") from error
    except Exception as error:  # of the parser, which has no common base with OmegaConf's
        raise UserError(f"{path.name} is damaged: it is not valid YAML. Run it again.") from error


def _passed_over(path: Path) -> bool:
    """Return whether a folder is hidden, or holds what ``birdclf evaluate`` wrote into a run."""
    return any(part.startswith(".") or part == "evaluations" for part in path.parts)


def _in_job_order(folder: Path) -> tuple[str, int, str]:
    job = folder.name.split("_")[0]
    return str(folder.parent), int(job) if job.isdecimal() else 0, folder.name
