"""Runs and other programs on annotated soundscapes, and the fall from the runs' own test recordings."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from birdclf.errors import UserError
from birdclf.metrics.label_intervals import influence
from birdclf.metrics.multi_label import PrecisionRecall
from birdclf.metrics.over_seeds import Influence
from birdclf.report.configurations import Configuration
from birdclf.report.document import (
    FIRST,
    SECOND,
    Axis,
    Block,
    Bullets,
    Cell,
    DotPlot,
    Figure,
    Row,
    Section,
    Table,
    canvas,
    counted,
    number,
    svg_figure,
)
from birdclf.report.estimates import Estimate, Measured, interval_of_mean
from birdclf.report.sections.pictures import MOST_SPECIES, axes_of, left_over, mark_of
from birdclf.runs.run import Run, supports_of
from birdclf.runs.soundscapes import FIGURES, RATE, SPLIT, SoundscapeEvaluation, soundscape_evaluations

PLOTTED: Final = ("cmap", "auroc", RATE)

Found = Mapping[str, Estimate | None]
Evaluated = list[tuple[Run, SoundscapeEvaluation]]


def soundscapes_section(ranked: Sequence[Configuration]) -> Section | None:
    """Return the section; None where no run has been evaluated on soundscapes."""
    bad: list[str] = []
    by_name: dict[str, list[tuple[Configuration, Evaluated]]] = {}
    for configuration in ranked:
        found: dict[str, Evaluated] = {}
        for run in configuration.runs.values():
            for name, evaluation in soundscape_evaluations(run.folder).items():
                try:
                    _ = evaluation.metrics, evaluation.per_class
                    found.setdefault(name, []).append((run, evaluation))
                except UserError as error:
                    bad.append(f"Left out: {error}")
        for name, evaluated in found.items():
            by_name.setdefault(name, []).append((configuration, evaluated))
    if not by_name and not bad:
        return None
    pictures: list[Block] = []
    tables: list[Block] = []
    for name, judged in sorted(by_name.items()):
        drawn, listed = _of_one(name, judged)
        pictures += drawn
        tables += listed
    return Section("soundscapes", "Soundscapes", (*pictures, *tables, *([Bullets(tuple(bad))] if bad else [])))


def _of_one(name: str, judged: Sequence[tuple[Configuration, Evaluated]]) -> tuple[list[Block], list[Block]]:
    """Return the pictures and the tables of one set of soundscapes."""
    rows = {configuration.label: _estimates(evaluated) for configuration, evaluated in judged}
    peers: dict[str, Found] = {}
    for _, evaluated in judged:
        for peer, figures in evaluated[0][1].metrics["detections"].items():
            peers.setdefault(peer, {figure: _stored(figures[figure]) for figure in FIGURES})
    first, (run, evaluation) = judged[0][0], judged[0][1][0]
    pictures: list[Block] = [_text(name, evaluation), _plot(name, rows, peers)]
    label = f"{first.label}, seed {run.seeds}"
    if evaluation.metrics[SPLIT]["cmap"]["value"] is not None:
        pictures.append(_curves(name, label, run, evaluation))
    table = evaluation.per_class
    tables: list[Block] = [_table(name, judged, rows, peers)]
    if "focal_average_precision" in table:
        table = table.assign(fall=table.focal_average_precision - table.average_precision)
        table = table.sort_values("fall", ascending=False, kind="stable", na_position="last")
        if table.fall.notna().any():
            pictures.append(_fall_plot(name, label, table, evaluation))
    tables.append(_species_table(f"Species of {label}, on {name}", table))
    return pictures, tables


def _text(name: str, evaluation: SoundscapeEvaluation) -> str:
    metrics = evaluation.metrics
    counts, settings = metrics["counts"], metrics["settings"]
    absent = metrics[SPLIT]["classes_without_positive"]
    left_out = f"; {absent} of these have no segment and are left out of means" if absent else ""
    return (
        f"{name}: {counted(counts['segments'], 'segment')} of {settings['segment_s']:g} s in "
        f"{counted(counts['recordings'], 'recording')}, {counts['hours']:.1f} hours; {counts['empty_segments']:,} are "
        f"empty, in {counts['segments_of_other_species']:,} only species are heard that the model does not know. "
        f"{counts['species_judged']} of the model's {counts['species_of_the_run']} species are annotated and "
        f"judged{left_out}. F1, and false detections in an hour of empty sound, are at a probability of "
        f"{settings['threshold']:g}. Intervals are {100 * settings['confidence']:g} %, over recordings."
    )


def _stored(figure: Any) -> Estimate | None:
    """Return a figure of ``metrics.json``."""
    if not isinstance(figure, Mapping):
        figure = {"value": figure, "low": None, "high": None}
    if figure["value"] is None:
        return None
    low, high = (float("nan") if figure[end] is None else float(figure[end]) for end in ("low", "high"))
    return Estimate(float(figure["value"]), low, high, float("nan"), 1)


def _estimates(evaluated: Evaluated) -> Found:
    """Return each figure of a configuration: with the run's interval of one seed, that of the mean of several."""
    alone = [{name: _stored(each.metrics[SPLIT][name]) for name in FIGURES} for _, each in evaluated]
    if len(alone) == 1:
        return alone[0]
    measured = [_measured(run, each) for run, each in evaluated]
    settings = evaluated[0][0].evaluation
    found: dict[str, Estimate | None] = {}
    for name in FIGURES:
        values = np.array([each.value for one in alone if (each := one[name])])
        of_runs = [one[name] for one in measured if name in one]
        if not len(values):
            found[name] = None
            continue
        low = high = float("nan")
        if len(of_runs) == len(values) > 1:
            low, high = interval_of_mean(of_runs, name != RATE, settings.confidence)
        sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        found[name] = Estimate(float(values.mean()), low, high, sd, len(values))
    return found


