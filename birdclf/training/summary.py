"""The table at the end of a run."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_results(metrics: dict[str, Any], folder: Path) -> None:
    """Print validation and test figures, and where the run folder is."""
    table = Table(title=f"epoch {metrics['best_epoch']} of {metrics['epochs']}, best by {metrics['monitor']}")
    table.add_column("")
    for stage in ("val", "test"):
        table.add_column(f"{stage} ({metrics[stage]['clips']} clips)", justify="right")
    for name in ("accuracy", "top5_accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "nll"):
        table.add_row(name, *(_cell(metrics[stage][name]) for stage in ("val", "test")))
    for bucket in ("many", "medium", "few"):
        cells = []
        for stage in ("val", "test"):
            row = metrics[stage]["buckets"][bucket]
            cells.append("-" if row["recall"] is None else f"{row['recall']:.3f} ({row['classes']} species)")
        table.add_row(f"recall, {bucket}-shot", *cells)
    console = Console()
    console.print(table)
    console.print(f"run folder: {folder}", soft_wrap=True, highlight=False)


def _cell(figure: float | dict[str, float]) -> str:
    if isinstance(figure, dict):
        return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure:.3f}"
