"""Printed lines of the benchmark: a figure each, with its target."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from listening import HOURS as LONG_HOURS
from preparing import HOURS, MANY

Figures = Mapping[str, Any]
LEAST_OVER_LIBROSA = {"mp3": 4.0, "ogg": 2.7}


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure, how it came about, and the target it is held to (``None``: for information).

    A value of ``None`` was not measured.
    """

    name: str
    value: float | None
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
    def figure(self) -> str:
        """Value with its unit."""
        return "not measured" if self.value is None else f"{self.value:.2f}{self.unit}"

    @property
    def verdict(self) -> str:
        """Whether the target is met, empty without one."""
        if not self.target or self.value is None:
            return ""
        met = (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )
        return "[green]met[/]" if met else "[red]not met[/]"


def of_training(found: Figures) -> list[Row]:
    """Return the row of phase2b beside the plain loop, with the target of this kind of processor."""
    name = f"phase2b in {found['precision']}"
    return [_beside_the_loop(name, found, at_least=found["at_least"], rival=f"{found['rival']}, float32")]


def of_the_share(found: Figures) -> list[Row]:
    """Return a row a data type's ceiling, one a network's share of it, and one of both shares."""
    rows = []
    for dtype, rates in found["rates"].items():
        fastest = max(rates, key=lambda name: rates[name])
        rows.append(Row(f"best {dtype} rate of this processor", rates[fastest] / 1e9, " GFLOP/s", fastest))
    for name, shares in found["shares"].items():
        how = (
            f"{found['step_gflop'][name]:.0f} GFLOP a step in {found['precision']}, no padding; of "
            f"{found['ceiling_gflop_per_s']:.0f} GFLOP/s; rounds {100 * min(shares):.0f} to {100 * max(shares):.0f} %"
        )
        rows.append(
            Row(f"training {name}, share of the {found['dtype']} ceiling", 100 * found["share"][name], " %", how)
        )
    ratio = found["share"]["best"] / found["share"]["phase2b"]
    return [*rows, Row("share of best over that of phase2b", ratio, "", "AudioCNNv3 over AudioCNNv2", at_least=1)]


def of_a_gpu(found: Figures) -> list[Row]:
    """Return a row a network on a GPU, without values where there is none."""
    if not found:
        names = ("phase2b on a GPU over a plain loop, windows/s", "best on a GPU, training")
        return [Row(name, None, "", "no GPU here") for name in names]
    return [
        _beside_the_loop(f"phase2b on a GPU in {found['precision']}", found, None, f"{found['rival']}, float32"),
        Row("best on a GPU, training", found["windows_per_s"]["best"], " windows/s", found["precision"]),
    ]


def of_predicting(found: Figures) -> list[Row]:
    """Return the row of evaluation against the plain loop."""
    return [_beside_the_loop("predicting", found, at_least=3)]


def of_exporting(found: Figures) -> list[Row]:
    """Return the row of ONNX Runtime against PyTorch."""
    how = (
        f"{_against(found, 'onnxruntime', 'torch', 1)}, phase2b, {found['threads']} thread, batches of "
        f"{found['batch']}; {_rounds(found['ratios'])}"
    )
    return [Row("ONNX Runtime over torch, sound to probabilities, windows/s", found["ratio"], "", how)]


def of_the_sweep(found: Figures) -> list[Row]:
    """Return the row of a sweep's overhead."""
    how = f"{found['seconds']:.0f} against {found['training_s']:.0f} s, the command's start included"
    return [Row("sweep of 8 small jobs, time over their training", found["ratio"], "", how, at_most=1.15)]


def of_jobs(found: Figures) -> list[Row]:
    """Return the rows of a job's fixed cost, and one a stage of it."""
    rows = []
    for side, at_most in (("defaults", 2.0), ("no figures", 1.0)):
        how = f"{found[side]['cpu_s']:.2f} s of CPU time; one process, 1,662 test clips, 89 classes"
        rows.append(Row(f"fixed cost of a job, {side}", found[side]["wall_s"], " s", how, at_most=at_most))
    stages = sorted(found["defaults"]["stages"].items(), key=lambda stage: -stage[1])
    return [*rows, *(Row(f"... {name}", seconds, " s", "CPU time, defaults") for name, seconds in stages[:6])]


def of_growth(found: Figures) -> list[Row]:
    """Return the row of memory by the size of a catalogue."""
    small, large = (found["peak_mb"][windows] for windows in ("10000", "1000000"))
    how = f"peaks {small:.0f} and {large:.0f} MB, no file's pages"
    return [Row("memory from 10,000 to 1,000,000 windows", found["growth_mb"], " MB", how, at_most=200)]


def of_bare_steps(found: Figures) -> list[Row]:
    """Return the rows of a step's overhead."""
    step, fetch, features, bare = (1000 * found[name] for name in ("lightning_s", "fetch_s", "features_s", "bare_s"))
    how = f"{step:.0f} against {bare:.0f} ms; error {100 * found['error']:.1f} %"
    return [
        Row("loader's share of a step", 100 * fetch / step, " %", f"{fetch:.1f} of {step:.0f} ms", at_most=2),
        Row("deltas' and normalisation's share", 100 * features / step, " %", f"{features:.1f} of {step:.0f} ms"),
        Row("Lightning's step longer than a bare one by", 100 * (found["ratio"] - 1), " %", how, at_most=3),
    ]


