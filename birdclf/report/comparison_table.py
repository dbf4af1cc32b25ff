"""The table of all configurations."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from birdclf.evaluation.settings import Evaluation
from birdclf.report.configurations import Configuration
from birdclf.report.document import Block, Cell, Section, Table
from birdclf.report.estimates import estimate
from birdclf.report.wording import number

BUCKETS = ("many", "medium", "few")


def comparison_rows(found: Sequence[Configuration], settings: Evaluation) -> pd.DataFrame:
    """Return a row a configuration, as ``comparison.csv`` has it: means over seeds, and standard deviations.

    Args:
        found: Configurations, the best first.
        settings: Confidence of the intervals of those with one seed.
    """
    rows = []
    for configuration in found:
        runs = list(configuration.runs.values())
        row: dict[str, object] = {
            "configuration": configuration.label,
            "parameters": runs[0].metrics["parameters"],
            "parameters_per_class": runs[0].metrics["parameters"] / runs[0].metrics["classes"],
            "seeds": " ".join(str(run.seed) for run in runs),
            "val_score": float(np.mean([run.metrics["score"] for run in runs])),
        }
        for name in ("accuracy", "macro_f1"):
            values = list(configuration.values(f"test/{name}").values())
            row[f"test_{name}"] = float(np.mean(values))
            row[f"test_{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
            if len(runs) == 1:
                one = estimate(configuration, f"test/{name}", settings)
                assert one, "every run has its accuracy and macro F1"
                row |= {f"test_{name}_low": one.low, f"test_{name}_high": one.high}
        for figure in ("f1", "recall"):
            row |= {f"test_{bucket}_{figure}": configuration.mean(f"test/{bucket}_{figure}") for bucket in BUCKETS}
        row |= {
            "best_epoch": float(np.mean([run.metrics["best_epoch"] for run in runs])),
            "epochs": float(np.mean([run.metrics["epochs"] for run in runs])),
            "minutes": float(np.mean([run.seconds for run in runs])) / 60,
            "windows_per_s": _speed(configuration),
            "folders": " ".join(str(run.folder) for run in runs),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def table_section(found: Sequence[Configuration], monitor: str, settings: Evaluation) -> Section:
    """Return the section of the comparison table, in the order given."""
    first = ("configuration", "parameters", "a class", "seeds", f"mean {monitor}", "test accuracy", "test macro F1")
    head = (*first, *(f"F1 {bucket}" for bucket in BUCKETS), "epochs", "minutes", "windows/s")
    rows: list[tuple[Cell, ...]] = []
    for configuration, (_, row) in zip(found, comparison_rows(found, settings).iterrows(), strict=True):
        accuracy, macro = (estimate(configuration, f"test/{name}", settings) for name in ("accuracy", "macro_f1"))
        assert accuracy and macro
        rows.append(
            (
                configuration.label,
                number(row["parameters"], "{:,.0f}"),
                number(row["parameters_per_class"], "{:,.0f}"),
                number(len(configuration.runs), "{:.0f}"),
                number(configuration.mean(monitor)),
                accuracy.cell(),
                macro.cell(),
                *(number(row[f"test_{bucket}_f1"]) for bucket in BUCKETS),
                number(row["epochs"], "{:.0f}"),
                number(row["minutes"], "{:.1f}"),
                number(row["windows_per_s"], "{:,.0f}"),
            )
        )
    said = (
        f"Sorted by {monitor} on validation data, the mean over seeds. Of one seed the brackets are "
        f"{settings.coverage} intervals over its test recordings; of several, ± is the standard deviation over seeds. "
        f"Many, medium and few are species with more than {settings.many}, {settings.few} to {settings.many}, and "
        f"fewer than {settings.few} recordings to train on."
    )
    table = Table("Configurations", head, tuple(rows), filterable=True)
    return Section("table", "All configurations", (said, table, *_intervals(found, settings)))


def _intervals(found: Sequence[Configuration], settings: Evaluation) -> tuple[Block, ...]:
    """Return a table of the figures that a long tail is judged by, each with an interval."""
    head = ("configuration", "accuracy", "macro F1", *(f"recall {bucket}" for bucket in BUCKETS))
    metrics = ("accuracy", "macro_f1", *(f"{bucket}_recall" for bucket in BUCKETS))
    rows = []
    for configuration in found:
        estimates = [estimate(configuration, f"test/{name}", settings) for name in metrics]
        rows.append((configuration.label, *(e.interval_cell() if e else "" for e in estimates)))
    said = (
        "The same with intervals throughout: over test recordings of one seed, Student's of the mean over several. "
        "Intervals that touch decide nothing; the tests below are paired and see more."
    )
    return said, Table(f"Test figures with {settings.coverage} intervals", head, tuple(rows), filterable=True)


def _speed(configuration: Configuration) -> float | None:
    speeds = [
        run.history["windows_per_s"].median() for run in configuration.runs.values() if "windows_per_s" in run.history
    ]
    return float(np.mean(speeds)) if speeds else None
