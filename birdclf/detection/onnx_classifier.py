"""A file of ``birdclf export --format onnx``, run by ONNX Runtime."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from birdclf.audio.clip import Samples
from birdclf.audio.mixing import Mix
from birdclf.detection.classifier import Hearing, Vectors, file_hash
from birdclf.disk import refuse_pointer
from birdclf.errors import UserError

METADATA: Final = "birdclf"
"""Key of the file's metadata under which all that a reader needs is JSON."""
FORMAT: Final = 1
NEEDED: Final = {"format": int, "classes": list, "sample_rate_hz": int, "samples": int, "padding": str, "audio": dict}


class OnnxClassifier:
    """An exported network: waveform in, probabilities and embeddings out.

    Args:
        source: The file. Nothing in it is executed but the operators of ONNX.
        device: ``cpu`` or ``cuda``; None takes the fastest that ONNX Runtime has here.

    Raises:
        UserError: If ONNX Runtime is missing, or the file cannot be read, is another program's or a newer birdclf's.
    """

    def __init__(self, source: Path, device: str | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"{source} needs ONNX Runtime. Install it: pip install 'birdclf[onnx]'") from error
        if not source.is_file():
            raise UserError(f"{source} does not exist. Give a file of birdclf export --format onnx, or a run folder.")
        refuse_pointer(source)
        self.source = source
        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 3
        providers = _providers(onnxruntime.get_available_providers(), device)
        try:
            self.session = onnxruntime.InferenceSession(str(source), quiet, providers=providers)
        except Exception as error:  # the runtime has an error of its own for each way to be wrong
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{source} cannot be read as an ONNX file: {reason}. Export it again.") from error
        own = _own(self.session.get_modelmeta().custom_metadata_map, source)
        try:
            mix = Mix(**own["audio"])
        except TypeError as error:
            raise UserError(f"{source} is damaged: {error}. Export it again.") from error
        classes = tuple(map(str, own["classes"]))
        self.hearing = Hearing(classes, own["sample_rate_hz"], own["samples"], own["padding"], mix)

    def fingerprint(self) -> str:
        """Return the hash of the file."""
        return file_hash(self.source)

    def __call__(self, windows: Samples) -> tuple[Vectors, Vectors]:
        """Return calibrated probabilities ``(B, K)`` and embeddings ``(B, D)`` of windows ``(B, samples)``."""
        inputs = {"waveform": np.ascontiguousarray(windows, dtype=np.float32)}
        probabilities, embeddings = self.session.run(["probabilities", "embeddings"], inputs)
        return probabilities, embeddings


def _own(metadata: dict[str, str], source: Path) -> dict[str, Any]:
    """Return what birdclf adds to a file, once it is known to be whole."""
    if METADATA not in metadata:
        raise UserError(
            f"{source} was not written by birdclf: it says nothing of classes and windows. Export a run with: birdclf "
            f"export RUN --format onnx"
        )
    try:
        own = json.loads(metadata[METADATA])
    except ValueError:
        own = None
    if isinstance(own, dict) and isinstance(own.get("format"), int) and own["format"] > FORMAT:
        raise UserError(
            f"{source} has format {own['format']}; this birdclf knows formats up to {FORMAT}. Update birdclf."
        )
    wrong = [name for name, kind in NEEDED.items() if not isinstance(own, dict) or not isinstance(own.get(name), kind)]
    if wrong:
        raise UserError(f"{source} is damaged: {', '.join(wrong)} of its metadata is missing or of another type.")
    found: dict[str, Any] = own
    return found


def _providers(there: list[str], device: str | None) -> list[str]:
    """Return what is to run the network, the first that can."""
    cuda = "CUDAExecutionProvider" in there
    if device not in (None, "cpu", "cuda") or (device == "cuda" and not cuda):
        raise UserError(f"--device {device} is not there for an ONNX file. Use --device cpu.")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda and device != "cpu" else ["CPUExecutionProvider"]
