"""``birdclf evaluate RUN --soundscapes DIR``: a run judged on annotated soundscapes, beside other programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from birdclf.data.tables import csv_text
from birdclf.detection.classifier import Classifier
from birdclf.detection.soundscapes import SoundscapeSettings, Truth, judge, read_detections, read_truth, unknown_labels
from birdclf.detection.stream import StreamSettings
from birdclf.detection.thresholds import Thresholds
from birdclf.files import write_whole
from birdclf.metrics.figures import Evaluation, log_softmax, precision_recall_f1
from birdclf.metrics.label_intervals import share_interval
from birdclf.metrics.label_predictions import LabelPredictions, per_class_table, read_label_predictions
from birdclf.metrics.multi_label import logits_of
from birdclf.metrics.plots import picture_of, precision_recall_figure
from birdclf.metrics.predictions import Predictions, write_predictions
from birdclf.runs.run import PREDICTIONS, Run, supports_of
from birdclf.runs.soundscapes import FIGURES, RATE, SPLIT
from birdclf.targets import NONE, Task
from birdclf.text import printable

Counts = NDArray[np.int64]

LISTED: Final = 10


def evaluate_soundscapes(
    source: Path,
    classifier: Classifier,
    settings: SoundscapeSettings,
    folder: Path,
    checkpoint: str = "best",
    thresholds: Thresholds | None = None,
) -> None:
    """Judge a classifier and tables of detections on annotated soundscapes: print the figures, and write a folder.

    Args:
        source: Run folder or ONNX file of the classifier.
        classifier: Gives the probabilities of windows.
        settings: Recordings, annotations, segments and tables of detections.
        folder: New folder to write to.
        checkpoint: Which weights these are.
        thresholds: Those of the run, if it has any, at which it is judged as well.

    Raises:
        UserError: If something is missing or does not fit together.
    """
    input_spec = classifier.input_spec
    how = StreamSettings(settings.hop(input_spec.window_s))
    how.check(input_spec)
    run = Run(source) if source.is_dir() else None
    evaluation = run.evaluation if run is not None and run.begun else Evaluation()
    given = (settings.segments, settings.annotations, settings.columns, settings.labels)
    truth = read_truth(settings.root, input_spec.classes, *given)
    others = {
        name: read_detections(truth, table, input_spec.classes, settings.labels)
        for name, table in settings.detections.items()
    }
    truth, own = judge(classifier, truth, how)
    judged = {SPLIT: own} | {name: found.predictions(truth) for name, found in others.items()}
    counts = _train_counts(run, truth.classes)
    figures = {name: _figures(found, counts, evaluation) for name, found in judged.items()}
    focal = (
        _focal(run, truth.classes, input_spec.task, evaluation) if run is not None and checkpoint == "best" else None
    )
    table = _per_class(judged, truth.classes, counts, focal, evaluation)
    metrics = {
        SPLIT: figures.pop(SPLIT),
        "detections": figures,
        "at_thresholds": _at_thresholds(thresholds, own, truth.classes, evaluation) if thresholds else None,
        "fall": fall(focal[0], own, evaluation) if focal else None,
        "run": source.resolve().name,
        "checkpoint": checkpoint,
        "soundscapes": settings.root.resolve().name,
        "settings": asdict(settings.segments)
        | {"window_s": input_spec.window_s, "window_hop_s": how.hop_s, "task": input_spec.task}
        | {name: getattr(evaluation, name) for name in ("threshold", "precision", "recall", "confidence")},
        "counts": _counts(truth, own, len(set(input_spec.classes) - {NONE})),
        "unmapped": truth.unmapped,
        "notes": truth.notes,
        "notes_on_detections": {name: found.notes + unknown_labels(found.unmapped) for name, found in others.items()},
    }
    folder.mkdir(parents=True)
    write_whole(folder / "metrics.json", json.dumps(metrics, indent=1).encode())
    write_whole(folder / "per_class.csv", csv_text(table).encode())
    write_predictions(folder / "predictions.parquet", [p.table(name, truth.classes) for name, p in judged.items()])
    curves = own.precision_recall(np.zeros(len(truth.classes), np.int64) if counts is None else counts, evaluation)
    if curves:
        known = curves if counts is not None else {"all": curves["all"]}
        picture = picture_of(precision_recall_figure(known, evaluation.coverage))
        (folder / "precision_recall.png").write_bytes(picture.png)
    _print(metrics, table)
    print(f"evaluation folder: {printable(folder)}")


def _at_thresholds(
    thresholds: Thresholds, own: LabelPredictions, classes: tuple[str, ...], evaluation: Evaluation
) -> dict[str, Any]:
    """Return the figures at the run's own thresholds, with the precision that they are for."""
    chosen = [thresholds.species[name].threshold if name in thresholds.species else np.nan for name in classes]
    least = np.nan_to_num(chosen, nan=np.inf)
    return {"stated_precision": thresholds.precision, **own.at(least, evaluation)}


