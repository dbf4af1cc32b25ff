"""Run folders: each file is read here, once, at its first use."""

import json
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from birdclf.errors import UserError
from birdclf.targets import HEADLINES, Task, task_of

if TYPE_CHECKING:  # they import pandas, scipy or torch: a job that is skipped, or a typing mistake, needs none of them
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from birdclf.metrics.figures import Evaluation
    from birdclf.metrics.label_predictions import AnyPredictions
    from birdclf.runs.checkpoint import LoadedRun

CONFIG: Final = "config.yaml"
"""Written atomically, after all other files that exist before training."""
METRICS: Final = "metrics.json"
DONE: Final = "done.json"
"""Written atomically, after everything else."""
FAILED: Final = "failed.json"
PRUNED: Final = "pruned.json"
PREDICTIONS: Final = "predictions.parquet"
LEFT_OUT: Final = "left_out.csv"
"""Train recordings that ``split.train_fraction`` and ``split.train_per_species`` leave out."""
MARKS: Final = (DONE, CONFIG, "split.csv", METRICS, PREDICTIONS)
"""Files of which any marks a run folder, finished or not."""


class Run:
    """A run folder. A missing or damaged file raises a :class:`UserError` at its first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def begun(self) -> bool:
        """True once all files that exist before training are written."""
        return (self.folder / CONFIG).is_file()

    @property
    def finished(self) -> bool:
        """True once the run is complete."""
        return (self.folder / DONE).is_file()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as plain values."""
        if not self.begun:
            raise UserError(
                f"{self.folder / CONFIG} does not exist; {self.folder} is no run folder. Give a folder that birdclf "
                f"train has written."
            )
        config: dict[str, Any] = self._yaml(CONFIG, dict)
        return config

    @cached_property
    def overrides(self) -> tuple[str, ...]:
        """Overrides of the command line, sorted."""
        file = ".hydra/overrides.yaml"
        return tuple(sorted(map(str, self._yaml(file, list)))) if (self.folder / file).is_file() else ()

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``."""
        if not (self.folder / METRICS).is_file():
            raise UserError(
                f"{self.folder / METRICS} does not exist: the run did not finish. Resume it by its own command with "
                f"resume=true, or leave it out."
            )
        metrics: dict[str, Any] = self._json(METRICS)
        return metrics

    @cached_property
    def done(self) -> dict[str, Any]:
        """Content of ``done.json``; empty in a run that is not finished."""
        return self._json(DONE) if self.finished else {}

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Command, versions, machine, catalog and split hash; empty in runs older than that file."""
        return self._json("provenance.json") if (self.folder / "provenance.json").is_file() else {}

    @cached_property
    def history(self) -> "pd.DataFrame":
        """One row an epoch; none of a run that was not trained."""
        import pandas as pd

        return pd.DataFrame(self._json("history.json", list))

    @cached_property
    def split(self) -> "pd.DataFrame":
        """``recording_id``, ``species`` and ``split`` of its recordings, of sets of classes also ``labels``, tuples."""
        return self._recordings("split.csv", ["recording_id", "species", "split"])

    @cached_property
    def predictions(self) -> "dict[str, AnyPredictions]":
        """Saved predictions of ``val`` and ``test``."""
        return {stage: found for stage, (found, _) in self._saved.items()}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The K species, in the order of the saved logits."""
        return self._saved["test"][1]

    @property
    def test(self) -> "AnyPredictions":
        """Saved predictions of the test split."""
        return self.predictions["test"]

    @cached_property
    def counts(self) -> "NDArray[np.int64]":
        """``(K,)`` recordings of each species, in all splits."""
        train, val, test = self.supports.values()
        return train + val + test

    @cached_property
    def train_counts(self) -> "NDArray[np.int64]":
        """``(K,)`` train recordings of each species."""
        return self.supports["train"]

    @cached_property
    def whole_train_counts(self) -> "NDArray[np.int64]":
        """``(K,)`` train recordings of each species, with those that ``left_out.csv`` names."""
        if not (self.folder / LEFT_OUT).is_file():
            return self.train_counts
        left_out = self._recordings(LEFT_OUT, ["recording_id", "species"]).assign(split="train")
        return self.train_counts + supports_of(left_out, self.classes)["train"]

    @cached_property
    def supports(self) -> "dict[str, NDArray[np.int64]]":
        """``(K,)`` recordings of each species, by split."""
        return supports_of(self.split, self.classes)

    @property
    def seconds(self) -> float | None:
        """Wall time of the run; None where it is not known."""
        seconds = self.done.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    @property
    def task(self) -> Task:
        """Whether a recording has one class or a set of classes."""
        return task_of(self.metrics["test"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config["seed"])

    @property
    def split_seed(self) -> int:
        """The seed of its split: ``split.seed``, or the run's where that is not set."""
        seed = (self.config.get("split") or {}).get("seed")  # older runs have no such setting
        return self.seed if seed is None else int(seed)

    @property
    def seeds(self) -> str:
        """The run's seed for a reader, with that of its split where it is another."""
        return str(self.seed) if self.split_seed == self.seed else f"{self.seed} (split {self.split_seed})"

    @property
    def trained(self) -> bool:
        """False for an ensemble or a soup."""
        return not self.metrics.get("members")

    @property
    def evaluation(self) -> "Evaluation":
        """Limits of the buckets, and level of the intervals."""
        from birdclf.metrics.figures import Evaluation

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

    def load(self, which: str = "best", trusted: Collection[str] = ()) -> "LoadedRun":
        """Return the network of ``checkpoints/<which>.ckpt``, see :func:`birdclf.runs.checkpoint.load_run`."""
        from birdclf.runs.checkpoint import load_run  # imports torch

        return load_run(self.folder, which, trusted)

    def check_complete(self) -> None:
        """Read everything that a comparison of runs needs.

        Raises:
            UserError: If the run did not finish, or a file of it is missing, damaged or of another program.
        """
        if (self.folder / PRUNED).is_file() and not self.finished:
            raise UserError("Its search stopped the trial early: others were better at the same epoch.")
        if not self.finished:
            raise UserError("The run was stopped before its end: it has no done.json. Run its command again.")
        if not (self.folder / PREDICTIONS).is_file():
            raise UserError("The run has no predictions.parquet, without which nothing can be tested. Run it again.")
        try:
            for split in ("val", "test"):
                _ = [self.metrics[split][name]["low"] for name in HEADLINES[self.task]]
                _ = self.metrics[split]["buckets"], self.metrics[split]["clips"]
            facts = ("monitor", "score", "best_epoch", "epochs", "parameters", "classes")
            _ = self.evaluation, self.overrides, self.provenance, [self.metrics[name] for name in facts]
            _ = self.split_seed, float(self.done["seconds"]), self.history, self.supports
            if any(self.figure(f"test/{name}") is None for name in HEADLINES[self.task]):
                raise UserError("None of its species is heard in its test recordings, so that nothing can be judged.")
            if self.trained:
                _ = [self.history[column] for column in ("epoch", "lr", "train/nll", "val/nll")]
        except UserError:
            raise
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"A file of the run lacks {error}; another program or version wrote it.") from error

    @cached_property
    def _saved(self) -> "dict[str, tuple[AnyPredictions, tuple[str, ...]]]":
        from birdclf.metrics.label_predictions import read_label_predictions
        from birdclf.metrics.predictions import read_predictions

        read = read_predictions if self.task == "single_label" else read_label_predictions
        file = self.folder / PREDICTIONS
        try:
            return {stage: read(file, stage) for stage in ("val", "test")}
        except UserError:
            raise
        except Exception as error:  # Arrow raises many types for a damaged file
            raise _damaged(file, error) from error

    def _recordings(self, name: str, columns: list[str]) -> "pd.DataFrame":
        from birdclf.data.tables import read_own

        table = read_own(self.folder / name, columns)
        if "labels" in table:
            names = table.labels.fillna("").map(lambda text: tuple(json.loads(text or "[]")))
            table, columns = table.assign(labels=names), [*columns, "labels"]
        return table[columns]

    def _json(self, name: str, kind: type[Any] = dict) -> Any:
        file = self.folder / name
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(file, error) from error
        return _of_kind(content, kind, file)

    def _yaml(self, name: str, kind: type[Any]) -> Any:
        file = self.folder / name
        try:
            content = OmegaConf.to_container(OmegaConf.load(file))
        except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
            raise _damaged(file, error) from error
        return _of_kind(content, kind, file)


