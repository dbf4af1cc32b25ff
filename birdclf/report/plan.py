"""How many seeds a difference takes, and the command that adds them to a sweep."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from birdclf.checks import is_number
from birdclf.errors import UserError
from birdclf.metrics.over_seeds import MOST_SEEDS, POWER
from birdclf.report.configurations import Configuration, best_first, chosen, configurations
from birdclf.report.document import counted, listed
from birdclf.report.paired_tests import compare
from birdclf.runs.run import find_runs, read_runs
from birdclf.sweep.launches import words_of
from birdclf.text import printable


def plan(paths: Sequence[Path], difference: float | None = None, reference: str | None = None) -> str:
    """Return how many seeds show a difference between a reference and each rival, from the runs of a pilot.

    Args:
        paths: Run folders, or folders that hold some, such as a sweep's.
        difference: In points of accuracy, of F1 x 100 or of cmAP x 100; None for the margin of the runs
            (``evaluation.margin``).
        reference: Label or experiment name of a configuration; None takes the best.

    Raises:
        UserError: If the difference is not above 0, or there are not two configurations that can be compared.
    """
    runs, unusable = read_runs(find_runs(paths))
    ranked, _ = best_first(configurations(runs)[0])
    if len(ranked) < 2:
        raise UserError(
            f"A plan needs a pilot of two configurations or more; {listed([str(path) for path in paths])} "
            f"{'hold' if len(paths) > 1 else 'holds'} {len(ranked)} ({counted(len(unusable), 'folder')} left out)."
        )
    first = chosen(ranked, reference)
    settings = first.first.evaluation
    points = 100 * settings.margin if difference is None else difference
    if not is_number(points) or not 0 < points < 100:
        raise UserError(f"--difference is {points:g} points; it must be above 0 and below 100, such as 3.")
    comparisons = compare(first, [c for c in ranked if c is not first], settings)
    tested = [comparison for comparison in comparisons if not comparison.refused]
    if not tested:
        raise UserError(f"{first.label} cannot be compared with any other: {comparisons[0].refused}")
    rows, most = [], 0
    for comparison in tested:
        cells = [comparison.rival.label, str(len(comparison.pairs))]
        for metric in first.headlines:
            seeds = comparison.seeds_needed(metric, points / 100)
            most = max(most, seeds or 0)
            cells += [f"{100 * comparison.detectable(metric):.1f}", f"> {MOST_SEEDS}" if seeds is None else str(seeds)]
        rows.append(cells)
    head = ["against", "seeds"]
    head += [words for name in first.headlines.values() for words in (f"{name}: seen now", f"seeds for {points:g}")]
    lines = [
        f"{first.label} against {counted(len(tested), 'rival')}: the smallest difference, in points, that the pilot "
        f"shows with a probability of {POWER:g}, and how many seeds in all show {points:g} points as surely "
        f"(p adjusted for {counted(len(tested), 'comparison')}).",
        "",
        printable(pd.DataFrame(rows, columns=head).to_string(index=False), keep="\n"),
    ]
    if any(len(comparison.pairs) == 1 for comparison in tested):
        lines += ["", "One seed shows no spread over seeds: the numbers rest on what is usual. Two or more tell."]
    command = more_seeds(ranked, most)
    if command:
        lines += ["", "To add the missing seeds:", f"    {command}"]
    return "\n".join(lines)


def more_seeds(found: Sequence[Configuration], total: int) -> str:
    """Return the command that adds seeds to the sweep of all runs until there are ``total``; empty where none can."""
    folders = {run.folder.parent for configuration in found for run in configuration.runs.values()}
    used = {run.seed for configuration in found for run in configuration.runs.values()}
    words = words_of(next(iter(folders))) if len(folders) == 1 else None
    fixed = words is not None and any(word.startswith("split.seed=") for word in words) and len(used) == 1
    if words is None or fixed or total <= len(used):
        return ""
    new = [seed for seed in range(max(0, min(used)), max(used) + total + 1) if seed not in used][: total - len(used)]
    kept = [word for word in words if not word.startswith(("seed=", "hydra.sweep.dir=", "resume="))]
    in_order = len(new) > 10 and new[-1] - new[0] == len(new) - 1
    seeds = f"seed=range({new[0]},{new[-1] + 1})" if in_order else f"seed={','.join(map(str, new))}"
    return shlex.join(["birdclf", "train", "-m", *kept, seeds, f"hydra.sweep.dir={folders.pop()}", "resume=true"])
