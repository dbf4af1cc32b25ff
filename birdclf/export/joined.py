"""A frozen ONNX network and the head on its vectors as one graph."""

from typing import Any, Final

import numpy as np

from birdclf.errors import UserError
from birdclf.features.embedders.embedder import Embedder
from birdclf.features.embedders.network import OnnxNetwork

INPUT: Final = "waveform"
HEAD_INPUT: Final = "vectors"
QUIETEST: Final = 1e-9
"""Least magnitude that a peak is taken for, as in :meth:`Embedder.embed`."""


def joined(head: Any, embedder: Embedder) -> Any:
    """Return an ONNX model that takes waveforms, of one that takes the vectors of a frozen ONNX network.

    Where the frozen network takes one window, so does the whole.

    Args:
        head: Model whose input is ``vectors``, ``(B, E)``.
        embedder: Its file is read again.

    Raises:
        UserError: If the two cannot be joined.
    """
    import onnx
    from onnx import compose, utils, version_converter

    network = embedder.network
    assert isinstance(network, OnnxNetwork)
    try:
        frozen = utils.Extractor(onnx.load(embedder.file)).extract_model([network.source], [network.output])
        opset = max(_opset(frozen), _opset(head))
        frozen, head = (
            one if _opset(one) == opset else version_converter.convert_version(one, opset) for one in (frozen, head)
        )
        frozen = compose.add_prefix(frozen, "frozen/")
        before = compose.add_prefix(_before(embedder, network.one_by_one, opset), "before/", rename_inputs=False)
        between = compose.add_prefix(_between(embedder.n_bands, opset), "between/")
        for one in (before, frozen, between, head):
            one.ir_version = max(frozen.ir_version, head.ir_version)
        whole = compose.merge_models(before, frozen, [("before/scaled", f"frozen/{network.source}")])
        whole = compose.merge_models(whole, between, [(f"frozen/{network.output}", "between/given")])
        return compose.merge_models(whole, head, [("between/shaped", HEAD_INPUT)])
    except Exception as error:  # onnx has an error of its own for each way to fail
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{embedder.file} and the head cannot become one graph: {reason}. Use the run folder itself: birdclf "
            f"predict RUN AUDIO"
        ) from error


def _opset(model: Any) -> int:
    return next(int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx"))


def _before(embedder: Embedder, one_by_one: bool, opset: int) -> Any:
    """Return a model that scales waveforms ``(B, samples)`` as :meth:`Embedder.embed` does."""
    from onnx import TensorProto, helper

    constants: list[Any] = []

    def constant(name: str, value: Any) -> str:
        constants.append(_tensor(name, value))
        return name

    nodes = [helper.make_node("Mul", [INPUT, constant("scale", np.float32(embedder.scale))], ["levelled"])]
    if embedder.peak is None:
        nodes.append(helper.make_node("Identity", ["levelled"], ["scaled"]))
    else:
        nodes += [
            helper.make_node("Abs", ["levelled"], ["magnitude"]),
            helper.make_node("ReduceMax", ["magnitude", constant("axes", np.array([1]))], ["loudest"], keepdims=1),
            helper.make_node("Max", ["loudest", constant("quietest", np.float32(QUIETEST))], ["divisor"]),
            helper.make_node("Div", [constant("peak", np.float32(embedder.peak)), "divisor"], ["factor"]),
            helper.make_node("Mul", ["levelled", "factor"], ["scaled"]),
        ]
    shape = [1 if one_by_one else "batch", embedder.window_samples]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (INPUT, "scaled")]
    graph = helper.make_graph(nodes, "scaling", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _between(width: int, opset: int) -> Any:
    """Return a model that gives a frozen network's output, of any shape, the shape ``(B, E)``."""
    from onnx import TensorProto, helper

    node = helper.make_node("Reshape", ["given", "shape"], ["shaped"])
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, None)
    shaped = helper.make_tensor_value_info("shaped", TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph([node], "shape", [given], [shaped], [_tensor("shape", np.array([-1, width]))])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _tensor(name: str, value: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value), name)
