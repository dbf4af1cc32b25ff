"""Frozen networks small enough to write in a test, and runs of a probe on them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection.made_up import CLASSES
from onnx import TensorProto, checker, helper, numpy_helper, save

from birdclf.features.embedders.embedder import Embedder
from birdclf.models.probes import LinearProbe

RATE_HZ, SAMPLES, WIDTH = 8_000, 8_000, 6
FRAME = 400


def write_embedder(file: Path, opset: int = 18, batch: int | str = "n", seed: int = 0, flat: bool = True) -> Path:
    """Write a network of windows of 1 s at 8 kHz: the mean magnitude of six filters, and a second output.

    Args:
        opset: Before 18 the mean has its axes as an attribute.
        batch: Of the input: a name, or 1.
        seed: Of the filters.
        flat: Whether the vector is ``(B, E)``, or ``(B, 1, E)``.
    """
    rng = np.random.default_rng(seed)
    constants = {
        "frames": np.array([-1, SAMPLES // FRAME, FRAME]), "filters": rng.standard_normal((FRAME, WIDTH), np.float32),
        "axes": np.array([1]),
    }  # fmt: skip
    old, keep = opset < 18, {"keepdims": 0 if flat else 1}
    nodes = [
        helper.make_node("Reshape", ["sound", "frames"], ["cut"]),
        helper.make_node("MatMul", ["cut", "filters"], ["filtered"]),
        helper.make_node("Abs", ["filtered"], ["magnitude"]),
        helper.make_node("ReduceMean", ["magnitude"], ["embedding"], axes=[1], **keep)
        if old
        else helper.make_node("ReduceMean", ["magnitude", "axes"], ["embedding"], **keep),
        helper.make_node("Neg", ["embedding"], ["other"]),
    ]
    shape = [batch, WIDTH] if flat else [batch, 1, WIDTH]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("other", "embedding")]
    inputs = [helper.make_tensor_value_info("sound", TensorProto.FLOAT, [batch, SAMPLES])]
    held = [numpy_helper.from_array(value, name) for name, value in constants.items() if name != "axes" or not old]
    graph = helper.make_graph(nodes, "embedder", inputs, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model)
    save(model, file)
    return file


def embedder_of(file: Path, **settings: Any) -> Embedder:
    """Return such a network as features that are fitted to something."""
    features = Embedder(str(file), RATE_HZ, 1.0, output="embedding", **settings)
    generator = torch.Generator().manual_seed(3)
    features.mean.copy_(torch.rand(WIDTH, generator=generator))
    features.std.copy_(0.5 + torch.rand(WIDTH, generator=generator))
    return features


def write_probe(folder: Path, features: Embedder, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write the best checkpoint of a linear probe that was not trained; return the run."""
    torch.manual_seed(seed)
    network, kind = LinearProbe(len(classes), features.n_bands), type(features)
    weights = {f"network.{k}": v for k, v in network.state_dict().items()}
    weights |= {f"features.{k}": v for k, v in features.state_dict().items()}
    config = {
        "features": {"_target_": f"{kind.__module__}.{kind.__name__}", **features.settings},
        "model": {"_target_": "birdclf.models.probes.LinearProbe"},
    }
    own = {
        "format": 1, "classes": list(classes), "features": features.settings, "config": config, "temperature": 0.5,
    }  # fmt: skip
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"epoch": 0, "state_dict": weights, "birdclf": own}, folder / "checkpoints" / "best.ckpt")
    return folder
