"""A run's validation predictions, on which thresholds and sets of species are chosen, and the sets."""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdclf.checks import is_number
from birdclf.errors import UserError
from birdclf.metrics.conformal import class_thresholds
from birdclf.metrics.figures import log_softmax
from birdclf.metrics.label_predictions import read_label_predictions
from birdclf.metrics.predictions import read_predictions
from birdclf.runs.run import PREDICTIONS, Run
from birdclf.targets import NONE, Task

LISTED: Final = 5


class HeldOut(NamedTuple):
    """Probabilities of clips that a run was not trained on, and what is heard in them."""

    probabilities: NDArray[np.float64]  # `(N, K)`
    target: NDArray[np.int8]  # `(N, K)`: 1 heard, 0 not heard, -1 not known
    cluster: NDArray[np.object_]  # `(N,)` group of each clip


def validation(source: Path, classes: tuple[str, ...], task: Task) -> HeldOut:
    """Return the validation predictions that a run folder has saved.

    Args:
        source: The run folder.
        classes: Species of its classifier.
        task: How its probabilities were made.

    Raises:
        UserError: If it is no folder, or holds none, or those of other species.
    """
    if not source.is_dir():
        raise UserError(f"{source} is a file, without validation predictions. Give the run folder it was made of.")
    if task == "multi_label":
        labels, names = read_label_predictions(source / PREDICTIONS, "val")
        found = HeldOut(np.asarray(labels.probabilities, np.float64), labels.target, labels.cluster)
    else:
        saved, names = read_predictions(source / PREDICTIONS, "val")
        one_hot = (saved.target[:, None] == np.arange(len(names))).astype(np.int8)
        temperature = float(Run(source).metrics.get("temperature") or 1)
        found = HeldOut(np.exp(log_softmax(saved.logits / temperature)), one_hot, saved.cluster)
    if names != classes:
        raise UserError(f"{source / PREDICTIONS} is of other species than the checkpoint; evaluate the run again.")
    return found


def set_thresholds(source: Path, classes: tuple[str, ...], task: Task, coverage: float) -> tuple[dict[str, float], str]:
    """Return by which probability each species belongs to a set, and a sentence on what that was chosen on.

    Raises:
        UserError: If the coverage is out of range, or there are no validation predictions.
    """
    if not is_number(coverage) or not 0 < coverage < 1:
        raise UserError(f"--sets {coverage}: the coverage of the sets, above 0 and below 1, such as 0.9.")
    held = validation(source, classes, task)
    found = class_thresholds(held.probabilities, held.target, coverage)
    least = {name: float(value) for name, value in zip(classes, found.threshold, strict=True) if name != NONE}
    shared = [name for name, pool in zip(classes, found.pool, strict=True) if pool != "own"]
    text = (
        f"sets hold each species that is there with probability {coverage:g}, by {len(held.target):,} validation clips"
    )
    if shared:
        more = f" and {len(shared) - LISTED} more" if len(shared) > LISTED else ""
        text += (
            f"; {len(shared)} species have too few of them, for which it holds together only: "
            f"{', '.join(shared[:LISTED])}{more}"
        )
    return least, text
