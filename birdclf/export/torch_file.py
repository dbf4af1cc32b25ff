"""A run's network as a file of ``torch.export``, which runs in PyTorch without any code of birdclf."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from birdclf.audio.clip import Samples
from birdclf.detection.classifier import Vectors
from birdclf.export.tracing import DYNAMIC, cannot_be_traced, quiet, traceable
from birdclf.inference.checkpoint import LoadedRun

METADATA: Final = "birdclf.json"
"""Name of the extra file inside that holds the metadata."""


def write_program(loaded: LoadedRun, metadata: Mapping[str, Any], file: Path) -> None:
    """Write a run's network; features, normalisation, adjustment and temperature are inside.

    Args:
        loaded: What the checkpoint holds; it is of no other use afterwards.
        metadata: What the file says of itself.
        file: Where to; its name ends in ``.pt2``.

    Raises:
        UserError: If the network cannot be traced.
        OSError: If the file cannot be written.
    """
    module, example = traceable(loaded)
    try:
        with quiet(), torch.enable_grad():  # without gradients norms are folded anew at every call
            program = torch.export.export(module, example, dynamic_shapes=DYNAMIC, strict=False)
    except Exception as error:  # the tracer has no base class of its own for the ways to fail
        raise cannot_be_traced(loaded, error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names paths of this machine
    with quiet(), file.open("wb") as opened:
        torch.export.save(program, opened, extra_files={METADATA: json.dumps(metadata, ensure_ascii=False)})


class Program:
    """A file that :func:`write_program` has just written, run by PyTorch.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        extra = {METADATA: ""}
        with quiet(), file.open("rb") as opened:
            program = torch.export.load(opened, extra_files=extra)
        self.metadata: dict[str, Any] = json.loads(extra[METADATA])
        self.module = program.module()

    @torch.inference_mode()
    def __call__(self, windows: Samples) -> tuple[Vectors, Vectors]:
        """Return calibrated probabilities ``(B, K)`` and embeddings ``(B, D)`` of windows ``(B, samples)``."""
        probabilities, embeddings = self.module(torch.from_numpy(np.ascontiguousarray(windows, np.float32)))
        return probabilities.numpy(), embeddings.numpy()
