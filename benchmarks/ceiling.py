"""The ceiling of this processor: the best rate of any matrix product, convolution or layer, by data type.

    python benchmarks/ceiling.py RATES EXPERIMENT ...

Products are computed by torch's BLAS (MKL on x86) and by oneDNN, convolutions by oneDNN. Layers are those of the
experiments' networks, forward and backward, each by itself: a training step consists of them and of more, so it cannot
be faster than the fastest of them. RATES is a JSON file of the best rates so far. A line is printed every second, the
moment of it, so that the program can take turns with others; the first when everything has been measured once.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from networks import Side
from torch import Tensor, nn
from torch.nn import functional

from birdclf.environment import keep_freed_memory
from birdclf.training.trainer import fast_precision

BATCH = 32
REPEATS = 2
LINE_S = 1.0
CONVOLUTIONS = ((64, 64), (128, 64), (256, 28), (512, 14))
"""Channels, and height and width of the maps."""
LAYOUTS = {"channels-last": torch.channels_last, "plain": torch.contiguous_format}
LEAST_OVER_THE_LOOP = {"AMX": 3.8, "AVX512-BF16": 3.8, "AVX512": 2.2, "AVX2": 1.75}
"""Target of training against the plain float32 loop, by the processor's fastest instructions."""

Rates = dict[str, dict[str, float]]
"""Operations a second, by data type and name of the work."""


def processor_features() -> list[str]:
    """Return the vector instructions that torch finds and uses, the fastest first."""
    capability = torch.backends.cpu.get_cpu_capability()
    arm = platform.machine() in ("aarch64", "arm64")
    there = {
        "AMX": torch.cpu._is_amx_tile_supported(),
        "AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
        "Arm BF16": arm and torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "AVX512": capability == "AVX512",
        "AVX2": capability in ("AVX512", "AVX2"),
    }
    return [name for name, found in there.items() if found] or [capability]


def least_over_the_loop(features: Sequence[str]) -> float | None:
    """Return the target of this kind of processor, None for a kind without one."""
    return next((LEAST_OVER_THE_LOOP[name] for name in features if name in LEAST_OVER_THE_LOOP), None)


def training_precision() -> tuple[str, str]:
    """Return the precision that ``trainer.precision=auto`` takes on the CPU, and the data type of its products."""
    precision = fast_precision("cpu")[0]
    return precision, "bfloat16" if precision == "bf16-mixed" else "float32"


@dataclass(frozen=True)
class Work:
    """Something to time: its name, its floating-point operations (two a multiply-add), and a call that does it."""

    name: str
    flop: float
    run: Callable[[], object]


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer of a network.

    Attributes:
        module: The layer.
        shape: Of a window at its input, without the batch.
        first: Its input needs no gradient.
    """

    module: nn.Conv2d | nn.Linear
    shape: tuple[int, ...]
    first: bool

    def forward_flop(self, batch: int) -> float:
        """Return the operations forward that meet data: those on the zeros of a padding are not counted."""
        if isinstance(self.module, nn.Linear):
            return 2.0 * batch * self.module.in_features * self.module.out_features
        conv, taps = self.module, 1
        for axis, size in enumerate(self.shape[1:]):
            taps *= _taps(size, conv.kernel_size[axis], conv.stride[axis], int(conv.padding[axis]))
        return 2.0 * batch * (conv.in_channels // conv.groups) * conv.out_channels * taps

    def backward_flop(self, batch: int) -> float:
        """Return the operations backward: the weight's gradient, and the input's where it needs one."""
        return (1 if self.first else 2) * self.forward_flop(batch)

    def works(self, name: str, batch: int, dtype: torch.dtype) -> Iterator[Work]:
        """Yield the layer forward and backward, channels last."""
        layer = deepcopy(self.module).to(dtype)
        x = torch.randn(batch, *self.shape, dtype=dtype)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        y = layer(x.requires_grad_(not self.first))
        grad = torch.randn_like(y)
        inputs = [layer.weight] if self.first else [x, layer.weight]
        yield Work(f"{name} forward", self.forward_flop(batch), torch.no_grad()(lambda: layer(x)))
        yield Work(
            f"{name} backward",
            self.backward_flop(batch),
            lambda: torch.autograd.grad(y, inputs, grad, retain_graph=True),
        )


def _taps(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how often a kernel's taps meet one of ``size`` values along an axis, over all its positions."""
    starts = range(-padding, size + padding - kernel + 1, stride)
    return sum(0 <= start + tap < size for start in starts for tap in range(kernel))


def layers_of(network: nn.Module, shape: Sequence[int]) -> list[Layer]:
    """Return the convolutions and linear layers that windows ``shape`` pass, in this order."""
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            found.append(Layer(module, tuple(inputs[0].shape[1:]), first=not found))

    handles = [module.register_forward_hook(note) for module in network.modules()]
    network.train()(torch.zeros(2, *shape))
    for handle in handles:
        handle.remove()
    return found


def network_layers(experiment: str) -> list[Layer]:
    """Return the layers of an experiment's network."""
    side = Side(experiment)
    return layers_of(side.network, side.shape)