def supports_of(split: "pd.DataFrame", classes: Sequence[str]) -> "dict[str, NDArray[np.int64]]":
    """Return ``(K,)`` recordings of each class by split, in a table of :attr:`Run.split`."""
    import numpy as np

    from birdclf.data.splits import STAGES

    supports = {}
    for stage in STAGES:
        names = (
            split[split.split == stage].labels.explode() if "labels" in split else split.species[split.split == stage]
        )
        counted = names.value_counts().reindex(list(classes), fill_value=0)
        supports[stage] = np.asarray(counted, dtype=np.int64)
    return supports


def _damaged(file: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{file} does not exist. Restore it, or run its command again in a new folder.")
    why = next(iter(str(error).splitlines()), type(error).__name__)
    if isinstance(error, OSError) and error.strerror:
        why = error.strerror
    elif file.suffix in (".json", ".yaml"):
        why = f"it is not valid {file.suffix[1:].upper()} ({why})"
    return UserError(f"{file} cannot be read: {why}. Restore it, or run its command again in a new folder.")


def _of_kind(content: Any, kind: type[Any], file: Path) -> Any:
    if not isinstance(content, kind):
        raise UserError(
            f"{file} is damaged: it holds no {'settings' if file.suffix == '.yaml' else 'figures'}. Restore it."
        )
    return content


class LeftOut(NamedTuple):
    """A folder that the report leaves out, and the reason."""

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
        inside = sorted((f for f in marked if not _hidden_or_evaluation(f.relative_to(path))), key=_in_job_order)
        if not inside:
            raise UserError(
                f"{path} holds no run: no folder in it has a config.yaml. Give the folder that birdclf train wrote."
            )
        found |= dict.fromkeys(folder.resolve() for folder in inside)
    return list(found)


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Return the usable runs, and the other folders with the reason."""
    runs, left_out = [], []
    for folder in folders:
        try:
            run = Run(folder)
            run.check_complete()
            runs.append(run)
        except UserError as error:
            left_out.append(LeftOut(folder, str(error).replace(f"{folder}/", "")))
    return runs, left_out


def _hidden_or_evaluation(path: Path) -> bool:
    """Return whether a folder is hidden, such as ``.hydra``, or holds what ``birdclf evaluate`` wrote into a run."""
    return any(part.startswith(".") or part == "evaluations" for part in path.parts)


def _in_job_order(folder: Path) -> tuple[str, int, str]:
    job = folder.name.split("_")[0]
    return str(folder.parent), int(job) if job.isdecimal() else 0, folder.name
