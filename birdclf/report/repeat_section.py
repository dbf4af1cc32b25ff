"""How to repeat every run: commands, versions, seeds, hashes, machine."""

import shlex
from collections.abc import Sequence

from birdclf.report.configurations import Configuration
from birdclf.report.document import Block, Cell, Code, Folded, Section, Table
from birdclf.report.runs import Run

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
        label,
        str(run.seed),
        str(catalog.get("name", UNKNOWN)),
        str(catalog.get("content_hash", UNKNOWN)),
        str(run.provenance.get("split_hash", UNKNOWN)),
        ", ".join(f"{key} {value}" for key, value in machine.items()) or UNKNOWN,
        str(run.folder),
    )