def of_augmenting(found: Figures) -> list[Row]:
    """Return a row an augmentation, and one of the usual chain."""
    step = 1000 * found["step_s"]
    return [
        Row(f"augmentation's share of a step: {name}", 100 * share, " %",
            f"{1000 * found['added_s'][name]:.1f} of {step:.0f} ms", at_most=5)
        for name, share in found["share"].items()
    ]  # fmt: skip


def of_starting(found: Figures) -> list[Row]:
    """Return a row a command."""
    return [Row(f"birdclf {words}", seconds, " s", "median of 3", at_most=1.5) for words, seconds in found.items()]


def of_preparing(found: Figures) -> list[Row]:
    """Return two rows a kind of file: against a librosa loop, and against decoding alone."""
    rows = []
    for kind, figures in found.items():
        rates = figures["recordings_per_s"]
        rows += [
            Row(f"prepare, 30 s {kind.upper()}, over a librosa loop", figures["over_librosa"], "",
                f"{rates['birdclf']:.0f} against {rates['librosa']:.0f} recordings/s; features differ by at most "
                f"{figures['difference']:.1e} of their range", at_least=LEAST_OVER_LIBROSA[kind]),
            Row(f"prepare, 30 s {kind.upper()}, time over decoding alone", figures["over_decoding"], "",
                f"{rates['birdclf']:.0f} against {rates['decode']:.0f} recordings/s", at_most=1.35),
        ]  # fmt: skip
    return rows


def of_peak_memory(found: Figures) -> list[Row]:
    """Return the rows of memory of ``birdclf prepare``."""
    return [
        Row(f"peak memory of prepare, {what}", found[name], " GB", "all processes", at_most=1.5)
        for name, what in (("many", f"{MANY:,} recordings"), ("long", f"one of {HOURS} hours"))
    ]


def of_networks(found: Figures) -> list[Row]:
    """Return a row a network."""
    return [
        Row(f"{name}, training", figures["train_windows_per_s"], " windows/s",
            f"evaluation {figures['evaluate_windows_per_s']:.0f}; {figures['parameters']:,} parameters, "
            f"{figures['multiply_adds'] / 1e6:,.0f} M multiply-adds a window")
        for name, figures in found.items()
    ]  # fmt: skip


def of_listening(found: Figures) -> list[Row]:
    """Return the rows of ``birdclf predict``."""
    how = f"{median(found['seconds']):.1f} s, start-up apart, pictures included"
    memory = f"birdclf predict, peak memory of {LONG_HOURS} hours"
    return [
        Row("birdclf predict, an hour of FLAC, over real time", found["times_real_time"], "", how, at_least=200),
        Row(memory, found["peak_gb"], " GB", "all processes", at_most=1.2),
        Row("birdclf predict, first result of a minute", found["first_s"], " s", "from the command's start", at_most=4),
    ]


def of_embedding(found: Figures) -> list[Row]:
    """Return the rows of embedding sound files by BirdNET."""
    if not found:
        return [Row("embedding by BirdNET", None, "", "needs the extra birdnet")]
    rates = found["windows_per_s"]
    return [
        Row(f"embedding by BirdNET over {rival}", found[name], "",
            f"{rates['birdclf']:.0f} against {rates[side]:.0f} windows of 3 s a second, all cores", at_least=least)
        for rival, name, side, least in (("a plain loop", "over_plain", "plain", 1.0),
                                         ("birdnetlib", "over_birdnetlib", "birdnetlib", 1.2))
    ]  # fmt: skip


def of_probing(found: Figures) -> list[Row]:
    """Return the row of training a probe."""
    how = "linear probe on bags of 4 vectors of 1,024, batches of 512 recordings"
    return [Row("training a probe", found["windows_per_s"] / 1000, " thousand windows/s", how, at_least=100)]


def of_listening_by_a_probe(found: Figures) -> list[Row]:
    """Return the row of ``birdclf predict`` by BirdNET and a probe."""
    if not found:
        return [Row("birdclf predict by BirdNET and a probe", None, "", "needs the extra birdnet")]
    how = f"{median(found['seconds']):.1f} s, start-up apart, pictures included"
    name = "birdclf predict by BirdNET and a probe, an hour of FLAC, over real time"
    return [Row(name, found["times_real_time"], "", how, at_least=60)]


def of_a_million(found: Figures) -> list[Row]:
    """Return the rows of a catalogue of a million recordings."""
    return [
        Row("a million recordings loaded, split, grouped", found["seconds"], " s", "made up, no audio", at_most=60),
        Row("peak memory of that", found["peak_gb"], " GB", "one process", at_most=4),
    ]


def _beside_the_loop(name: str, found: Figures, at_least: float | None, rival: str = "") -> Row:
    how = f"{_against(found, 'birdclf', found['rival'])} ({rival or found['rival']}); {_rounds(found['ratios'])}"
    return Row(f"{name} over a plain loop, windows/s", found["ratio"], "", how, at_least=at_least)


def _against(found: Figures, one: str, other: str, digits: int = 0) -> str:
    rates = found["windows_per_s"]
    return f"{rates[one]:.{digits}f} against {rates[other]:.{digits}f}"


def _rounds(ratios: list[float]) -> str:
    return f"rounds {min(ratios):.2f} to {max(ratios):.2f}"
