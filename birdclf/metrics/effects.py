"""Main effects and interactions of a factorial sweep: what each factor does on its own."""

from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from birdclf.metrics.figures import Vector

Term = tuple[str, ...]


class _Fit(NamedTuple):
    coefficients: Vector  # (P,)
    inverse: Vector  # (P, P): of X'X
    squares: float  # residual sum of squares
    freedom: int  # residual degrees of freedom


def effects(table: pd.DataFrame, factors: Sequence[str], value: str, confidence: float = 0.95) -> pd.DataFrame:
    """Return the analysis of variance of a factorial sweep (Fisher, 1925; Montgomery, 2017, chapter 5).

    Each term's F-test compares the whole model with the one without it, in coding that sums to zero (Yates,
    1934, weighted squares of means; "type III"), so that cells may hold unequal numbers of runs; with equal ones all
    types agree. Seeds are replicates: their spread within a cell is the residual, and the model then holds every
    interaction. With one run a cell the interaction of all factors is the residual, which tests the others too
    cautiously if it is real.

    Args:
        table: One row a run, with a column for each factor and for the value.
        factors: Columns with 2 levels or more; levels of 1 leave a factor out.
        value: Column of the figure.
        confidence: Coverage of the intervals, in (0, 1).

    Returns:
        One row a level of each main effect and a cell of each two-way interaction: term, level, effect (the deviation
        from what the lower terms say, in units of the value), low, high, f, df, p_value (of the term), runs, residual
        (what the error was taken from). ``attrs`` hold ``residual``, ``residual_df`` and ``mean``.

    Raises:
        ValueError: If a column is missing, no factor varies, a cell of the grid has no run, a value is not finite, or
            nothing is left to estimate the error from.
    """
    absent = [name for name in (*factors, value) if name not in table]
    if absent:
        raise ValueError(f"the table has no column {', '.join(absent)}")
    y = table[value].to_numpy(dtype=np.float64)
    if not np.isfinite(y).all():
        raise ValueError(f"{(~np.isfinite(y)).sum()} of {len(y)} runs have no {value}")
    levels = {name: sorted(set(table[name].astype(str))) for name in factors}
    levels = {name: found for name, found in levels.items() if len(found) > 1}
    if not levels:
        raise ValueError(f"no factor has two levels among {len(y)} runs")
    _refuse_empty_cells(table, levels)
    cells = int(np.prod([len(found) for found in levels.values()]))
    replicated = len(y) > cells
    terms = [term for order in range(1, len(levels) + 1) for term in combinations(levels, order)]
    if not replicated:
        if len(levels) == 1:
            raise ValueError(
                f"one run for each {next(iter(levels))} leaves nothing to estimate the error from: add seeds"
            )
        terms = terms[:-1]
    residual = "replicates" if replicated else "interaction " + " x ".join(levels)
    blocks = [np.ones((len(y), 1)), *(_columns(table, term, levels) for term in terms)]
    whole = _fit(blocks, y)
    scale = whole.squares / whole.freedom
    rows: list[dict[str, object]] = []
    begin = 1
    for position, term in enumerate(terms, start=1):
        width = blocks[position].shape[1]
        span = slice(begin, begin + width)
        begin += width
        if len(term) > 2:
            continue
        without = _fit(blocks[:position] + blocks[position + 1 :], y)
        mean_square = max(without.squares - whole.squares, 0.0) / width
        f = mean_square / scale if scale > 0 else (np.inf if mean_square > 0 else 0.0)
        p_value = float(stats.f.sf(f, width, whole.freedom))
        for cell in product(*(levels[name] for name in term)):
            contrast = _contrast(term, cell, levels)
            effect = float(contrast @ whole.coefficients[span])
            variance = scale * float(contrast @ whole.inverse[span, span] @ contrast)
            half = float(stats.t.ppf(0.5 + confidence / 2, whole.freedom)) * max(variance, 0.0) ** 0.5
            inside = (table[list(term)].astype(str) == list(cell)).all(axis=1)
            rows.append(
                {"term": " x ".join(term), "level": " x ".join(cell), "effect": effect}
                | {"low": effect - half, "high": effect + half, "f": f, "df": width, "p_value": p_value}
                | {"runs": int(inside.sum()), "residual": residual}
            )
    found = pd.DataFrame(rows)
    found.attrs.update(residual=residual, residual_df=whole.freedom, mean=float(whole.coefficients[0]))
    return found


def _refuse_empty_cells(table: pd.DataFrame, levels: dict[str, list[str]]) -> None:
    held = set(zip(*(table[name].astype(str) for name in levels), strict=True))
    empty = [cell for cell in product(*levels.values()) if cell not in held]
    if empty:
        cell = ", ".join(f"{name}={level}" for name, level in zip(levels, empty[0], strict=True))
        raise ValueError(f"{len(empty)} cells of the grid have no run, such as {cell}: effects cannot be separated")


def _contrast(term: Term, cell: Sequence[str], levels: dict[str, list[str]]) -> Vector:
    """Return the coding of one cell of a term: per factor a unit vector, or -1 throughout for the last level."""
    code = np.ones(1)
    for name, level in zip(term, cell, strict=True):
        found = levels[name]
        code = np.kron(code, np.vstack([np.eye(len(found) - 1), -np.ones(len(found) - 1)])[found.index(level)])
    return code


def _columns(table: pd.DataFrame, term: Term, levels: dict[str, list[str]]) -> Vector:
    """Return the design of a term, ``(N, df)``."""
    cells = zip(*(table[name].astype(str) for name in term), strict=True)
    return np.stack([_contrast(term, cell, levels) for cell in cells])


def _fit(blocks: list[Vector], y: Vector) -> _Fit:
    x = np.hstack(blocks)
    inverse = np.linalg.inv(x.T @ x)
    coefficients = inverse @ x.T @ y
    squares = float(((y - x @ coefficients) ** 2).sum())
    return _Fit(np.asarray(coefficients), np.asarray(inverse, dtype=np.float64), squares, len(y) - x.shape[1])
