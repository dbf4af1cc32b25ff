"""A search: the value of each trial, the importance of settings, and the best ones."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from birdclf.config import direction
from birdclf.errors import UserError
from birdclf.pages import INK
from birdclf.report.document import (
    FIRST,
    SECOND,
    Block,
    Cell,
    Figure,
    Section,
    Table,
    canvas,
    counted,
    number,
    svg_figure,
)
from birdclf.sweep.trials import JOURNAL, facts_of, read_study

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


TITLE = "Search"
FEW = 20
"""Whole trials under which importances are called unsure."""


def studies_below(paths: Sequence[Path]) -> list[Path]:
    """Return the folders of searches among and below some folders, each once."""
    found = {file.parent.resolve(): None for path in paths for file in sorted(path.rglob(JOURNAL))}
    return list(found)


def search_section(folder: Path, anchor: str = "search") -> Section:
    """Return the section of a search: history, importances and best settings; a sentence where it cannot be read."""
    title = f"{TITLE}: {folder.name}"
    try:
        study = read_study(folder)
    except UserError as error:
        return Section(anchor, title, (str(error),))
    monitor = str(facts_of(study).get("monitor", "value"))
    whole, stopped = _ended(study, "COMPLETE"), _ended(study, "PRUNED")
    still_open = len(study.trials) - len(whole) - len(stopped)
    text = (
        f"{counted(len(study.trials), 'trial')}: {len(whole)} trained to their end, {len(stopped)} stopped early "
        f"because others were better at the same epoch, {still_open} not finished. Values are {monitor} on validation "
        f"data, of which the search took the best: the value of the best trial flatters it. Test data had no part."
    )
    if not whole:
        return Section(anchor, title, (text,))
    blocks: list[Block] = [text, history(folder, whole, stopped, monitor)]
    importance = importances(study)
    if importance:
        blocks += [importance_drawing(folder, importance, len(whole))]
    else:
        blocks.append(
            "The importance of settings cannot be estimated: it takes two complete trials of different values."
        )
    return Section(anchor, title, (*blocks, _best(whole, monitor)))


def importances(study: "Study") -> dict[str, float]:
    """Return each setting's share of the variance of the value, the largest first (fANOVA, Hutter et al., 2014).

    Empty where whole trials are fewer than two, or all of one value.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values = [trial.value for trial in _ended(study, "COMPLETE")]
    if len(values) < 2 or len(set(values)) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an evaluator is experimental
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def history(folder: Path, whole: Sequence["FrozenTrial"], stopped: Sequence["FrozenTrial"], monitor: str) -> Figure:
    """Return the value of each trial, the best so far, and where others were stopped."""
    numbers, values = (np.array(column) for column in zip(*((t.number, t.value) for t in whole), strict=True))
    so_far = (np.maximum if direction(monitor) == "max" else np.minimum).accumulate(values)
    last = [(t.number, t.intermediate_values[max(t.intermediate_values)]) for t in stopped if t.intermediate_values]
    with canvas(10, 2.9) as picture:
        axes = picture.subplots()
        axes.step(numbers, so_far, where="post", color=INK, linewidth=1.2)
        axes.scatter(numbers, values, s=16, color=FIRST)
        if last:
            at, worst = zip(*last, strict=True)
            axes.scatter(at, worst, s=20, color=SECOND, marker="x", linewidth=1.2)
        axes.set_xlabel("trial")
        axes.set_ylabel(monitor)
        caption = (
            f"Circles: {monitor} of each trial, from {values.min():.3f} to {values.max():.3f}; the line is the best so "
            f"far, last improved by trial {int(numbers[so_far == so_far[-1]][0])}."
        )
        if last:
            caption += f" Crosses: {counted(len(last), 'trial')} stopped early, at the last value."
        return svg_figure("Value by trial", caption, picture, unique=f"search history {folder}")


def importance_drawing(folder: Path, shares: dict[str, float], trials: int) -> Figure:
    """Return the importances as bars."""
    names = list(shares)[::-1]
    with canvas(10, 0.9 + 0.28 * len(names)) as picture:
        axes = picture.subplots()
        picture.subplots_adjust(left=0.25)
        axes.barh(names, [shares[name] for name in names], color=FIRST, height=0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the variance of the value", labelpad=1)
        listed = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        caption = f"Functional analysis of variance over {counted(trials, 'whole trial')}: {listed}."
        if trials < FEW:
            caption += f" Of fewer than {FEW} trials it is a guess."
        return svg_figure("Importance of each setting", caption, picture, unique=f"search importance {folder}")


def _best(whole: Sequence["FrozenTrial"], monitor: str) -> Table:
    sign = -1 if direction(monitor) == "max" else 1
    ranked = sorted(whole, key=lambda t: (sign * float(t.value or 0.0), t.number))[:10]
    names = sorted({name for trial in ranked for name in trial.params})
    rows: list[tuple[Cell, ...]] = [
        (number(trial.number, "{:.0f}"), number(trial.value), *(_cell(trial.params.get(name)) for name in names))
        for trial in ranked
    ]
    return Table("Best trials, the best first", ("trial", monitor, *names), tuple(rows))


def _cell(value: object) -> Cell:
    if isinstance(value, int | float):
        return number(float(value), "{:.4g}")
    return "" if value is None else str(value)


def _ended(study: "Study", how: str) -> list["FrozenTrial"]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == how]
