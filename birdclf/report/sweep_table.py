"""The table that a multirun ends with: its jobs, best first."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    import pandas as pd


class SweepTable(Callback):
    """Prints a multirun's jobs, best first, and writes ``sweep.csv`` and ``sweep.md`` to the sweep folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collect the jobs once all have ended."""
        folder = Path(config.hydra.sweep.dir)
        table = sweep_table(folder)
        if table.empty:
            return
        table.to_csv(folder / "sweep.csv", index=False)
        (folder / "sweep.md").write_text(_markdown(table))
        _print(table, folder)


def sweep_table(folder: Path) -> "pd.DataFrame":
    """Return one row a job of a sweep folder, best first; jobs that did not finish come last.

    Args:
        folder: Sweep folder, with a run folder a job.
    """
    import pandas as pd

    from birdclf.config import direction

    rows = []
    for hydra in sorted(folder.glob("*/.hydra/overrides.yaml")):
        job = hydra.parent.parent
        overrides = OmegaConf.to_container(OmegaConf.load(hydra))
        assert isinstance(overrides, list)
        chosen = " ".join(str(o) for o in overrides if not str(o).startswith("sweep="))
        row: dict[str, Any] = {"job": job.name.split("_")[0], "overrides": chosen, "status": "not finished"}
        if (job / "done.json").is_file():
            done = json.loads((job / "done.json").read_text())
            metrics = json.loads((job / "metrics.json").read_text())
            accuracy = metrics["test"]["accuracy"]
            row |= {
                "status": "finished",
                done["monitor"]: done["score"],
                "val accuracy": metrics["val"]["accuracy"]["value"],
                "test accuracy": accuracy["value"],
                "low": accuracy["low"],
                "high": accuracy["high"],
                "test macro F1": metrics["test"]["macro_f1"]["value"],
                "parameters": metrics["parameters"],
                "best epoch": metrics["best_epoch"],
                "epochs": metrics["epochs"],
                "minutes": done["seconds"] / 60,
                "_order": done["score"] if direction(done["monitor"]) == "max" else -done["score"],
            }
        rows.append(row)
    table = pd.DataFrame(rows)
    if "_order" in table:
        table = table.sort_values("_order", ascending=False, na_position="last", kind="stable").drop(columns="_order")
    return table.reset_index(drop=True)


def _cells(table: "pd.DataFrame") -> tuple[list[str], list[list[str]]]:
    head = [c for c in table.columns if c not in ("low", "high")]
    rows = []
    for _, row in table.iterrows():
        cells = []
        for name in head:
            value = row[name]
            if isinstance(value, str):
                text = value
            elif value != value:
                text = ""
            elif name in ("parameters", "best epoch", "epochs"):
                text = f"{int(value):,}"
            else:
                text = f"{value:.1f}" if name == "minutes" else f"{value:.3f}"
            if name == "test accuracy" and text:
                text += f" [{row['low']:.3f}, {row['high']:.3f}]"
            cells.append(text)
        rows.append(cells)
    return head, rows


def _markdown(table: "pd.DataFrame") -> str:
    head, rows = _cells(table)
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _print(table: "pd.DataFrame", folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    head, rows = _cells(table)
    sheet = Table(title=f"{len(rows)} jobs, best first")
    for name in head:
        sheet.add_column(name, overflow="fold", justify="left" if name in ("job", "overrides", "status") else "right")
    for cells in rows:
        sheet.add_row(*cells)
    console = Console()
    console.print(sheet)
    console.print(f"sweep folder: {folder}", soft_wrap=True, highlight=False)
