"""The figures that a study published beside those measured here."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from birdclf.data.sources.synthetic import has_the_studys_counts
from birdclf.report.configurations import Configuration
from birdclf.report.document import Block, Cell, Code, Folded, Section, Table, number
from birdclf.runs.run import Run

STUDY_SOURCES: Final = ("xeno_canto", "kaggle_extended")
"""Modules of the catalogues that hold the recordings of the study: those of Xeno-canto."""


def published_section(found: Sequence[Configuration]) -> Section:
    """Return the section; one row per published figure."""
    rows: list[tuple[Cell, ...]] = []
    for configuration in found:
        run = configuration.first
        reference = run.metrics.get("reference") or {}
        data = "the study's" if is_the_studys(run) else "other data"
        for metric, value in _figures(reference):
            try:
                measured = configuration.mean(metric) if "/" in metric else float(run.metrics[metric])
            except KeyError:
                measured = None
            form = "{:.3f}" if "/" in metric else "{:.0f}"
            rows.append((configuration.label, metric, number(value, form), number(measured, form), data))
    title = "Published figures"
    if not rows:
        return Section("published", title, ("No configuration here names figures that were published.",))
    text = (
        "The study's figures beside those measured here. “Other data” marks a catalogue that is not the study's: then "
        "the two columns say nothing about each other, only about the order of the phases."
    )
    head = ("configuration", "figure", "published", "measured (mean over seeds)", "data")
    return Section("published", title, (text, Table("Published and measured", head, tuple(rows))))


def is_the_studys(run: Run) -> bool:
    """Return whether a run's recordings can be the study's: Xeno-canto's, of its species, as many of each."""
    module = str((run.config.get("data") or {}).get("_target_", "")).split(".")
    if not any(name in STUDY_SOURCES for name in module):
        return False
    return has_the_studys_counts(zip(run.classes, run.counts.tolist(), strict=True))


def _figures(reference: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in reference.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}/{name}", float(figure)) for name, figure in value.items())
        elif value is not None:
            yield key, float(value)


UNKNOWN = "not recorded"


def repeat_section(found: Sequence[Configuration]) -> Section:
    """Return the section: a command a run, and what it ran on."""
    runs = [run for configuration in found for run in configuration.runs.values()]
    labels = [configuration.label for configuration in found for _ in configuration.runs]
    blocks: list[Block] = [
        "A command a run, from the folder that holds your data. Equal commands, versions and data give equal figures "
        "on the same kind of machine.",
        Code("\n".join(_command(run) for run in runs)),
        Table(
            "Data and machine of each run",
            ("configuration", "seed", "catalogue", "catalogue hash", "split hash", "machine", "folder"),
            tuple(_row(label, run) for label, run in zip(labels, runs, strict=True)),
        ),
    ]
    versions = {tuple(sorted(run.provenance.get("versions", {}).items())) for run in runs}
    for i, found_versions in enumerate(sorted(versions), start=1):
        if found_versions:
            name = "Versions" if len(versions) == 1 else f"Versions, set {i} of {len(versions)}"
            table = Table(name, ("package", "version"), tuple((str(k), str(v)) for k, v in found_versions))
            blocks.append(Folded(name, (table,)))
    if () in versions:
        blocks.append("Runs without a provenance.json are older than that file; their versions are not recorded.")
    return Section("repeat", "How to repeat it", tuple(blocks))


def _command(run: Run) -> str:
    """Return the command of this one run, also where it was a job of a sweep."""
    if not run.trained:
        return shlex.join(map(str, run.provenance.get("command") or ["#", UNKNOWN]))
    words = [
        word for word in run.overrides if not word.startswith(("sweep=", "callbacks/pruning=", "callbacks.pruning"))
    ]
    if not any(word.startswith("seed=") for word in words):
        words.append(f"seed={run.seed}")
    return shlex.join(["birdclf", "train", *words])


def _row(label: str, run: Run) -> tuple[Cell, ...]:
    catalog, machine = run.provenance.get("catalog") or {}, run.provenance.get("machine") or {}
    return (
        label, run.seeds, str(catalog.get("name", UNKNOWN)), str(catalog.get("content_hash", UNKNOWN)),
        str(run.provenance.get("split_hash", UNKNOWN)),
        ", ".join(f"{key} {value}" for key, value in machine.items()) or UNKNOWN, str(run.folder),
    )  # fmt: skip
