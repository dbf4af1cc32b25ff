"""The table of a sweep's jobs, best first."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from birdclf.config import JOB_NAMING
from birdclf.files import reason, write_whole
from birdclf.runs import state as run_folder
from birdclf.runs.run import DONE, FAILED, Run
from birdclf.targets import HEADLINES, task_of
from birdclf.text import in_markdown, markdown_table, printable

if TYPE_CHECKING:
    import pandas as pd


FINISHED, OPEN = "finished", "not finished"
NO_SETTING = ("sweep=", "callbacks/pruning=", "callbacks.pruning", "resume=", "fail_fast=")


class SweepTable(Callback):
    """Writes a multirun's jobs, best first, to ``sweep.csv`` and ``sweep.md`` in the sweep folder, and prints them."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collect the jobs once all have ended; leave with status 1 if one of them failed."""
        folder = Path(config.hydra.sweep.dir)
        table = sweep_table(folder)
        message = failures(folder, sys.argv)
        if "resume" in config and not table.empty:  # a sweep of trainings; others have no scores to compare
            try:
                write_whole(folder / "sweep.csv", table.to_csv(index=False))
                write_whole(folder / "sweep.md", _markdown(table))
            except OSError as error:
                message = "\n".join(filter(None, [message, _unwritten(folder, error)]))
            _print(table, folder)
        if message:
            # Hydra turns exceptions of a callback into warnings; leaving the process is the way to end with a status.
            sys.exit(message)


def failures(folder: Path, argv: list[str]) -> str:
    """Return why jobs of a sweep failed and the command that runs just those; empty if none did."""
    failed = run_folder.failures(folder)
    if not failed:
        return ""
    own = [word for word in argv[1:] if not word.startswith((JOB_NAMING, "hydra.sweep.dir="))]
    again = [*argv[0].split(), *own, f"hydra.sweep.dir={folder}"]
    lines = [f"birdclf: {len(failed)} {'job' if len(failed) == 1 else 'jobs'} failed:"]
    lines += [printable(f"  {name}: {why}") for name, why in failed.items()]
    lines += ["Finished jobs are kept; this runs the others:", f"  {shlex.join(again)}"]
    return "\n".join(lines)


def _unwritten(folder: Path, error: OSError) -> str:
    return (
        f"birdclf: {folder} cannot be written to: {reason(error)}. Free some space or bring the folder back; "
        f"the same command then writes the table of the sweep."
    )


def sweep_table(folder: Path) -> "pd.DataFrame":
    """Return one row a job of a sweep folder, best first; jobs that did not finish come last."""
    import pandas as pd

    from birdclf.config import direction

    rows = []
    for hydra in sorted(folder.glob("*/.hydra/overrides.yaml")):
        job = hydra.parent.parent
        overrides = OmegaConf.to_container(OmegaConf.load(hydra))
        assert isinstance(overrides, list)
        chosen = " ".join(str(o) for o in overrides if not str(o).startswith(NO_SETTING))
        row: dict[str, Any] = {"job": job.name.split("_")[0], "overrides": chosen, "status": OPEN}
        if (job / FAILED).is_file():
            row["status"] = "failed"
        elif (epochs := run_folder.pruned_after(job)) is not None:
            row["status"] = f"pruned after epoch {epochs}"
        if Run(job).finished:
            done = json.loads((job / DONE).read_text())
            metrics = json.loads((job / "metrics.json").read_text())
            (first, name), (second, other) = HEADLINES[task_of(metrics["test"])].items()
            figure = metrics["test"][first]
            row |= {
                "status": FINISHED,
                done["monitor"]: done["score"],
                f"val {name}": metrics["val"][first]["value"],
                f"test {name}": figure["value"],
                "low": figure["low"],
                "high": figure["high"],
                f"test {other}": metrics["test"][second]["value"],
                "parameters": metrics["parameters"],
                "best epoch": metrics["best_epoch"],
                "epochs": metrics["epochs"],
                "minutes": done["seconds"] / 60,
                "_order": done["score"] if direction(done["monitor"]) == "max" else -done["score"],
            }
        rows.append(row)
    finished = {row["overrides"] for row in rows if row["status"] == FINISHED}
    # A sweep launched again with more values renumbers its jobs: a finished one leaves an empty folder behind.
    rows = [row for row in rows if row["status"] == FINISHED or row["overrides"] not in finished]
    table = pd.DataFrame(rows)
    if "_order" in table:
        table = table.sort_values("_order", ascending=False, na_position="last", kind="stable").drop(columns="_order")
    return table.reset_index(drop=True)


def _varied(overrides: list[str]) -> tuple[list[str], str]:
    """Return the overrides that differ between jobs, and those that all share."""
    jobs = [text.split() for text in overrides]
    shared = [word for word in jobs[0] if all(word in job for job in jobs)] if len(jobs) > 1 else []
    varied = [[word for word in job if word not in shared] for job in jobs]
    if all(len(job) == 1 for job in varied) and len({job[0].split("=")[0] for job in varied}) == 1:
        varied = [[job[0].split("=", 1)[1]] for job in varied]  # one key: its values say enough
    return [" ".join(job) for job in varied], " ".join(shared)


def _cells(table: "pd.DataFrame") -> tuple[list[str], list[list[str]], str]:
    """Return head, rows and shared overrides of the table that a person reads."""
    varied, shared = _varied([str(text) for text in table.overrides])
    monitor = next((str(name) for name in table.columns if str(name).startswith("val/")), "")
    first, second = [str(name) for name in table.columns if str(name).startswith("test ")][:2] or [
        "test accuracy",
        "test macro F1",
    ]
    head = ["job", monitor or "status", first, second.removeprefix("test "), "epochs"]
    rows = []
    for config, (_, row) in zip(varied, table.iterrows(), strict=True):
        if row["status"] != FINISHED:
            rows.append([f"{row['job']} {config}", row["status"], *[""] * (len(head) - 2)])
            continue
        between = f" [{row['low']:.2f}, {row['high']:.2f}]"
        rows.append(
            [
                f"{row['job']} {config}",
                *(
                    # A sweep over task has jobs with other figures, which are in its CSV.
                    "-" if row[name] != row[name] else f"{row[name]:.3f}" + (between if name == first else "")
                    for name in (monitor, first, second)
                ),
                f"{int(row['best epoch'])}/{int(row['epochs'])}",
            ]
        )
    return head, rows, shared


def _markdown(table: "pd.DataFrame") -> str:
    head, rows, shared = _cells(table)
    text = markdown_table(map(in_markdown, head), (map(in_markdown, row) for row in rows)) + "\n"
    return text + (f"\nAll jobs: {in_markdown(shared)}\n" if shared else "")


def _print(table: "pd.DataFrame", folder: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def literal(text: str) -> Text:  # a str could hold markup
        return Text(printable(text))

    head, rows, shared = _cells(table)
    sheet = Table(
        title=f"{len(rows)} jobs, best first",
        caption=literal(shared) if shared else None,
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    for name in head:
        if name == "job":
            sheet.add_column(literal(name), overflow="fold", min_width=20)
        else:
            sheet.add_column(literal(name), justify="right", no_wrap=True)
    for cells in rows:
        sheet.add_row(*map(literal, cells))
    console = Console()
    console.print(sheet)
    console.print(printable(f"sweep folder: {folder}"), soft_wrap=True, highlight=False, markup=False)
