"""The network as an ONNX file and as a torch.export file."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim

import birdclf
from birdclf.audio.clip import Samples
from birdclf.audio.mixing import Mix
from birdclf.detection.classifier import METADATA, VECTORS, WAVEFORMS, InputSpec, Vectors
from birdclf.errors import UserError
from birdclf.export.joined import HEAD_INPUT, INPUT, joined
from birdclf.features.embedders.embedder import Embedder, VectorFeatures
from birdclf.features.mel import MelFeatures
from birdclf.runs.checkpoint import LoadedRun
from birdclf.runs.waveforms import VectorClassifier, WaveformClassifier

OUTPUTS: Final = ("probabilities", "embeddings")


def is_head(loaded: LoadedRun, form: str) -> bool:
    """Return whether a file of a format is to hold the head alone, as its frozen network is no part of an ONNX graph.

    Raises:
        UserError: If the features are vectors of something other than one frozen network.
    """
    features = loaded.features
    if isinstance(features, VectorFeatures) and not isinstance(features, Embedder):
        raise UserError(
            f"--format {form}: the features, {type(features).__name__}, are not those of one frozen network, and no "
            f"file holds them. Use the run folder itself."
        )
    return isinstance(features, Embedder) and (form != "onnx" or features.file.suffix.lower() != ".onnx")


def metadata_of(
    loaded: LoadedRun, input_spec: InputSpec, quantisation: str | None = None, head: bool = False
) -> dict[str, Any]:
    """Return the metadata of a file, which may hold a head alone, as plain values.

    Raises:
        UserError: If channels are mixed by code of another package, which no file can hold.
    """
    mix = input_spec.mix
    if type(mix) is not Mix:
        raise UserError(
            f"audio is mixed by {type(mix).__module__}.{type(mix).__name__}, which an exported file cannot hold. "
            f"Train with the audio settings of birdclf, or use the run folder itself."
        )
    features, embedder = loaded.features, {}
    if isinstance(features, Embedder):
        file = features.settings["file"]
        embedder["embedder"] = {
            "target": f"{type(features).__module__}.{type(features).__name__}",
            "settings": features.settings | {"file": file and Path(file).name},  # no folder of this machine
            "hash": features.content_hash, "licence": features.licence or None,
        }  # fmt: skip
    return {
        "format": VECTORS if head else WAVEFORMS, "classes": list(input_spec.classes),
        "task": input_spec.task,
        "sample_rate_hz": input_spec.sample_rate_hz, "samples": input_spec.samples,
        "window_s": input_spec.window_s, "padding": input_spec.padding,
        "audio": {"channel": mix.channel, "dc": mix.dc, "gain": mix.gain}, "birdclf": birdclf.__version__,
        "epoch": loaded.epoch, "calibrated": loaded.temperature is not None, "quantisation": quantisation,
    } | embedder  # fmt: skip


DYNAMIC: Final = ({0: Dim("batch", min=1)},)


def make_traceable(loaded: LoadedRun) -> tuple[WaveformClassifier, tuple[Tensor]]:
    """Return the module of a run and inputs to trace it with.

    It takes waveforms, or the vectors of a frozen network, and gives calibrated probabilities and embeddings.
    """
    features = loaded.predictor.features
    generator = torch.Generator().manual_seed(0)
    if isinstance(features, VectorFeatures):
        head = VectorClassifier(loaded, channels_last=False).requires_grad_(False)
        return head, (torch.randn(2, features.n_bands, generator=generator),)
    if isinstance(features, MelFeatures):
        features.without_fft()
    module = WaveformClassifier(loaded, channels_last=False).requires_grad_(False)
    # Two windows: a batch of one would be taken for a constant.
    return module, (0.1 * torch.randn(2, features.window_samples, generator=generator),)


@contextmanager
def silence_tracers() -> Iterator[None]:
    """Keep what tracers print, log and warn of from the screen."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(disabled)


def cannot_be_traced(loaded: LoadedRun, error: Exception) -> UserError:
    """Return what to tell the user of a network that depends on values in a way that no graph can hold."""
    name = type(loaded.predictor.network).__name__
    causes = [error]
    while isinstance(cause := causes[-1].__cause__, Exception):
        causes.append(cause)
    message = next((line for line in str(causes[-1]).splitlines() if line.strip()), type(causes[-1]).__name__)
    return UserError(
        f"The network {name} cannot be exported: {message.strip()[:200]} Its forward must not depend on the values of "
        f"its input; birdclf predict uses the run folder as it is."
    )