def fall(focal: LabelPredictions, soundscape: LabelPredictions, settings: Evaluation) -> dict[str, Any]:
    """Return cmAP and AUROC on focal recordings and on soundscapes, over the species that are heard in both.

    The interval of the difference is that of two independent estimates (Zou and Donner, 2008, equation 2).
    """
    ways = [each.by_class(settings) for each in (focal, soundscape)]
    found: dict[str, Any] = {}
    for name, of in (("cmap", "ap"), ("auroc", "auroc")):
        both = np.asarray(np.isfinite([way[of].value for way in ways]).all(axis=0), dtype=bool)
        means = [way[of].mean(both) for way in ways]
        (f, s), (of_f, of_s) = [float(m.value) for m in means], [share_interval(m, settings.confidence) for m in means]
        low = f - s - np.hypot(f - of_f.low, of_s.high - s)
        high = f - s + np.hypot(of_f.high - f, s - of_s.low)
        rows = {"focal": (f, *of_f), "soundscape": (s, *of_s), "difference": (f - s, low, high)}
        found[name] = {
            row: dict(zip(("value", "low", "high"), map(_number, values), strict=True)) for row, values in rows.items()
        }
        found[name]["species"] = int(both.sum())
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _train_counts(run: Run | None, classes: tuple[str, ...]) -> Counts | None:
    """Return the ``(C,)`` train recordings of each class; None of a file, which does not say."""
    if run is None or not (run.folder / "split.csv").is_file():
        return None
    return supports_of(run.split, classes)["train"]


def _figures(found: LabelPredictions, counts: Counts | None, evaluation: Evaluation) -> dict[str, Any]:
    figures = found.figures(np.zeros(found.target.shape[1], np.int64) if counts is None else counts, evaluation)
    if counts is None:
        del figures["buckets"]
    return figures


def _focal(
    run: Run, classes: tuple[str, ...], task: Task, evaluation: Evaluation
) -> tuple[LabelPredictions, NDArray[np.float64]] | None:
    """Return a run's predictions of its own test recordings, of some classes ``(C,)``, and its recall of each.

    None where it has not saved them.
    """
    if not (run.folder / PREDICTIONS).is_file():
        return None
    if task == "multi_label":
        saved, names = read_label_predictions(run.folder / PREDICTIONS, "test")
        own = [names.index(name) for name in classes]
        found = replace(saved, target=saved.target[:, own], logits=saved.logits[:, own])
        return found, found.by_class(evaluation)["recall"].value
    test, own = run.predictions["test"], [run.classes.index(name) for name in classes]
    assert isinstance(test, Predictions)
    p = np.exp(log_softmax(test.logits / float(run.metrics.get("temperature") or 1)))[:, own]
    target = (test.target[:, None] == np.array(own)).astype(np.int8)
    recall = np.where(target.any(axis=0), precision_recall_f1(test.confusion)[1][own], np.nan)
    return LabelPredictions(test.recording_id, target, logits_of(p), test.cluster, np.zeros(len(p))), recall


def _per_class(
    judged: dict[str, LabelPredictions],
    classes: tuple[str, ...],
    counts: Counts | None,
    focal: tuple[LabelPredictions, NDArray[np.float64]] | None,
    evaluation: Evaluation,
) -> pd.DataFrame:
    """Return one row a class: its figures on soundscapes, on the run's own test recordings, and by other programs."""
    supports = ({} if counts is None else {"train": counts}) | {"segments": judged[SPLIT].heard}
    own = judged[SPLIT]
    table = per_class_table(own, classes, supports, evaluation)
    ways = {"": own.by_class(evaluation)["ap"]}
    if focal:
        found, recall = focal
        of_class = found.by_class(evaluation)
        clips = {"focal_clips": found.heard, "focal_recall": recall, "focal_average_precision": of_class["ap"].value}
        table = table.assign(**clips, focal_auroc=of_class["auroc"].value)
        ways["focal_"] = of_class["ap"]
    for name, each in ways.items():
        alone = [each.mean(np.arange(len(classes)) == k) for k in range(len(classes))]
        limits = np.array([share_interval(one, evaluation.confidence) for one in alone]).T
        table[f"{name}average_precision_low"], table[f"{name}average_precision_high"] = limits
    for name, found in judged.items():
        if name != SPLIT:
            table[f"average_precision:{name}"] = per_class_table(found, classes, {}, evaluation).average_precision
    return table


