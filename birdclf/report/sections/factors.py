"""Effects of the factors of a sweep, and their interactions."""

from collections.abc import Sequence
from itertools import combinations, product
from typing import Final, NamedTuple

import pandas as pd

from birdclf.metrics.effects import effects
from birdclf.metrics.figures import Evaluation
from birdclf.report.configurations import Configuration, settings_of
from birdclf.report.document import Block, Cell, Section, Table, counted, listed, number, p_number
from birdclf.report.estimates import measured
from birdclf.report.sections.pictures import effects_plot

MOST_FACTORS: Final = 4
TITLE: Final = "Main effects and interactions"


class Factorial(NamedTuple):
    """The settings that vary, and the configuration of each combination of their values."""

    factors: list[str]
    cells: dict[tuple[str, ...], Configuration]


def factors_section(found: Sequence[Configuration], settings: Evaluation) -> Section:
    """Return the section: effects of each level, where the runs make a complete factorial, else why there are none."""
    grid, confounded = _without_confounded(factorial(found))
    blocks: list[Block] = [*confounded]
    why = _why_not(grid)
    if why:
        return Section("effects", TITLE, (*blocks, why))
    shared = sorted(set.intersection(*(set(cell.runs) for cell in grid.cells.values())))
    if not shared:
        return Section("effects", TITLE, (*blocks, "The combinations share no seed, so that no effect can be told."))
    levels = [f"{len({cell[i] for cell in grid.cells})} × {name}" for i, name in enumerate(grid.factors)]
    dropped = sum(len(cell.runs) for cell in grid.cells.values()) - len(shared) * len(grid.cells)
    blocks.append(
        f"{counted(len(shared), 'seed')} of {listed(levels)}. An effect is the mean of a level minus the mean over "
        f"all, with its {settings.coverage} interval; an x marks what factors do together beyond their sum. p is "
        "adjusted for the number of effects (Holm)."
        + (f" {counted(dropped, 'run')} of seeds that some combinations lack had no part." if dropped else "")
    )
    if len(shared) == 1:
        blocks.append("Of one seed the intervals cover the choice of test recordings, not the luck of a seed.")
    fitted: dict[str, pd.DataFrame] = {}
    for metric, name in found[0].headlines.items():
        cells = {
            levels: [measured(cell.runs[seed], f"test/{metric}", settings) for seed in shared]
            for levels, cell in grid.cells.items()
        }
        known = {levels: [m for m in of_seeds if m] for levels, of_seeds in cells.items()}
        fitted[f"Test {name}"] = effects(known, grid.factors, settings.confidence)
    tables = [_table(name, table) for name, table in fitted.items()]
    return Section("effects", TITLE, (*blocks, effects_plot(fitted, settings), *tables))


def factorial(found: Sequence[Configuration]) -> Factorial:
    """Return the settings that vary over trained configurations, and the first configuration of each combination."""
    table = pd.DataFrame([settings_of(c.first) for c in found if c.first.trained]).fillna("default")
    factors = [str(name) for name in table.columns if table[name].nunique() > 1]
    cells: dict[tuple[str, ...], Configuration] = {}
    for configuration, row in zip((c for c in found if c.first.trained), table[factors].to_numpy(), strict=True):
        cells.setdefault(tuple(map(str, row)), configuration)
    return Factorial(factors, cells)


def _without_confounded(grid: Factorial) -> tuple[Factorial, list[str]]:
    """Return the grid without factors that vary only together with an earlier one, and a sentence for each."""
    sentences, kept = [], list(range(len(grid.factors)))
    for a, b in combinations(range(len(grid.factors)), 2):
        pairs = {(cell[a], cell[b]) for cell in grid.cells}
        if a in kept and b in kept and len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs}):
            kept.remove(b)
            sentences.append(
                f"{grid.factors[b]} is confounded with {grid.factors[a]}: each value of one goes with one value of the "
                f"other, so that the effect of {grid.factors[a]} may be that of {grid.factors[b]}. Run the other "
                "combinations to tell them apart."
            )
    cells = {tuple(cell[i] for i in kept): configuration for cell, configuration in grid.cells.items()}
    return Factorial([grid.factors[i] for i in kept], cells), sentences


def _why_not(grid: Factorial) -> str:
    factors = grid.factors
    if len(factors) < 2:
        varied = f"only {factors[0]} varies" if factors else "nothing varies"
        return f"Effects need a sweep over two factors or more; here {varied}."
    if len(factors) > MOST_FACTORS:
        return f"{len(factors)} settings vary ({listed(factors)}); up to {MOST_FACTORS} are analysed."
    combined = set(product(*({cell[i] for cell in grid.cells} for i in range(len(factors)))))
    missing = len(combined) - len(grid.cells)
    if missing:
        return (
            f"The runs are no complete factorial of {listed(factors)}: {missing} of {len(combined)} combinations "
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
    return Table(f"Effects on {name[0].lower()}{name[1:]}", ("term", "level", "effect", "adjusted p"), tuple(rows))
