"""Runs of one configuration, which differ by the seeds of training and split alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from birdclf.config import NOT_HASHED, config_hash, direction
from birdclf.errors import UserError
from birdclf.runs.run import LeftOut, Run
from birdclf.targets import HEADLINES, Task

UNSAID = (*NOT_HASHED, "seed", "split.seed", "sweep", "hydra", "name", "reference")
"""Settings that do not tell configurations apart for a reader."""

TAIL: Final[dict[Task, dict[str, str]]] = {
    "single_label": {"f1": "F1", "recall": "recall"},
    "multi_label": {"f1": "F1", "cmap": "cmAP"},
}
"""Figures of a bucket of species that are shown of each task, with their names; the last judges the long tail."""

CLASS_FIGURE: Final[dict[Task, str]] = {"single_label": "F1", "multi_label": "average precision"}
"""Figure of one species by which two configurations are compared."""

Seeds = tuple[int, int]
"""Seeds of training and split, which name a replicate."""


@dataclass(frozen=True)
class Configuration:
    """A configuration and its runs, by their seeds of training and split."""

    label: str
    runs: Mapping[Seeds, Run]

    @property
    def task(self) -> Task:
        """Task of its runs."""
        return self.first.task

    @property
    def headlines(self) -> dict[str, str]:
        """The two figures that it is compared by, with their names."""
        return HEADLINES[self.task]

    @property
    def tail(self) -> dict[str, str]:
        """Figures of a bucket of species, with their names."""
        return TAIL[self.task]

    @property
    def first(self) -> Run:
        """The run of the lowest seeds, which stands for the configuration where one must."""
        return next(iter(self.runs.values()))

    def values(self, metric: str) -> dict[Seeds, float]:
        """Return a metric such as ``test/accuracy`` by seeds, without the runs that lack it."""
        found = {seeds: run.figure(metric) for seeds, run in self.runs.items()}
        return {seeds: value for seeds, value in found.items() if value is not None}

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric over the seeds, None where no run has it."""
        values = list(self.values(metric).values())
        return float(np.mean(values)) if values else None


def configurations(runs: Sequence[Run]) -> tuple[list[Configuration], list[LeftOut]]:
    """Return the configurations in the order of their first run, and the runs that repeat another exactly."""
    groups: dict[str, dict[Seeds, Run]] = {}
    left_out = []
    of_folder: dict[str, str] = {}
    for _ in range(3):  # an ensemble of second stages of runs; a longer chain is told apart by its folders
        of_folder = {run.folder.name: _key(run.config, of_folder) for run in runs}
    for run in runs:
        group, seeds = groups.setdefault(_key(run.config, of_folder), {}), (run.seed, run.split_seed)
        if seeds in group:
            same = group[seeds].folder
            left_out.append(LeftOut(run.folder, f"It has the configuration and the seed of {same}, which is shown."))
        else:
            group[seeds] = run
    by_seed = [dict(sorted(group.items())) for group in groups.values()]
    names = _labels([next(iter(group.values())) for group in by_seed])
    return [Configuration(name, group) for name, group in zip(names, by_seed, strict=True)], left_out


def what_varied(found: Sequence[Configuration]) -> str:
    """Return a sentence on what the seeds of the configurations varied, and what verdicts therefore cover.

    It is empty where each configuration ran once. Test recordings tell splits apart: a file's or a column's are the
    same for every seed.
    """
    kinds = set()
    for runs in (configuration.runs.values() for configuration in found):
        tests = {frozenset(run.test.recording_id) for run in runs}
        kinds.add((len({run.seed for run in runs}) > 1, len(tests) > 1))
    kinds.discard((False, False))  # those of one run
    if len(kinds) > 1:
        return "Seeds varied training or split in some configurations, and something else in others; see their seeds."
    return "".join(VARIED[kind] for kind in kinds)


VARIED = {
    (True, True): "Seeds varied both training and split: verdicts cover other trainings on other splits of the same "
    "source.",
    (True, False): "Seeds varied training alone, on one split: verdicts cover other trainings on the same train "
    "recordings and other test recordings like these, not other train recordings.",
    (False, True): "Seeds varied the split alone: verdicts cover other splits of the same source, with the same "
    "initial weights.",
}
"""What verdicts cover, by whether seeds of training and splits varied."""


def _key(config: Mapping[str, Any], of_folder: Mapping[str, str]) -> str:
    """Return what all runs of a configuration have in common.

    Where it builds on another run of the report, of the same seed as a rule, that run's configuration counts.
    """
    built_on = {name: config[name] for name in ("init_from", "members") if config.get(name)}
    known = {
        name: [of_folder.get(Path(str(path)).name, path) for path in ([value] if isinstance(value, str) else value)]
        for name, value in built_on.items()
    }
    split = {key: value for key, value in (config.get("split") or {}).items() if key != "seed"}
    return config_hash({**config, **known, "seed": None, "split": split})