def training_flop(layers: Sequence[Layer], batch: int = BATCH) -> float:
    """Return the operations of a training step that meet data, forward and backward."""
    return sum(layer.forward_flop(batch) + layer.backward_flop(batch) for layer in layers)


def works(networks: Mapping[str, Sequence[Layer]], dtype: torch.dtype) -> Iterator[Work]:
    """Yield all that is timed in a data type."""
    yield from _products(dtype)
    yield from _convolutions(dtype)
    for name, layers in networks.items():
        for number, layer in enumerate(layers):
            yield from layer.works(f"{name}, layer {number}", BATCH, dtype)


def _products(dtype: torch.dtype) -> Iterator[Work]:
    for n in (512, 1024, 2048):
        a, b = torch.randn(n, n, dtype=dtype), torch.randn(n, n, dtype=dtype)
        yield Work(f"mm {n}", 2.0 * n**3, partial(torch.mm, a, b))
        # A dense float32 matrix would go to the BLAS, a bfloat16 one goes to oneDNN.
        inner, linear = (
            (a.to_mkldnn(), torch._C._nn.mkldnn_linear) if dtype == torch.float32 else (a, functional.linear)
        )
        yield Work(f"oneDNN linear {n}", 2.0 * n**3, partial(linear, inner, b, None))
    rows, weight, bias = (torch.randn(*shape, dtype=dtype) for shape in ((4096, 512), (512, 512), (512,)))
    yield Work("addmm 4096x512x512", 2.0 * 4096 * 512**2, partial(torch.addmm, bias, rows, weight))
    many = torch.randn(16, 512, 512, dtype=dtype)
    yield Work("bmm 16x512", 2.0 * 16 * 512**3, partial(torch.bmm, many, many))


def _convolutions(dtype: torch.dtype) -> Iterator[Work]:
    for channels, side in CONVOLUTIONS:
        for kernel in (1, 3):
            flop = 2.0 * 8 * (channels * kernel * (side - kernel + 1)) ** 2
            for layout, memory_format in LAYOUTS.items():
                weight, x = (
                    torch.randn(*shape, dtype=dtype).contiguous(memory_format=memory_format)
                    for shape in ((channels, channels, kernel, kernel), (8, channels, side, side))
                )
                name = f"convolution {kernel}x{kernel}, {channels} channels, {side}x{side}, {layout}"
                yield Work(name, flop, partial(functional.conv2d, x, weight))


def best_rate(work: Work, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the operations a second of the fastest of some repetitions, after one that does not count."""
    work.run()
    seconds = []
    for _ in range(REPEATS):
        began = clock()
        work.run()
        seconds.append(clock() - began)
    return work.flop / min(seconds)


def shares(
    flop: Mapping[str, float], step_s: Sequence[Mapping[str, float]], rates: Mapping[str, float]
) -> dict[str, Any]:
    """Return how much of the ceiling each network's training reaches.

    The ceiling is the best rate of anything that was timed in the data type, the steps included, so a share is at most
    1 whatever else the machine did meanwhile.

    Args:
        flop: Operations of a step, by network.
        step_s: Seconds of a step, by network, in each round.
        rates: Best rate of everything else, by name.
    """
    reached = {name: [flop[name] / row[name] for row in step_s] for name in flop}
    best = dict(rates) | {f"a step of {name}": max(row) for name, row in reached.items()}
    fastest = max(best, key=lambda name: best[name])
    return {
        "ceiling_gflop_per_s": best[fastest] / 1e9,
        "fastest": fastest,
        "step_gflop": {name: flop[name] / 1e9 for name in flop},
        "shares": {name: [rate / best[fastest] for rate in row] for name, row in reached.items()},
        "share": {name: median(row) / best[fastest] for name, row in reached.items()},
    }


def measure(
    networks: Mapping[str, Sequence[Layer]], path: Path, clock: Callable[[], float] = time.perf_counter
) -> Iterator[float]:
    """Time everything again and again; keep the best rates in a file, and yield the moment about once a second."""
    dtypes = {"float32": torch.float32}
    if training_precision()[1] == "bfloat16":  # without such instructions bfloat16 is converted, and takes minutes
        dtypes["bfloat16"] = torch.bfloat16
    rates: Rates = {name: {} for name in dtypes}
    said, complete = clock(), False
    while True:
        for name, dtype in dtypes.items():
            for work in works(networks, dtype):
                rates[name][work.name] = max(rates[name].get(work.name, 0.0), best_rate(work, clock))
                if complete and clock() - said >= LINE_S:
                    said = clock()
                    _write(rates, path)
                    yield said
        complete = True


def _write(rates: Rates, path: Path) -> None:
    draft = path.with_suffix(".draft")  # the program may be stopped at any moment
    draft.write_text(json.dumps(rates))
    os.replace(draft, path)


def main() -> None:
    torch.manual_seed(1)
    keep_freed_memory()
    path, *experiments = sys.argv[1:]
    for moment in measure({name: network_layers(name) for name in experiments}, Path(path)):
        print(moment, flush=True)


if __name__ == "__main__":
    main()
