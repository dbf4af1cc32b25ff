"""A frozen network in a TFLite or ONNX file, run on windows of sound."""

import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from birdclf.errors import UserError
from birdclf.files import file_hash, refuse_pointer

Windows = NDArray[np.float32]
"""``(B, samples)``"""
Vectors = NDArray[np.float32]
"""``(B, E)``"""

NAMED: Final = 12
"""Most names that a message lists."""


class Network(Protocol):
    """An open file.

    Attributes:
        width: E, values of the output per window.
    """

    width: int

    def __call__(self, windows: Windows) -> Vectors:
        """Return the output of windows."""
        ...


def content_hash(file: Path) -> str:
    """Return the hash of a file's content, computed once per process while the file does not change.

    Raises:
        UserError: If it does not exist or is a Git LFS pointer.
    """
    if file.is_dir():
        raise UserError(f"features.file={file} is a folder. Give the file of a network, .tflite or .onnx.")
    if not file.is_file():
        raise UserError(f"features.file={file} does not exist. Give the file of a network, .tflite or .onnx.")
    refuse_pointer(file)
    state = file.stat()
    return _hash_of(file, state.st_size, state.st_mtime_ns)


@lru_cache
def _hash_of(file: Path, size: int, changed_ns: int) -> str:
    return file_hash(file)


def open_network(
    file: Path, samples: int, threads: int, source: str | None = None, output: str | None = None
) -> Network:
    """Open a TFLite or ONNX file.

    Args:
        file: Its name ends in ``.tflite`` or ``.onnx``.
        samples: Samples per window that its input must take.
        threads: Threads that compute.
        source: Name of the input; None for the only one.
        output: Name of the output, in TFLite of any tensor inside; None for the only output.

    Raises:
        UserError: If the package that reads it is missing, or it is no network, has other names or takes other windows.
    """
    kinds: dict[str, Any] = {".tflite": TFLiteNetwork, ".onnx": OnnxNetwork}
    if (ending := file.suffix.lower()) not in kinds:
        raise UserError(f"features.file={file} is no file of a network that is known: it must end in .tflite or .onnx.")
    require_reader(file)
    with _without_native_line():
        opened: Network = kinds[ending](file, samples, threads, source, output)
    return opened


NATIVE_LINE: Final = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


@contextmanager
def _without_native_line() -> Iterator[None]:
    """Keep one line from the screen, which TFLite writes to file descriptor 2 and no setting of it turns off."""
    sys.stderr.flush()
    try:
        screen = os.dup(2)
    except OSError:  # closed
        yield
        return
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            written.seek(0)
            os.write(2, b"".join(line for line in written if line.strip() != NATIVE_LINE))


def require_reader(file: Path) -> None:
    """Refuse a file whose reader is not installed.

    Raises:
        UserError: If it is missing.
    """
    package, extra = ("ai_edge_litert", "birdnet") if file.suffix.lower() == ".tflite" else ("onnxruntime", "onnx")
    if find_spec(package) is None:
        raise UserError(f"{file.name} needs an extra: pip install 'birdclf[{extra}]'")