LARGEST: Final = 2**31 - 2**24
"""Bytes: a message of protobuf, which an ONNX file is, holds 2 GiB; some room is for the graph."""
SCOPES: Final = "pkg.torch.onnx.name_scopes"
PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Refuse to export without the packages that writing and checking an ONNX file takes."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"--format onnx needs {', '.join(missing)}. Install it: pip install 'birdclf[onnx]'")


def write_onnx(loaded: LoadedRun, metadata: Mapping[str, Any], file: Path) -> list[str]:
    """Write a run's network; features, normalisation, adjustment and temperature are inside, and so are all weights.

    A frozen network is inside if its file is ONNX; else the file takes its vectors.

    Returns:
        Names of the graph's nodes that are the network's; the others make features, or probabilities of logits.

    Raises:
        UserError: If the network cannot be traced, or is larger than a file can be.
    """
    from torch.onnx.errors import OnnxExporterError

    module, example = make_traceable(loaded)
    features = loaded.features
    inside = features if isinstance(features, Embedder) and not is_head(loaded, "onnx") else None
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    size += inside.file.stat().st_size if inside else 0
    if size > LARGEST:
        raise UserError(f"The network has {size / 1e9:.1f} GB of weights; an ONNX file holds 2 GB. Use torch_export.")
    try:
        with silence_tracers(), torch.enable_grad():  # without gradients norms are folded again at every call
            program = torch.onnx.export(
                module, example, dynamo=True, verbose=False,
                input_names=[HEAD_INPUT if isinstance(features, VectorFeatures) else INPUT],
                output_names=list(OUTPUTS), dynamic_shapes=DYNAMIC, external_data=False,
            )  # fmt: skip
            model = program.model_proto  # type: ignore[union-attr]
    except OnnxExporterError as error:
        raise cannot_be_traced(loaded, error) from error
    network = [node.name for node in model.graph.node if _within_network(node)]
    _forget_origin(model)
    if inside:
        model = joined(model, inside)
    set_metadata(model, metadata)
    file.write_bytes(model.SerializeToString(deterministic=True))
    return network


def set_metadata(model: Any, metadata: Mapping[str, Any]) -> None:
    """Put metadata into a model of ONNX, in place of birdclf's earlier entries."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != METADATA]
    del model.metadata_props[:]
    for key, value in [*kept, (METADATA, json.dumps(metadata, ensure_ascii=False))]:
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _within_network(node: Any) -> bool:
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    return "'network'" in scopes


def _forget_origin(model: Any) -> None:
    """Take off what the tracer notes of each node, such as stack traces with the paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for function in model.functions:
        for part in (function, *function.node):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")


TORCH_METADATA: Final = "birdclf.json"
"""Name of the extra file inside that holds the metadata."""


def write_program(loaded: LoadedRun, metadata: Mapping[str, Any], file: Path) -> None:
    """Write a run's network; features, normalisation, adjustment and temperature are inside, a frozen network is not.

    Raises:
        UserError: If the network cannot be traced.
    """
    module, example = make_traceable(loaded)
    try:
        with silence_tracers(), torch.enable_grad():  # without gradients norms are folded again at every call
            program = torch.export.export(module, example, dynamic_shapes=DYNAMIC, strict=False)
    except Exception as error:  # the tracer has no base class of its own for the ways to fail
        raise cannot_be_traced(loaded, error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names paths of this machine
    with silence_tracers(), file.open("wb") as opened:
        torch.export.save(program, opened, extra_files={TORCH_METADATA: json.dumps(metadata, ensure_ascii=False)})


class Program:
    """A file that :func:`write_program` has just written, run by PyTorch, behind its frozen network if it has one."""

    def __init__(self, file: Path, embedder: Embedder | None = None) -> None:
        self.embedder = embedder
        extra = {TORCH_METADATA: ""}
        with silence_tracers(), file.open("rb") as opened:
            program = torch.export.load(opened, extra_files=extra)
        self.metadata: dict[str, Any] = json.loads(extra[TORCH_METADATA])
        self.module = program.module()

    @torch.inference_mode()
    def __call__(self, windows: Samples) -> tuple[Vectors, Vectors]:
        """Return calibrated probabilities ``(B, K)`` and embeddings ``(B, D)`` of windows ``(B, samples)``."""
        inputs = windows if self.embedder is None else self.embedder.embed(windows)
        probabilities, embeddings = self.module(torch.from_numpy(np.ascontiguousarray(inputs, np.float32)))
        return probabilities.numpy(), embeddings.numpy()
