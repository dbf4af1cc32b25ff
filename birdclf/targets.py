"""Codes of targets that every room shares."""

from collections.abc import Mapping
from typing import Any, Final, Literal

Task = Literal["single_label", "multi_label"]
"""One species a recording, or a set of species that may be empty."""

HEADLINES: Final[dict[str, dict[str, str]]] = {
    "single_label": {"accuracy": "accuracy", "macro_f1": "macro F1"},
    "multi_label": {"cmap": "cmAP", "macro_f1": "macro F1"},
}
"""Figures that stand for a run of each task where there is room for two, with their names."""


def task_of(figures: Mapping[str, Any]) -> Task:
    """Return the task of a run by the figures of one of its splits."""
    return "single_label" if "accuracy" in figures else "multi_label"


NONE: Final = "none"
"""Species of a recording in which none of the classes is heard: in ``single_label`` a class like any other."""
MASKED: Final = -1
"""Target of a class of which is not known whether it is heard: left out of loss and figures."""
