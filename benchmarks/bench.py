"""How fast birdclf is, as ratios measured in one run (``make bench``, about 25 minutes).

It trains phase2b on the embedded default with the feature store of ``outputs/store``, which the first run fills.
Everything measured goes to ``outputs/bench/<time>.json``. A figure that misses its target does not change the exit
status: this is no test.
"""

import json
import os
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from augmenting import augmenting
from exporting import of_an_export
from listening import HOURS as LONG_HOURS
from listening import listening
from measure import (
    ROOT,
    Figures,
    a_sweep,
    against_bare_steps,
    against_plain_loop,
    growth_of_memory,
    of_the_ceiling,
    predicting,
    seconds_to_answer,
)
from networks import of_each_network
from preparing import HOURS, MANY, a_million, against_librosa, peak_memory
from rich.console import Console
from rich.table import Table

STAT = Path("/proc/stat")
BUSY = 0.2  # CPUs that other programs keep busy; more distorts the ratios
LEAST_OVER_LIBROSA = {"mp3": 4.0, "ogg": 2.7}
SETTINGS = ("train", "experiment=phase2b", "--cfg", "job")


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure, how it came about, and the target it is held to (``None``: for information)."""

    name: str
    value: float
    unit: str
    how: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """Target in words, empty without one."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}{self.unit}"
        return "" if self.at_most is None else f"at most {self.at_most:g}{self.unit}"

    @property
    def verdict(self) -> str:
        """Whether the target is met, empty without one."""
        if not self.target:
            return ""
        met = self.value >= self.at_least if self.at_least is not None else self.value <= self.at_most
        return "[green]met[/]" if met else "[red]not met[/]"


def measure(folder: Path, console: Console) -> tuple[dict[str, Figures | float], list[Row]]:
    with console.status("starting commands"):
        help_s = seconds_to_answer(folder, "train", "--help")
        settings_s = seconds_to_answer(folder, *SETTINGS)
    with console.status("training phase2b and the plain loop in turns"):
        plain = against_plain_loop(folder)
    with console.status("training phase2b and matrix products in turns"):
        ceiling = of_the_ceiling(folder)
    with console.status("predicting and the plain loop in turns"):
        inference = predicting(folder)
    with console.status("a sweep of 8 small jobs"):
        sweep = a_sweep(folder)
    with console.status("memory over a large catalogue"):
        growth = growth_of_memory(folder)
    with console.status("steps of Lightning and bare steps in turns"):
        bare = against_bare_steps(folder)
    with console.status("steps of phase2b and augmentations in turns"):
        augmented = augmenting(folder)
    with console.status("networks in turns"):
        networks = of_each_network()
    with console.status("predicting an hour, 6 hours and a minute"):
        heard = listening(folder)
    with console.status("an exported run and its checkpoint in turns"):
        exported = of_an_export()
    with console.status("preparing sound files, decoding them and the librosa loop in turns"):
        preparing = against_librosa(folder)
    with console.status("peak memory of birdclf prepare"):
        memory = peak_memory(folder)
    with console.status("a catalogue of a million recordings"):
        million_s, million_gb = a_million(folder)
    spread = f"{min(plain['ratios']):.2f} to {max(plain['ratios']):.2f}"
    ours, theirs = (plain["windows_per_s"][name] for name in ("birdclf", plain["rival"]))
    step_ms, fetch_ms, features_ms = (1000 * bare[name] for name in ("lightning_s", "fetch_s", "features_s"))
    rows = [
        Row(
            "phase2b over a plain loop, windows/s", plain["ratio"], "",
            f"{ours:.0f} against {theirs:.0f} ({plain['rival']}); rounds {spread}", at_least=2.2,
        ),
        Row("share of the matrix-product rate", 100 * ceiling["share"], " %",
            f"{ceiling['step_gflop']:.0f} GFLOP a step, no padding; products {ceiling['products_gflop_per_s']:.0f} "
            f"GFLOP/s; rounds {100 * min(ceiling['shares']):.0f} to {100 * max(ceiling['shares']):.0f} %", at_least=70),
        Row("predicting over a plain loop, windows/s", inference["ratio"], "",
            f"{inference['windows_per_s']['birdclf']:.0f} against {inference['windows_per_s'][inference['rival']]:.0f} "
            f"({inference['rival']}); rounds {min(inference['ratios']):.2f} to {max(inference['ratios']):.2f}",
            at_least=3),
        Row("ONNX Runtime over torch, sound to probabilities, windows/s", exported["ratio"], "",
            f"{exported['windows_per_s']['onnxruntime']:.1f} against {exported['windows_per_s']['torch']:.1f}, "
            f"phase2b, {exported['threads']} thread, batches of {exported['batch']}; rounds "
            f"{min(exported['ratios']):.2f} to {max(exported['ratios']):.2f}"),
        Row("sweep of 8 small jobs, time over their training", sweep["ratio"], "",
            f"{sweep['seconds']:.0f} against {sweep['training_s']:.0f} s, the command's start included", at_most=1.15),
        Row("memory from 10,000 to 1,000,000 windows", growth["growth_mb"], " MB",
            f"peaks {growth['peak_mb']['10000']:.0f} and {growth['peak_mb']['1000000']:.0f} MB, no file's pages",
            at_most=200),
        Row("loader's share of a step", 100 * fetch_ms / step_ms, " %",
            f"{fetch_ms:.1f} of {step_ms:.0f} ms", at_most=2),
        Row("deltas' and normalisation's share", 100 * features_ms / step_ms, " %",
            f"{features_ms:.1f} of {step_ms:.0f} ms"),
        Row("Lightning's step longer than a bare one by", 100 * (bare["ratio"] - 1), " %",
            f"{step_ms:.0f} against {1000 * bare['bare_s']:.0f} ms; error {100 * bare['error']:.1f} %", at_most=3),
        *(
            Row(f"augmentation's share of a step: {name}", 100 * share, " %",
                f"{1000 * augmented['added_s'][name]:.1f} of {1000 * augmented['step_s']:.0f} ms",
                at_most=5 if " " in name else None)
            for name, share in augmented["share"].items()
        ),
        Row("birdclf train --help", help_s, " s", "median of 3", at_most=1.5),
        Row(f"birdclf {' '.join(SETTINGS)}", settings_s, " s", "median of 3", at_most=1.5),
    ]  # fmt: skip
    for kind, figures in preparing.items():
        rates = figures["recordings_per_s"]
        rows += [
            Row(f"prepare, 30 s {kind.upper()}, over a librosa loop", figures["over_librosa"], "",
                f"{rates['birdclf']:.0f} against {rates['librosa']:.0f} recordings/s; features differ by at most "
                f"{figures['difference']:.1e} of their range", at_least=LEAST_OVER_LIBROSA[kind]),
            Row(f"prepare, 30 s {kind.upper()}, time over decoding alone", figures["over_decoding"], "",
                f"{rates['birdclf']:.0f} against {rates['decode']:.0f} recordings/s", at_most=1.35),
        ]  # fmt: skip
    rows += [
        Row(f"peak memory of prepare, {what}", memory[name], " GB", "all processes", at_most=1.5)
        for name, what in (("many", f"{MANY:,} recordings"), ("long", f"one of {HOURS} hours"))
    ]
    rows += [
        Row(f"{name}, training", figures["train_windows_per_s"], " windows/s",
            f"evaluation {figures['evaluate_windows_per_s']:.0f}; {figures['parameters']:,} parameters, "
            f"{figures['multiply_adds'] / 1e6:,.0f} M multiply-adds a window")
        for name, figures in networks.items()
    ]  # fmt: skip
    rows += [
        Row(
            "birdclf predict, an hour of FLAC, over real time",
            heard["times_real_time"],
            "",
            f"{median(heard['seconds']):.1f} s, start-up apart, pictures included",
            at_least=200,
        ),
        Row(
            f"birdclf predict, peak memory of {LONG_HOURS} hours", heard["peak_gb"], " GB", "all processes", at_most=1.2
        ),
        Row("birdclf predict, first result of a minute", heard["first_s"], " s", "from the command's start", at_most=4),
        Row("a million recordings loaded, split, grouped", million_s, " s", "made up, no audio", at_most=60),
        Row("peak memory of that", million_gb, " GB", "one process", at_most=4),
    ]
    measured: dict[str, Figures | float] = {
        "plain_loop": plain,
        "bare_steps": bare,
        "augmenting": augmented,
        "ceiling": ceiling,
        "predicting": inference,
        "networks": networks,
        "exporting": exported,
        "sweep": sweep,
        "growth": growth,
        "listening": heard,
        "help_s": help_s,
        "settings_s": settings_s,
        "preparing": preparing,
        "peak_memory_gb": memory,
        "million": {"seconds": million_s, "peak_gb": million_gb},
    }
    return measured, rows


