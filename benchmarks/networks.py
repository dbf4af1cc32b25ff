"""Speed and size of each network of ``conf/model/``, in turns in one process.

    python benchmarks/networks.py [NAME ...]

A name may also be an experiment's, for its network on its features; otherwise features are those in the command at the
head of the network's file. Features are random: their values do not matter to the speed.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

CLASSES = 89
BATCH = 8
LARGE, BATCH_OF_LARGE = 5e9, 1  # multiply-adds from which on a step of that many windows is long enough
ROUNDS = 4  # the first of which does not count

Figures = dict[str, Any]


def names(group: str = "model") -> list[str]:
    """Return the names of all networks, or of all files of another group."""
    from birdclf.config import conf_dir

    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


class Side:
    """A network in training.

    Args:
        name: Of a file in ``conf/model/`` or ``conf/experiment/``.
    """

    def __init__(self, name: str) -> None:
        import torch
        from hydra import compose, initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from hydra.utils import instantiate

        from birdclf.config import conf_dir

        words = [f"experiment={name}"]
        if name in names():
            command = (conf_dir() / "model" / f"{name}.yaml").read_text().split("\n")[0]
            words = [f"model={name}", *re.findall(r"features=\w+", command)]
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("train", overrides=words)
        self.shape = instantiate(cfg.features).shape
        torch.manual_seed(1)
        network = instantiate(cfg.model, num_classes=CLASSES, in_channels=self.shape[0])
        self.network = network.to(memory_format=torch.channels_last)
        self.optimizer = instantiate(cfg.optimizer)(self.network.parameters())
        self.x = torch.randn(1, *self.shape).contiguous(memory_format=torch.channels_last)
        self.multiply_adds = self._multiply_adds()
        self.batch = BATCH if self.multiply_adds < LARGE else BATCH_OF_LARGE
        self.x = torch.randn(self.batch, *self.shape).contiguous(memory_format=torch.channels_last)
        self.target = torch.randint(CLASSES, (self.batch,))

    def parameters(self) -> int:
        """Return the number of parameters."""
        return sum(p.numel() for p in self.network.parameters())

    def _multiply_adds(self) -> float:
        """Return the multiply-adds of a window forward."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        # Written out as matrix products: the counter does not know the CPU's fused attention.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            self.network.eval()(self.x)
        return float(counter.get_total_flops()) / 2

    def train_s(self) -> float:
        """Return the seconds of a training step."""
        from torch.autograd import backward
        from torch.nn.functional import cross_entropy

        self.network.train()
        began = time.perf_counter()
        self.optimizer.zero_grad()
        backward(cross_entropy(self.network(self.x), self.target))
        self.optimizer.step()
        return time.perf_counter() - began

    def evaluate_s(self) -> float:
        """Return the seconds of evaluating a batch."""
        import torch

        self.network.eval()
        with torch.no_grad():
            began = time.perf_counter()
            self.network(self.x)
            return time.perf_counter() - began


def in_turns(chosen: list[str]) -> dict[str, Figures]:
    """Return the figures of networks: in every round each trains a step and evaluates a batch."""
    from birdclf.environment import keep_freed_memory

    keep_freed_memory()
    sides = {name: Side(name) for name in chosen}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            seconds[name].append((side.train_s(), side.evaluate_s()))
    figures = {}
    for name, side in sides.items():
        steps, evaluations = zip(*seconds[name][1:], strict=True)
        figures[name] = {
            "parameters": side.parameters(),
            "multiply_adds": side.multiply_adds,
            "shape": list(side.shape),
            "batch": side.batch,
            "train_windows_per_s": side.batch / median(steps),
            "evaluate_windows_per_s": side.batch / median(evaluations),
            "seconds": seconds[name],
        }
    return figures


def of_each_network() -> dict[str, Figures]:
    """Return :func:`in_turns` of all networks, from a process of its own: memory is set for a whole process."""
    done = subprocess.run(
        [sys.executable, __file__, "--json"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{__file__}: exit status {done.returncode}\n{done.stderr}")
    found: dict[str, Figures] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    chosen = [word for word in sys.argv[1:] if word != "--json"] or names()
    known = [*names(), *names("experiment")]
    if unknown := set(chosen) - set(known):
        sys.exit(f"there is no network or experiment {', '.join(sorted(unknown))}; choose among {', '.join(known)}")
    figures = in_turns(chosen)
    if "--json" in sys.argv:
        print(json.dumps(figures))
        return
    print("| network | features | parameters | multiply-adds | windows/s, training | evaluation |")
    print("|---|---|---|---|---|---|")
    for name, row in sorted(figures.items(), key=lambda item: -item[1]["train_windows_per_s"]):
        shape = " x ".join(map(str, row["shape"]))
        print(
            f"| {name} | {shape} | {row['parameters']:,} | {row['multiply_adds'] / 1e6:,.0f} M | "
            f"{row['train_windows_per_s']:.1f} | {row['evaluate_windows_per_s']:.1f} |"
        )


if __name__ == "__main__":
    main()