def _measured(run: Run, evaluation: SoundscapeEvaluation) -> dict[str, Measured]:
    """Return the figures of a run that have an influence, and what each loses without each recording."""
    found, settings = evaluation.predictions(), run.evaluation
    train = supports_of(run.split, evaluation.per_class.species.tolist())["train"]
    clusters = np.unique(found.cluster)
    return {
        name: (float(each.value), Influence(clusters, influence(each)))
        for name, each in found.estimates(train, settings).items()
        if np.isfinite(each.value)
    }


def _plot(name: str, rows: Mapping[str, Found], peers: Mapping[str, Found]) -> DotPlot:
    """Return a forest plot of configurations and peers, a column a figure that is known of any."""
    every = [*rows.items(), *peers.items()]
    known = [figure for figure in PLOTTED if any(found[figure] for _, found in every)]
    drawn = tuple(
        Row(
            label,
            tuple(
                mark_of(e.value, e.low, e.high, "{:.1f}" if figure == RATE else "{:.3f}", label in rows)
                if (e := found[figure])
                else None
                for figure in known
            ),
        )
        for label, found in every
    )
    words = "; ".join(
        f"{row.label}: {', '.join(f'{FIGURES[f]} {m.text}' for f, m in zip(known, row.marks, strict=True) if m)}"
        for row in drawn
    )
    who = "Hollow are other programs, by the confidence of their detections. " if peers else ""
    caption = f"Points are figures on soundscapes, means over seeds, lines their intervals. {who}{words}."
    names = [FIGURES[figure] for figure in known]
    return DotPlot(f"Scores on {name}", caption, "configuration", axes_of(names, drawn, "{:g}"), drawn)


def _curves(name: str, label: str, run: Run, evaluation: SoundscapeEvaluation) -> Figure:
    """Return the precision-recall curve of a run with its band, and those of other programs."""
    programs = {label: SPLIT} | {peer: peer for peer in evaluation.metrics["detections"]}
    styles = ("--", ":", "-.")
    words = []
    with canvas(5, 3.2) as picture:
        axes = picture.subplots()
        for n, (who, split) in enumerate(programs.items()):
            found = evaluation.predictions(split)
            none = np.zeros(found.target.shape[1], np.int64)
            curve = found.precision_recall(none, run.evaluation)["all"]
            if n == 0:
                axes.fill_between(curve.recall, curve.low, curve.high, color=FIRST, alpha=0.2, linewidth=0)
                axes.plot(curve.recall, curve.precision, color=FIRST, linewidth=1.4)
            else:
                axes.plot(curve.recall, curve.precision, styles[(n - 1) % 3], color=SECOND, linewidth=1.4)
            reached = ", ".join(_precision_at(curve, recall) for recall in (0.25, 0.5, 0.75))
            words.append(f"{who} {reached}")
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        others = (
            "; dashed, dotted and dash-dotted are other programs, in their order above" if len(programs) > 1 else ""
        )
        caption = (
            f"Over all segments and species, with the {run.evaluation.coverage} band of {label}, by recording{others}. "
            f"Precision at a recall of 0.25, 0.5 and 0.75: {'; '.join(words)}."
        )
        return svg_figure(f"Precision and recall on {name}", caption, picture, unique=f"precision recall {name}")


