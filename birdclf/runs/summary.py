"""The table at the end of a run."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from birdclf.text import shown

SHOWN = (
    *("accuracy", "top5_accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "macro_average_precision"),
    *("nll", "ece", "ece_calibrated"),
)


def print_results(metrics: dict[str, Any], folder: Path) -> None:
    """Print validation and test figures, and where the run folder is."""
    title = f"epoch {metrics['best_epoch']} of {metrics['epochs']}, best by {metrics['monitor']}"
    print_table(title, {stage: metrics[stage] for stage in ("val", "test")})
    Console().print(shown(f"run folder: {folder}"), soft_wrap=True, highlight=False, markup=False)


def print_table(title: str, figures: dict[str, Any]) -> None:
    """Print the figures of each split side by side."""
    table = Table(title=Text(shown(title)))  # a plain text could hold markup
    table.add_column("")
    for stage, own in figures.items():
        table.add_column(f"{stage} ({own['clips']} clips)", justify="right")
    for name in SHOWN:
        table.add_row(name, *(_cell(own[name]) for own in figures.values()))
    for bucket in ("many", "medium", "few"):
        cells = []
        for own in figures.values():
            row = own["buckets"][bucket]
            cells.append("-" if row["recall"] is None else f"{_cell(row['recall'])} ({row['classes']} species)")
        table.add_row(f"recall, {bucket}-shot", *cells)
    Console().print(table)


def _cell(figure: float | dict[str, float]) -> str:
    if isinstance(figure, dict):
        return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure:.3f}"