def best_first(found: Sequence[Configuration]) -> tuple[list[Configuration], str]:
    """Return the configurations by their mean validation score, the best first, and the metric that ranks them.

    That is the metric which chose their checkpoints, or validation accuracy, of sets cmAP, where they were chosen by
    several. Of runs of both tasks each has its own order, and the metric is that of the first.
    Test figures never rank: they then remain fair for the one that is picked.
    """
    tasks = list(dict.fromkeys(configuration.task for configuration in found))
    if len(tasks) > 1:  # figures of one say nothing against those of the other
        ranked = [best_first([one for one in found if one.task == task]) for task in tasks]
        return [one for each, _ in ranked for one in each], ranked[0][1]
    monitors = {run.metrics["monitor"] for configuration in found for run in configuration.runs.values()}
    figure = next(iter(HEADLINES[tasks[0]]))
    monitor = next(iter(monitors)) if len(monitors) == 1 else f"val/{figure}"
    sign = 1 if direction(monitor) == "max" else -1

    def score(configuration: Configuration) -> float:
        if len(monitors) == 1:
            return sign * float(np.mean([run.metrics["score"] for run in configuration.runs.values()]))
        return float(np.mean([run.metrics["val"][figure]["value"] for run in configuration.runs.values()]))

    return sorted(found, key=score, reverse=True), monitor


def chosen(ranked: Sequence[Configuration], reference: str | None) -> Configuration:
    """Return the configuration of a label or experiment name, the first for None.

    Raises:
        UserError: If none has it.
    """
    if reference is None:
        return ranked[0]
    for configuration in ranked:
        if reference in (configuration.label, configuration.first.name):
            return configuration
    known = ", ".join(configuration.label for configuration in ranked)
    raise UserError(f"--reference {reference} is none of the configurations; they are: {known}.")


def settings_of(run: Run) -> dict[str, str]:
    """Return what was set on the command line and can tell runs apart, by key, the most telling first."""
    pairs = dict(word.lstrip("+~").partition("=")[::2] for word in run.overrides)
    keys = sorted(pairs, key=_importance)
    return {key: pairs[key] for key in keys if not {key, key.split(".")[0]} & set(UNSAID)}


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return a label per run: the settings that vary, or the experiment's name, told apart by the configuration."""
    settings = [settings_of(run) for run in runs]
    trained = [each for run, each in zip(runs, settings, strict=True) if run.trained]
    keys = sorted({key for each in trained for key in each}, key=_importance)
    configs = [run.config for run in runs if run.trained]
    varied = [key for key in keys if len({each.get(key) for each in trained}) > 1 and _differs(key, configs)]
    labels = []
    for run, each in zip(runs, settings, strict=True):
        words = [
            f"{key}={each[key]}" if "." in key or _is_plain(run.config.get(key)) else each[key]
            for key in varied
            if key in each
        ]
        made_of = " ".join(each.values()) if not run.trained else ""
        labels.append(" ".join(words) or made_of or run.name)
    return _distinguished(labels, runs)


def _is_plain(value: Any) -> bool:
    """Return whether a setting is a number or a truth value, which mean nothing without its name."""
    return isinstance(value, bool | int | float)


def _differs(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a setting has several values: what one sweep sets may be what another's runs have anyway.

    One that no configuration holds, such as the experiment, is known by the command lines alone.
    """
    values = [_value(config, key) for config in configs]
    return all(v is None for v in values) or any(v != values[0] for v in values)


def _value(node: Any, key: str) -> Any:
    for word in key.split("."):
        node = node.get(word) if isinstance(node, Mapping) else None
    return node


def _distinguished(labels: list[str], runs: Sequence[Run]) -> list[str]:
    counts = Counter(labels)
    flat = [dict(_flat(run.config)) for run in runs]
    out: list[str] = []
    for label, own in zip(labels, flat, strict=True):
        if counts[label] > 1:
            rivals = [other for name, other in zip(labels, flat, strict=True) if name == label]
            keys = [key for key in own if any(other.get(key) != own[key] for other in rivals)][:3]
            label = " ".join([label, *(f"{key}={own[key]}" for key in keys)])
        out.append(label if label not in out else f"{label} ({len(out) + 1})")
    return out


def _flat(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            dotted = f"{name}.{key}" if name else str(key)
            if dotted not in UNSAID:
                yield from _flat(value, dotted)
    else:
        yield name, str(node)


def _importance(key: str) -> tuple[int, str]:
    first = ("experiment", "model", "loss")
    return (first.index(key) if key in first else len(first), key)
