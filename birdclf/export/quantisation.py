"""A network's weights and activations as 8-bit integers, and what that costs in accuracy."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from birdclf.audio.clip import Samples
from birdclf.detection.classifier import OnnxClassifier, Vectors
from birdclf.errors import UserError
from birdclf.export.formats import set_metadata, silence_tracers
from birdclf.export.joined import INPUT
from birdclf.export.verification import BATCH, SoundWindow, batches
from birdclf.metrics.figures import Evaluation, confusion_matrix, summarise
from birdclf.metrics.label_predictions import LabelPredictions
from birdclf.metrics.multi_label import logits_of
from birdclf.targets import HEADLINES

CALIBRATION: Final = 128
"""Recordings whose middle windows give the ranges of activations."""
OPERATORS: Final = ("Conv", "Gemm", "MatMul", "MaxPool", "Relu")
"""The products, and what may stand between them without leaving integers."""


class Calibration:
    """Batches of windows ``(n, samples)`` as ONNX Runtime's quantiser asks for them."""

    def __init__(self, windows: Samples) -> None:
        self._batches = iter([windows[i : i + BATCH] for i in range(0, len(windows), BATCH)])

    def get_next(self) -> dict[str, Samples] | None:
        """Return the next batch by the name of the input, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantise(file: Path, network: Sequence[str], windows: Samples, metadata: Mapping[str, Any], out: Path) -> None:
    """Write a file whose network is in 8-bit integers; features and probabilities stay float32.

    Scales of activations come from their extremes over windows ``(n, samples)`` of the train split, scales of weights
    from each output channel. ``network`` names the nodes that are the network's.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with silence_tracers():
        quantize_static(
            str(file),
            str(out),
            Calibration(windows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_quantize=list(network),
            per_channel=True,
            reduce_range=True,  # 7 bits a weight: sums of 8 saturate on processors without VNNI
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    model = onnx.load(str(out))
    set_metadata(model, metadata)
    out.write_bytes(model.SerializeToString(deterministic=True))


def cost(float32: OnnxClassifier, int8: OnnxClassifier, sounds: Iterable[SoundWindow]) -> str:
    """Classify the same windows with both files, in turns, and return a table of what is lost and what is saved.

    It has the share of windows whose species is named, of sets of species cmAP, the mean F1 over the classes with a
    window, the size of the file and the time a window.

    Raises:
        UserError: If there is no window.
    """
    targets: list[Any] = []
    found: dict[str, list[Any]] = {"float32": [], "int8": []}
    seconds: dict[str, list[float]] = {"float32": [], "int8": []}
    largest = 0.0
    for batch in batches(_noted(sounds, targets)):
        answers = {}
        for name, file in (("float32", float32), ("int8", int8)):
            began = time.perf_counter()
            answers[name], _ = file(batch)
            seconds[name].append((time.perf_counter() - began) / len(batch))
            found[name].append(answers[name])
        largest = max(largest, float(np.abs(answers["float32"] - answers["int8"]).max()))
    if not targets:
        raise UserError("No validation recording can be decoded, so that nothing shows what --quantize int8 costs.")
    first, second = HEADLINES[float32.input_spec.task].values()
    rows = [f"{'':10}{first:>10}{second:>10}{'MB':>8}{'ms a window':>13}"]
    for name, file in (("float32", float32), ("int8", int8)):
        figures = _figures(np.asarray(targets), np.concatenate(found[name]))
        shares, size_mb = "".join(f"{figure:10.4f}" for figure in figures), file.source.stat().st_size / 1e6
        rows.append(f"{name:10}{shares}{size_mb:8.2f}{1000 * median(seconds[name]):13.1f}")
    rows.append(f"probabilities differ by at most {largest:.3f}")
    return "\n".join([f"the middle window of {len(targets):,} validation recordings:", *rows])


def calibration_windows(sounds: Iterable[SoundWindow]) -> Samples:
    """Return some windows ``(n, samples)`` as one array.

    Raises:
        UserError: If there is none.
    """
    windows = [sound.window for sound in islice(sounds, CALIBRATION)]
    if not windows:
        raise UserError("No train recording can be decoded, so that --quantize int8 has nothing to set its scales by.")
    return np.stack(windows)


def _figures(target: NDArray[Any], p: Vectors) -> tuple[float, float]:
    """Return the two figures that stand for probabilities ``(n, K)`` of targets ``(n,)``, or ``(n, K)`` of sets."""
    if target.ndim == 1:
        figures = summarise(confusion_matrix(target, p.argmax(axis=1), p.shape[1]))
        return figures["accuracy"], figures["macro_f1_evaluable"]
    names = np.arange(len(p)).astype(object)
    predictions = LabelPredictions(names, target.astype(np.int8), logits_of(p), names, np.ones(len(p)))
    found = predictions.estimates(predictions.heard, Evaluation())
    return float(found["cmap"].value), float(found["macro_f1"].value)


def _noted(sounds: Iterable[SoundWindow], targets: list[Any]) -> Iterator[SoundWindow]:
    for sound in sounds:
        targets.append(sound.target)
        yield sound