def _precision_at(curve: PrecisionRecall, recall: float) -> str:
    value = float(np.interp(recall, curve.recall, curve.precision))
    return "-" if np.isnan(value) else f"{value:.2f}"


def _fall_plot(name: str, label: str, table: pd.DataFrame, evaluation: SoundscapeEvaluation) -> DotPlot:
    """Return a dot plot of the average precision of each species on test recordings and on soundscapes."""
    known = table.dropna(subset="fall")
    shown = known.head(MOST_SPECIES)
    rows = []
    for row in shown.to_dict("records"):
        marks = []
        for way in ("focal_", ""):
            value, low, high = (float(row[f"{way}average_precision{end}"]) for end in ("", "_low", "_high"))
            marks.append(mark_of(value, low, high, "{:.2f}"))
        clips = f"{counted(int(row['focal_clips']), 'recording')}, {counted(int(row['segments']), 'segment')}"
        rows.append(Row(str(row["species"]), tuple(marks), clips))
    worst = ", ".join(f"{row.species} ({row.fall:.2f})" for row in shown.head(3).itertuples())
    caption = (
        f"Average precision of {label}: on its own test recordings, and on the segments of {name}, with intervals; the "
        f"largest fall is at the top: {worst}. {_fall_words(evaluation.metrics['fall'])} Average precision falls with "
        f"the share of clips in which a species is heard, AUROC does not."
    )
    caption += left_over(len(known) - len(shown), "of the species")
    ticks = tuple((tick, f"{tick:g}") for tick in (0.0, 0.25, 0.5, 0.75, 1.0))
    axes = tuple(Axis(way, -0.02, 1.02, ticks) for way in ("AP, test recordings", "AP, soundscapes"))
    return DotPlot(f"From test recordings to {name}", caption, "species", axes, tuple(rows))


def _fall_words(found: Mapping[str, Any]) -> str:
    """Return a sentence on the fall of cmAP and AUROC over the species that are heard in both."""
    parts = []
    for name in ("cmap", "auroc"):
        both = [_stored(found[name][way]) for way in ("focal", "soundscape", "difference")]
        if all(both):
            before, after, fall = (one.interval_cell().text for one in both if one)
            parts.append(f"{FIGURES[name]} is {before} on test recordings and {after} here, a fall of {fall}")
    return f"Over {found['cmap']['species']} species {'; '.join(parts)}." if parts else ""


def _table(
    name: str,
    judged: Sequence[tuple[Configuration, Evaluated]],
    rows: Mapping[str, Found],
    peers: Mapping[str, Found],
) -> Table:
    lines: list[tuple[Cell, ...]] = []
    for configuration, evaluated in judged:
        falls = [found["cmap"]["difference"]["value"] for _, each in evaluated if (found := each.metrics["fall"])]
        known = [value for value in falls if value is not None]
        fall = number(float(np.mean(known)) if known else None)
        found = rows[configuration.label]
        lines.append((configuration.label, number(len(evaluated), "{:,}"), *_cells(found), fall))
    lines += [(peer, "", *_cells(found), "") for peer, found in peers.items()]
    heads = ("configuration or program", "seeds", *FIGURES.values(), "fall of cmAP")
    return Table(f"Figures on {name}", heads, tuple(lines))


def _cells(found: Found) -> list[Cell]:
    return [_cell(name, found[name]) for name in FIGURES]


def _cell(name: str, found: Estimate | None) -> Cell:
    if found is None:
        return ""
    return number(found.value, "{:.1f}") if name == RATE else found.cell()


def _species_table(caption: str, table: pd.DataFrame) -> Table:
    heads = {
        "train": "train", "focal_clips": "test", "focal_recall": "recall, test",
        "focal_average_precision": "AP, test", "focal_auroc": "AUROC, test", "segments": "segments",
        "average_precision": "AP", "auroc": "AUROC", "precision": "precision", "recall": "recall", "fall": "fall of AP",
    }  # fmt: skip
    peers = [name for name in map(str, table.columns) if name.startswith("average_precision:")]
    heads |= {name: f"AP, {name.partition(':')[2]}" for name in peers}
    shown = {column: head for column, head in heads.items() if column in table}
    whole = ("train", "focal_clips", "segments")
    rows = tuple(
        (
            str(row["species"]),
            *(number(row[column], "{:,.0f}" if column in whole else "{:.3f}") for column in shown),
        )
        for row in table.to_dict("records")
    )
    return Table(caption, ("species", *shown.values()), rows, filterable=True)