def busy_cpus(seconds: float = 2.0) -> float:
    """Return how many CPUs are busy while this process sleeps (0 where the system does not say)."""

    def idle_s() -> float:
        user, nice, system, idle, iowait, *_ = (int(word) for word in STAT.read_text().split("\n")[0].split()[1:])
        return (idle + iowait) / os.sysconf("SC_CLK_TCK")

    if not STAT.exists():
        return 0.0
    before, began = idle_s(), time.perf_counter()
    time.sleep(seconds)
    return max(0.0, (os.cpu_count() or 1) - (idle_s() - before) / (time.perf_counter() - began))


def main() -> None:
    # Whoever ends the benchmark ends what it started: by default SIGTERM would leave programs that wait for their turn.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console(width=None if sys.stdout.isatty() else 120)
    busy = busy_cpus()
    with tempfile.TemporaryDirectory(prefix="birdclf-bench-") as folder:
        measured, rows = measure(Path(folder), console)
    machine = {"cpus": os.cpu_count(), "processor": platform.processor(), "busy_before": busy,
               **{name: version(name) for name in ("torch", "lightning", "birdclf")}}  # fmt: skip
    table = Table(title=f"{machine['cpus']} CPUs, torch {machine['torch']}, {busy:.1f} busy before")
    for heading, justify in (("", "left"), ("measured", "right"), ("how", "left"), ("target", "left"), ("", "left")):
        table.add_column(heading, justify=justify)
    for row in rows:
        table.add_row(row.name, f"{row.value:.2f}{row.unit}", row.how, row.target, row.verdict)
    if busy > BUSY:
        table.caption = "other programs are running, which distorts the ratios: repeat on a quiet machine"
    console.print(table)
    path = ROOT / "outputs" / "bench" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "rows": [asdict(row) for row in rows], "measured": measured}
    path.write_text(json.dumps(content, indent=1))
    console.print(f"measurements: {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
