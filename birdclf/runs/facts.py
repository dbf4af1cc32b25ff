"""What a run folder tells of its model, without opening the checkpoint."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from birdclf.data.tables import read_own
from birdclf.errors import UserError
from birdclf.metrics.figures import Evaluation
from birdclf.runs.state import begun

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class RunFacts:
    """What a card says of a run.

    Attributes:
        folder: The run folder.
        config: Its resolved configuration.
        metrics: Content of ``metrics.json``.
        provenance: Content of ``provenance.json``; empty where there is none.
        seconds: How long training took; None where nobody knows.
        species: A row a class: ``species``, recordings in ``train``, ``val`` and ``test``, ``precision``, ``recall``
            and ``f1`` on test (NaN where there is no recording to tell), and ``bucket``; commonest first.
        leaks: Content of ``leaks.csv``; no rows where there is none.
        settings: Limits of the buckets and confidence of the intervals.
    """

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    seconds: float | None
    species: pd.DataFrame
    leaks: pd.DataFrame
    settings: Evaluation

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on the procedural aviary."""
        return target(self.config, "data").startswith("birdclf.data.sources.synthetic.")

    def catalog(self, name: str) -> Any:
        """Return a fact of the source; None where the run does not have it."""
        return (self.provenance.get("catalog") or {}).get(name)

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return float((self.config.get("features") or {}).get("window_s", 5.0))

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate that features are made at."""
        return int((self.config.get("features") or {}).get("sample_rate_hz", 16_000))  # of AST, which has no other


def read_facts(folder: Path) -> RunFacts:
    """Return what a run folder tells.

    Raises:
        UserError: If it holds no finished run with a checkpoint, or a file of it is missing or damaged.
    """
    config = begun(folder)
    if config is None:
        raise UserError(
            f"{folder / 'config.yaml'} does not exist; {folder} is no run folder. Give one of birdclf train."
        )
    if not (folder / "metrics.json").is_file():
        raise UserError(
            f"{folder / 'metrics.json'} does not exist: the run did not finish, so that a card would have no figures. "
            f"Let it finish with resume=true, or leave the card out."
        )
    metrics = _read(folder / "metrics.json")
    if not (folder / "checkpoints" / "best.ckpt").is_file():
        raise UserError(f"{folder / 'checkpoints' / 'best.ckpt'} does not exist: there is no network to tell of.")
    try:
        settings = _settings(config)
        species = _species(folder, settings)
        _ = [metrics[name] for name in ("parameters", "classes", "temperature", "best_epoch", "epochs", "monitor")]
        for split in ("val", "test"):
            _ = [metrics[split][name] for name in ("accuracy", "macro_f1", "balanced_accuracy", "buckets", "clips")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder}: metrics.json, split.csv or per_class.csv is damaged or of another program: {error}. Restore it."
        ) from error
    provenance = _read(folder / "provenance.json") if (folder / "provenance.json").is_file() else {}
    done = _read(folder / "done.json") if (folder / "done.json").is_file() else {}
    seconds = done.get("seconds")
    return RunFacts(
        folder,
        config,
        metrics,
        provenance,
        float(seconds) if isinstance(seconds, int | float) else None,
        species,
        _leaks(folder / "leaks.csv"),
        settings,
    )


def target(config: Mapping[str, Any], group: str) -> str:
    """Return the dotted name of what a group builds; empty where there is none."""
    node = config.get(group)
    return str(node.get("_target_", "")) if isinstance(node, Mapping) else ""


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}. Restore it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no figures. Restore it.")
    return content


def _settings(config: Mapping[str, Any]) -> Evaluation:
    given = config.get("evaluation") or {}
    return Evaluation(**{name: given[name] for name in ("many", "few", "confidence") if name in given})


def _species(folder: Path, settings: Evaluation) -> pd.DataFrame:
    split = read_own(folder / "split.csv")
    counts = pd.crosstab(split.species, split.split).reindex(columns=list(SPLITS), fill_value=0)
    table = counts.rename_axis(columns=None).reset_index()
    figures = pd.DataFrame({"species": table.species, "precision": np.nan, "recall": np.nan, "f1": np.nan})
    if (folder / "per_class.csv").is_file():
        read = read_own(folder / "per_class.csv")[["species", "precision", "recall", "f1"]]
        figures = read.astype(dict.fromkeys(("precision", "recall", "f1"), float))
    table = table.merge(figures, on="species", how="left")
    table.loc[table.test == 0, ["precision", "recall", "f1"]] = np.nan
    table["bucket"] = ""
    for name, members in settings.buckets(table.train.to_numpy(dtype=np.int64)).items():
        table.loc[members, "bucket"] = name
    return table.sort_values(["train", "species"], ascending=[False, True], ignore_index=True)


def _leaks(file: Path) -> pd.DataFrame:
    columns = ["split", "leak", "recordings", "known", "shared"]
    if not file.is_file():
        return pd.DataFrame(columns=columns)
    try:
        return read_own(file)[columns].astype(dict.fromkeys(columns[2:], int))
    except (KeyError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error}. Restore it.") from error
