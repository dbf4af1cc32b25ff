"""The figures that a study published beside those measured here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from birdclf.catalog.study import has_the_studys_counts
from birdclf.report.configurations import Configuration
from birdclf.report.document import Cell, Section, Table
from birdclf.report.runs import Run
from birdclf.report.wording import number

STUDY_SOURCES: Final = ("xeno_canto", "kaggle_extended")
"""Modules of the catalogues that hold the recordings of the study: those of Xeno-canto."""


def published_section(found: Sequence[Configuration]) -> Section:
    """Return the section; a row a published figure."""
    rows: list[tuple[Cell, ...]] = []
    for configuration in found:
        run = configuration.first
        reference = run.metrics.get("reference") or {}
        data = "the study's" if is_the_studys(run) else "other data"
        for metric, value in _figures(reference):
            try:
                measured = configuration.mean(metric) if "/" in metric else float(run.metrics[metric])
            except KeyError:
                measured = None
            form = "{:.3f}" if "/" in metric else "{:.0f}"
            rows.append((configuration.label, metric, number(value, form), number(measured, form), data))
    title = "Published figures"
    if not rows:
        return Section("published", title, ("No configuration here names figures that were published.",))
    said = (
        "The study's figures beside those measured here. “Other data” marks a catalogue that is not the study's: then "
        "the two columns say nothing about each other, only about the order of the phases."
    )
    head = ("configuration", "figure", "published", "measured (mean over seeds)", "data")
    return Section("published", title, (said, Table("Published and measured", head, tuple(rows))))


def is_the_studys(run: Run) -> bool:
    """Return whether a run's recordings can be the study's: Xeno-canto's, of its species, as many of each."""
    module = str((run.config.get("data") or {}).get("_target_", "")).split(".")
    if not any(name in STUDY_SOURCES for name in module):
        return False
    return has_the_studys_counts(zip(run.classes, run.counts.tolist(), strict=True))


def _figures(reference: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in reference.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}/{name}", float(figure)) for name, figure in value.items())
        elif value is not None:
            yield key, float(value)
