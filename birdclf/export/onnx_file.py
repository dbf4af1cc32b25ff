"""A run's network as one ONNX file: waveform in, probabilities and embeddings out."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch

from birdclf.detection.onnx_classifier import METADATA
from birdclf.errors import UserError
from birdclf.export.metadata import INPUT, OUTPUTS
from birdclf.export.tracing import DYNAMIC, cannot_be_traced, quiet, traceable
from birdclf.inference.checkpoint import LoadedRun

LARGEST: Final = 2**31 - 2**24
"""Bytes: a message of protobuf, which an ONNX file is, holds 2 GiB; some room is for the graph."""
SCOPES: Final = "pkg.torch.onnx.name_scopes"
PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Refuse to go on without the packages that writing and checking an ONNX file takes.

    Raises:
        UserError: If one is not installed.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"--format onnx needs {', '.join(missing)}. Install it: pip install 'birdclf[onnx]'")


def write_onnx(loaded: LoadedRun, metadata: Mapping[str, Any], file: Path) -> list[str]:
    """Write a run's network; features, normalisation, adjustment and temperature are inside, and so are all weights.

    Args:
        loaded: What the checkpoint holds; it is of no other use afterwards.
        metadata: What the file says of itself.
        file: Where to.

    Returns:
        Names of the graph's nodes that are the network's; the others make features, or probabilities of logits.

    Raises:
        UserError: If the network cannot be traced, or is larger than a file can be.
        OSError: If the file cannot be written.
    """
    from torch.onnx.errors import OnnxExporterError

    module, example = traceable(loaded)
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    if size > LARGEST:
        raise UserError(f"The network has {size / 1e9:.1f} GB of weights; an ONNX file holds 2 GB. Use torch_export.")
    try:
        with quiet(), torch.enable_grad():  # without gradients norms are folded anew at every call
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=DYNAMIC,
                external_data=False,
            )
            model = program.model_proto  # type: ignore[union-attr]
    except OnnxExporterError as error:
        raise cannot_be_traced(loaded, error) from error
    network = [node.name for node in model.graph.node if _within_network(node)]
    _forget_origin(model)
    set_metadata(model, metadata)
    file.write_bytes(model.SerializeToString(deterministic=True))
    return network


def set_metadata(model: Any, metadata: Mapping[str, Any]) -> None:
    """Put metadata into a model of ONNX, in place of what it had of ours."""
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
