"""Who is taken for whom: the confused pairs, and the confusion matrix in the order of its clusters."""

from html import escape
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from birdclf.quoting import shown
from birdclf.report.document import Figure

CELL: Final = 10  # units of the drawing a cell
LABELS: Final = 150  # units left for names


class Confused(NamedTuple):
    """Clips of one species that were named another; the share is of the first's clips."""

    truth: int
    predicted: int
    clips: int
    share: float


def confused_pairs(confusion: NDArray[np.int64], most: int) -> list[Confused]:
    """Return the pairs with most clips, the largest share first among equals."""
    wrong = confusion - np.diag(np.diag(confusion))
    support = confusion.sum(axis=1)
    pairs = [Confused(int(i), int(j), int(wrong[i, j]), wrong[i, j] / support[i]) for i, j in np.argwhere(wrong)]
    return sorted(pairs, key=lambda pair: (-pair.clips, -pair.share, pair.truth, pair.predicted))[:most]


def most_confused_with(confusion: NDArray[np.int64]) -> list[Confused | None]:
    """Return for each species the one that most of its clips were wrongly named; None where there is none."""
    best: list[Confused | None] = [None] * len(confusion)
    for pair in confused_pairs(confusion, most=len(confusion) ** 2):
        if best[pair.truth] is None:
            best[pair.truth] = pair
    return best


def clustered_order(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an order ``(K,)`` of the classes that puts those which are confused side by side.

    Average linkage of one minus the mean share of confusion in both directions, leaves in their best order
    (Bar-Joseph et al., 2001). Classes without a clip come last.
    """
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    seen = np.flatnonzero(confusion.sum(axis=1) > 0)
    absent = np.flatnonzero(confusion.sum(axis=1) == 0)
    if len(seen) < 3:
        return np.concatenate([seen, absent])
    likeness = (share + share.T)[np.ix_(seen, seen)] / 2
    distance = 1 - likeness
    np.fill_diagonal(distance, 0)
    apart = squareform(distance, checks=False)
    order = leaves_list(optimal_leaf_ordering(linkage(apart, "average"), apart))
    return np.concatenate([seen[order], absent])


def matrix_figure(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Return the confusion matrix ``(K, K)`` with a square a cell that is not empty, darker for a larger share."""
    order, names = clustered_order(confusion), [shown(name) for name in classes]
    cells = confusion[np.ix_(order, order)]
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    side = len(order) * CELL
    parts = [
        f'<rect x="{LABELS}" y="{LABELS}" width="{side}" height="{side}" fill="none" stroke="currentColor" '
        'stroke-opacity=".4"/>'
    ]
    for place, k in enumerate(order):
        at, name = LABELS + place * CELL + CELL * 0.8, escape(names[k])
        parts.append(f'<text x="{LABELS - 4}" y="{at:g}" text-anchor="end">{name}</text>')
        parts.append(f'<text transform="translate({at:g} {LABELS - 4}) rotate(-90)">{name}</text>')
    for row, column in np.argwhere(cells):
        fill = "first" if row == column else "second"
        said = f"{names[order[row]]} named {names[order[column]]}: {cells[row, column]} of {cells[row].sum()}"
        depth = f"{max(0.15, share[row, column]):.2f}"
        parts.append(
            f'<rect x="{LABELS + column * CELL}" y="{LABELS + row * CELL}" width="{CELL}" height="{CELL}" '
            f'fill="var(--{fill})" fill-opacity="{depth}"><title>{escape(said)}</title></rect>'
        )
    right = np.trace(confusion) / max(confusion.sum(), 1)
    caption = (
        f"A row a true species, a column a named one, in the order of clusters: what is confused lies side by side. "
        f"The stronger a colour, the larger its share of the row; {right:.1%} of the clips lie on the diagonal."
    )
    inside = f'<g font-size="{CELL * 0.8:g}" fill="currentColor">{"".join(parts)}</g>'
    return Figure("Confusion matrix", caption, f"0 0 {LABELS + side + 2} {LABELS + side + 2}", inside)
