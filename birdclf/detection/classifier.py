"""Classifiers of windows of sound, from a run folder or an ONNX file."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from birdclf.audio.clip import Samples
from birdclf.audio.mixing import Mix
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import Embedder
from birdclf.files import file_hash, refuse_pointer
from birdclf.runs.checkpoint import LoadedRun, checked_task, load_run, moved
from birdclf.runs.trust import build
from birdclf.runs.waveforms import WaveformClassifier
from birdclf.targets import Task

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class InputSpec:
    """Sound that a classifier takes."""

    classes: tuple[str, ...]  # names of the K classes
    sample_rate_hz: int  # sample rate of its windows
    samples: int  # samples a window
    padding: str  # what fills a recording shorter than a window: `repeat` or `silence`
    mix: Mix  # how a recording becomes one signal
    task: Task = "single_label"  # whether probabilities are shares among the classes, or each its own

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return self.samples / self.sample_rate_hz


class Classifier(Protocol):
    """Gives probabilities of windows, all 0 of a window that it rejects."""

    input_spec: InputSpec
    source: Path

    def fingerprint(self) -> str:
        """Return a text that changes with the file."""
        ...

    def __call__(self, windows: Samples) -> tuple[Vectors, Vectors]:
        """Return calibrated probabilities ``(B, K)`` and embeddings ``(B, D)`` of windows ``(B, samples)``."""
        ...


class TorchClassifier:
    """A checkpoint, on a GPU where there is one.

    Raises:
        UserError: If there is no such device, the checkpoint mixes channels in an unknown way, or its features cannot
            be computed for new sound.
    """

    def __init__(
        self, loaded: LoadedRun, source: Path, device: str | None = None, trusted: Collection[str] = ()
    ) -> None:
        loaded.features.check_new_sound()
        self.source = source
        self.device = _device(device)
        features = loaded.features
        self.module = WaveformClassifier(loaded).to(self.device)
        audio = loaded.config.get("audio")
        mix = build(audio, Mix, "audio", trusted) if audio else Mix()
        self.input_spec = InputSpec(
            loaded.classes, features.sample_rate_hz, features.window_samples, features.padding, mix, loaded.task
        )

    def fingerprint(self) -> str:
        """Return the hash of the file."""
        return file_hash(self.source)

    @torch.inference_mode()
    def __call__(self, windows: Samples) -> tuple[Vectors, Vectors]:
        """Return calibrated probabilities ``(B, K)`` and embeddings ``(B, D)`` of windows ``(B, samples)``."""
        waveforms = torch.from_numpy(windows)
        if self.device.type != "cpu":
            waveforms = waveforms.pin_memory().to(self.device, non_blocking=True)
        probabilities, embeddings = self.module(waveforms)
        return probabilities.cpu().numpy(), embeddings.cpu().numpy()


def open_classifier(
    source: Path,
    checkpoint: str = "best",
    device: str | None = None,
    trusted: Collection[str] = (),
    embedder: Path | None = None,
) -> Classifier:
    """Return the classifier of a run folder, or of a file that ``birdclf export --format onnx`` wrote.

    Its arguments are those of :func:`birdclf.load`; nothing in the source is executed.

    Raises:
        UserError: If it is neither, cannot be used, or a file comes with an option that only a run folder has.
    """
    if source.suffix.lower() == ".onnx":
        if checkpoint != "best" or trusted:
            option = "--trust" if trusted else f"--checkpoint {checkpoint}"
            raise UserError(f"{option} is for a run folder; {source} holds one network, and no code. Leave it out.")
        return OnnxClassifier(source, device, embedder)
    if source.is_file():
        raise UserError(f"{source} is neither a run folder nor an .onnx file. Give the folder that holds checkpoints/.")
    file = source / "checkpoints" / f"{checkpoint}.ckpt"
    return TorchClassifier(load_run(source, checkpoint, trusted, embedder), file, device, trusted)


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} is not there: {str(error).splitlines()[0]} Use --device cpu.") from error
    return device


WAVEFORMS: Final = 1
VECTORS: Final = 2
"""Formats of a file that takes waveforms, and of one that takes the vectors of a frozen network."""
METADATA: Final = "birdclf"
"""Key of the file's metadata under which all that a reader needs is JSON."""
FORMAT: Final = VECTORS
"""Newest format that is known."""
NEEDED: Final = {"format": int, "classes": list, "sample_rate_hz": int, "samples": int, "padding": str, "audio": dict}


class OnnxClassifier:
    """An exported network: waveform in, probabilities and embeddings out.

    Args:
        source: The file. Nothing in it is executed but the operators of ONNX.
        device: ``cpu`` or ``cuda``; None takes the fastest that ONNX Runtime has here.
        embedder: File of the frozen network whose vectors it takes, if it is a head alone; None for that of a package.

    Raises:
        UserError: If ONNX Runtime is missing, or the file cannot be read, is another program's or a newer birdclf's,
            or the frozen network is missing or another one.
    """

    def __init__(self, source: Path, device: str | None = None, embedder: Path | None = None) -> None:
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
        self.embedder = _embedder(own, source, embedder)
        taken = self.session.get_inputs()[0]
        self.input, self.one_by_one = taken.name, taken.shape[:1] == [1]  # of a frozen network inside that takes one
        classes = tuple(map(str, own["classes"]))
        task = checked_task(own, source)
        self.input_spec = InputSpec(classes, own["sample_rate_hz"], own["samples"], own["padding"], mix, task)

    def fingerprint(self) -> str:
        """Return the hash of the file."""
        return file_hash(self.source)

    def __call__(self, windows: Samples) -> tuple[Vectors, Vectors]:
        """Return calibrated probabilities ``(B, K)`` and embeddings ``(B, D)`` of windows ``(B, samples)``."""
        inputs = np.ascontiguousarray(windows if self.embedder is None else self.embedder.embed(windows), np.float32)
        parts = np.split(inputs, len(inputs)) if self.one_by_one else [inputs]
        found = [self.session.run(["probabilities", "embeddings"], {self.input: part}) for part in parts]
        probabilities, embeddings = (np.concatenate(rows) for rows in zip(*found, strict=True))
        return probabilities, embeddings


def _embedder(own: Mapping[str, Any], source: Path, file: Path | None) -> Embedder | None:
    """Return the frozen network whose vectors a file takes; None if it takes waveforms.

    Raises:
        UserError: If the network's file is not where it is looked for, or another one.
    """
    if own["format"] < VECTORS:
        if file is not None:
            raise UserError(f"--embedder is for a head alone; {source} takes sound as it is. Leave it out.")
        return None
    kept = own.get("embedder")
    if not isinstance(kept, dict) or not isinstance(kept.get("settings"), dict):
        raise UserError(f"{source} is damaged: its metadata do not say whose vectors it takes. Export it again.")
    node = {"_target_": kept.get("target"), **kept["settings"]}
    if file is not None:
        node |= moved(node, file, source)
    elif node.get("file") is not None:  # its name: the folder is not written into a file that is handed on
        raise UserError(
            f"{source} takes the vectors of {node['file']}, whose content has the hash {kept.get('hash')}. Say where "
            f"that file is: --embedder FILE"
        )
    embedder = build(node, Embedder, "embedder", of=str(source))
    embedder.check_new_sound()
    return embedder


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
