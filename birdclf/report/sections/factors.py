"""Effects of the factors of a sweep, and their interactions."""

from collections.abc import Sequence
from itertools import product
from typing import Final

import pandas as pd

from birdclf.metrics.effects import effects
from birdclf.metrics.figures import Evaluation
from birdclf.report.configurations import Configuration, settings_of
from birdclf.report.document import Block, Cell, Section, Table, counted, listed, number, p_number
from birdclf.report.sections.pictures import effects_plot

MEASURED: Final = {"accuracy": "Test accuracy", "macro_f1": "Test macro F1"}
MOST_FACTORS: Final = 4
TITLE: Final = "Main effects and interactions"


def factors_section(found: Sequence[Configuration], settings: Evaluation) -> Section:
    """Return the section: effects of each level, where the runs make a complete factorial, else why there are none."""
    table, factors = factorial(found)
    why = _why_not(table, factors)
    if why:
        return Section("effects", TITLE, (why,))
    blocks: list[Block] = [
        f"{counted(len(table), 'run')} of {listed([f'{table[f].nunique()} × {f}' for f in factors])}. An effect is the "
        f"mean of a level minus the mean over all, with its {settings.coverage} interval; an x marks what factors do "
        "together beyond their sum. p is the F-test of the whole term, with the seeds as replicates."
    ]
    if table.groupby(factors).size().max() == 1:
        blocks.append(
            "Each combination ran once: with no replicate, what is left over stands for the noise. Add seeds."
        )
    fitted: dict[str, pd.DataFrame] = {}
    below: list[Block] = []
    for metric, name in MEASURED.items():
        try:
            fitted[name] = effects(table, factors, metric, settings.confidence)
            below.append(_table(name, fitted[name]))
        except ValueError as error:
            below.append(f"{name}: no effects can be estimated, because {error}.")
    return Section("effects", TITLE, (*blocks, *([effects_plot(fitted, settings)] if fitted else []), *below))


def factorial(found: Sequence[Configuration]) -> tuple[pd.DataFrame, list[str]]:
    """Return one row per run with its settings, ``accuracy`` and ``macro_f1``, and the names of settings that vary."""
    rows = [
        {**settings_of(run), **{metric: run.figure(f"test/{metric}") for metric in MEASURED}, "seed": run.seed}
        for configuration in found
        for run in configuration.runs.values()
        if run.trained
    ]
    table = pd.DataFrame(rows)
    names = [c for c in table.columns if c not in (*MEASURED, "seed")]
    table[names] = table[names].fillna("default")
    return table, [name for name in names if table[name].nunique() > 1]


def _why_not(table: pd.DataFrame, factors: list[str]) -> str:
    if len(factors) < 2:
        varied = f"only {factors[0]} varies" if factors else "nothing varies"
        return f"Effects need a sweep over two factors or more; here {varied}."
    if len(factors) > MOST_FACTORS:
        return f"{len(factors)} settings vary ({listed(factors)}); up to {MOST_FACTORS} are analysed."
    combinations = set(product(*(table[factor].unique() for factor in factors)))
    missing = len(combinations) - len(table[factors].drop_duplicates())
    if missing:
        return (
            f"The runs are no complete factorial of {listed(factors)}: {missing} of {len(combinations)} combinations "
            "are missing, and effects would be confounded. Run those, or report on the sweep alone."
        )
    return ""


def _table(name: str, found: pd.DataFrame) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for row in found.to_dict("records"):
        text = f"{row['effect']:+.3f}" + (
            f" [{row['low']:+.3f}, {row['high']:+.3f}]" if row["low"] == row["low"] else ""
        )
        rows.append((str(row["term"]), str(row["level"]), number(row["effect"], text), p_number(row["p_value"])))
    return Table(f"Effects on {name[0].lower()}{name[1:]}", ("term", "level", "effect", "p of the term"), tuple(rows))