def _counts(truth: Truth, own: LabelPredictions, species: int) -> dict[str, Any]:
    return {
        "recordings": int(truth.segments.path.nunique()),
        "segments": len(truth.segments),
        "hours": float(own.duration_s.sum() / 3600),
        "empty_segments": int(own.empty.sum()),
        "segments_of_other_species": int(truth.others.sum()),
        "species_judged": len(truth.classes),
        "species_of_the_run": species,
    }


def _print(metrics: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Print what was judged, the figures of each, and the fall from the run's own test recordings."""
    counts, settings = metrics["counts"], metrics["settings"]
    lines = [
        f"{counts['segments']:,} segments of {settings['segment_s']:g} s in {counts['recordings']:,} recordings, "
        f"{counts['hours']:.2f} hours; {counts['empty_segments']:,} are empty, in "
        f"{counts['segments_of_other_species']:,} only other species are heard",
        f"a label counts from an overlap of {settings['min_overlap_s']:g} s; a segment has the highest probability of "
        f"its windows, of {settings['window_s']:g} s every {settings['window_hop_s']:g} s",
        f"judged are {counts['species_judged']} of the model's {counts['species_of_the_run']} species, those that are "
        f"annotated; {metrics[SPLIT]['classes_without_positive']} without a segment are left out of means",
        *unknown_labels(metrics["unmapped"]),
        *metrics["notes"],
    ]
    lines += [f"{name}: {note}" for name, notes in metrics["notes_on_detections"].items() for note in notes]
    if metrics[SPLIT]["cmap"]["value"] is None:
        lines.append("every segment is empty: cmAP, AUROC, T1 accuracy and recall are not defined")
    if counts["recordings"] == 1:
        lines.append("intervals are over recordings: of one recording they say nothing")
    for line in lines:
        print(printable(line))
    judged = {metrics["run"]: metrics[SPLIT], **metrics["detections"]}
    shown = Table(
        title=Text(printable(f"{metrics['soundscapes']}: found from a probability of {settings['threshold']:g}"))
    )
    shown.add_column("")
    for name in judged:
        shown.add_column(Text(printable(name)), justify="right")
    for name, words in FIGURES.items():
        shown.add_row(words, *(_cell(figures[name], 1 if name == RATE else 3) for figures in judged.values()))
    for bucket in metrics[SPLIT].get("buckets", ()):
        rows = [figures["buckets"][bucket] for figures in judged.values()]
        cells = (f"{_cell(row['cmap'])} ({row['classes']} species)" if row["classes"] else "-" for row in rows)
        shown.add_row(f"cmAP, {bucket}-shot", *cells)
    Console().print(shown)
    if at := metrics["at_thresholds"]:
        print(
            f"at the run's thresholds for precision {at['stated_precision']:g}: precision {_cell(at['precision'])}, "
            f"recall {_cell(at['recall'])}, {_cell(at[RATE], 1)} false detections an hour of empty sound"
        )
    if metrics["fall"]:
        _print_fall(metrics["fall"], table)


def _print_fall(found: Mapping[str, Any], table: pd.DataFrame) -> None:
    for name, words in (("cmap", "cmAP"), ("auroc", "AUROC")):
        focal, soundscape, difference = (_cell(found[name][of]) for of in ("focal", "soundscape", "difference"))
        print(
            f"{words} of {found[name]['species']} species: {focal} on the run's test recordings, {soundscape} on "
            f"soundscapes, a fall of {difference}"
        )
    table = table.assign(fall=table.focal_average_precision - table.average_precision).dropna(subset="fall")
    for row in table.sort_values("fall", ascending=False, kind="stable").head(LISTED).itertuples():
        before, after = row.focal_average_precision, row.average_precision
        print(
            f"  {printable(row.species)}: average precision {before:.2f} of {row.focal_clips:,} recordings, "
            f"{after:.2f} of {row.segments:,} segments"
        )
    if len(table) > LISTED:
        print(f"  and {len(table) - LISTED} more species, in per_class.csv")


def _cell(figure: float | Mapping[str, float | None] | None, digits: int = 3) -> str:
    if not isinstance(figure, Mapping):
        return "-" if figure is None else f"{figure:.{digits}f}"
    value, *limits = (_cell(figure[name], digits) for name in ("value", "low", "high"))
    return value if "-" in limits else f"{value} [{', '.join(limits)}]"