class TFLiteNetwork:
    """A TFLite file, run window by window; a batch is no faster.

    A tensor inside becomes the output of the graph, and operators after it are left out, so that no intermediate
    result has to be kept.
    """

    def __init__(self, file: Path, samples: int, threads: int, source: str | None, output: str | None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            content = file.read_bytes()
            described = Interpreter(model_content=content, num_threads=threads)
            inputs, outputs = described.get_input_details(), described.get_output_details()
            tensors = {str(one["name"]): one for one in described.get_tensor_details() if one["name"]}
        except (ValueError, RuntimeError) as error:
            raise _no_network(file, error) from error
        source = _chosen("input", source, [str(one["name"]) for one in inputs], file)
        _check_samples(file, tensors[source]["shape_signature"], samples)
        ends = [str(one["name"]) for one in outputs]
        output = _chosen("output", output, ends, file, tensors)
        index = int(tensors[output]["index"])
        if output not in ends:
            described = Interpreter(model_content=_ending_at(content, index), num_threads=threads)
        self.interpreter, self.source, self.output = described, int(tensors[source]["index"]), index
        self.interpreter.resize_tensor_input(self.source, (1, samples))
        self.interpreter.allocate_tensors()
        self.width = int(np.prod(self._run(np.zeros((1, samples), np.float32)).shape))

    def _run(self, window: Windows) -> NDArray[np.float32]:
        self.interpreter.set_tensor(self.source, window)
        self.interpreter.invoke()
        result: NDArray[np.float32] = self.interpreter.get_tensor(self.output)
        return result

    def __call__(self, windows: Windows) -> Vectors:
        """Return the output ``(B, E)`` of windows ``(B, samples)``."""
        return np.stack([self._run(one[None]).reshape(-1) for one in windows])


def _ending_at(content: bytes, tensor: int) -> bytes:
    """Return a TFLite model of one output whose graph ends with the operator that gives a tensor."""
    from ai_edge_litert import schema_py_generated as schema

    changed = bytearray(content)
    graph = schema.Model.GetRootAs(changed, 0).Subgraphs(0)
    makers = [i for i in range(graph.OperatorsLength()) if tensor in graph.Operators(i).OutputsAsNumpy()]
    table = graph._tab
    outputs, operators = (table.Vector(table.Offset(field)) for field in (OUTPUTS, OPERATORS))
    struct.pack_into("<ii", changed, outputs - 4, 1, tensor)  # a vector begins with its length
    struct.pack_into("<i", changed, operators - 4, makers[0] + 1)  # they are in the order in which they run
    return bytes(changed)


OUTPUTS: Final = 8
OPERATORS: Final = 10
"""Places of two fields in the table of a SubGraph (schema.fbs of TFLite, version 3)."""


class OnnxNetwork:
    """An ONNX file."""

    def __init__(self, file: Path, samples: int, threads: int, source: str | None, output: str | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has an error of its own for each way to be wrong
            raise _no_network(file, error) from error
        inputs = {one.name: one for one in self.session.get_inputs()}
        self.source = _chosen("input", source, list(inputs), file)
        shape = [size if isinstance(size, int) else -1 for size in inputs[self.source].shape]
        _check_samples(file, shape, samples)
        self.output = _chosen("output", output, [one.name for one in self.session.get_outputs()], file)
        self.one_by_one = shape[0] == 1
        self.width = int(np.prod(self._run(np.zeros((1, samples), np.float32)).shape))

    def _run(self, windows: Windows) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self.session.run([self.output], {self.source: windows})[0]
        return result

    def __call__(self, windows: Windows) -> Vectors:
        """Return the output ``(B, E)`` of windows ``(B, samples)``."""
        windows = np.ascontiguousarray(windows, dtype=np.float32)
        parts = [self._run(one[None]) for one in windows] if self.one_by_one else [self._run(windows)]
        return np.concatenate(parts).reshape(len(windows), -1)


def _no_network(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200].rstrip(".") if file.stat().st_size else "it is empty"
    return UserError(f"features.file={file} cannot be read as a network: {reason}. Give another file.")


def _chosen(kind: str, name: str | None, ends: list[str], file: Path, inside: "dict[str, Any] | None" = None) -> str:
    """Return the name of an input or output, or refuse it with those that there are."""
    if name in ends or (name is not None and inside and name in inside):
        return name
    if name is None and len(ends) == 1:
        return ends[0]
    more = f", or one of the {len(inside)} tensors inside" if inside else ""
    listed = ", ".join(ends[:NAMED]) + (", …" if len(ends) > NAMED else "")
    problem = "is not chosen" if name is None else f"is {name!r}, which the file has not"
    raise UserError(f"features.{kind} {problem}. {file.name} has: {listed}{more}.")


def _check_samples(file: Path, shape: Any, samples: int) -> None:
    """Refuse a network whose input is not ``(B, samples)``; -1 is any size."""
    sizes = [int(size) for size in shape]
    if len(sizes) != 2 or sizes[0] not in (-1, 1) or sizes[1] not in (-1, samples):
        raise UserError(
            f"{file.name} takes an input of shape {tuple(sizes)}; a window has {samples} samples, so that (1, "
            f"{samples}) is needed. Set features.window_s and features.sample_rate_hz to what the network was made for."
        )
