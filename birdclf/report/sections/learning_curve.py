"""The learning curve: figures against train recordings, and what twice as many would bring."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from birdclf.config import config_hash
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.learning_curve import LEAST_POINTS, PowerLaw, fit_power_law, gain_of_doubling
from birdclf.metrics.over_seeds import Influence, OverSeeds
from birdclf.pages import INK
from birdclf.report.configurations import Configuration
from birdclf.report.document import FIRST, SECOND, Block, Cell, Figure, Section, Table, canvas, number, svg_figure
from birdclf.report.estimates import Estimate, estimate
from birdclf.report.sections.comparison import BUCKETS, interval_cell
from birdclf.runs.run import Run

SETTINGS: Final = ("train_fraction", "train_per_species")
LOOKS: Final = ((FIRST, "o", "-"), (SECOND, "s", "--"), (INK, "^", "-."))


@dataclass(frozen=True)
class Doubling:
    """What twice the recordings would bring to a figure.

    Attributes:
        gain: The mean over seeds, with its interval.
        laws: The fit of each seed.
        misfit: Largest difference of a run's figure and its fit.
    """

    gain: Estimate
    laws: Sequence[PowerLaw]
    misfit: float


def learning_curve_section(found: Sequence[Configuration], settings: Evaluation) -> Section | None:
    """Return the section; None where no two configurations differ by their train recordings alone."""
    curves = _curves(found)
    if not curves:
        return None
    text = (
        "Configurations that differ by the number of train recordings alone; validation and test are the same. Many, "
        f"medium and few are species with more than {settings.many}, {settings.few} to {settings.many}, and fewer than "
        f"{settings.few} train recordings before any were left out: all points of a curve have the same species, while "
        f"other sections count what each run was trained on. Intervals are {settings.coverage}."
    )
    blocks: list[Block] = [text]
    for i, curve in enumerate(curves):
        blocks += _shown(curve, settings, f" of {_name(curve)}" if len(curves) > 1 else "", i)
    return Section("learning-curve", "Learning curve", tuple(blocks))


def _curves(found: Sequence[Configuration]) -> list[list[Configuration]]:
    """Return configurations that differ in one of :data:`SETTINGS` alone, from few recordings to many."""
    curves = []
    for name in SETTINGS:
        groups: dict[str, list[Configuration]] = {}
        for configuration in (each for each in found if each.first.trained):
            config = configuration.first.config
            split = {key: value for key, value in (config.get("split") or {}).items() if key not in (name, "seed")}
            alike = config_hash({**config, "seed": None, "split": split})
            groups.setdefault(alike, []).append(configuration)
        curves += [sorted(group, key=_recordings) for group in groups.values() if len(group) > 1]
    return curves


def _recordings(configuration: Configuration) -> float:
    return float(np.mean([run.train_counts.sum() for run in configuration.runs.values()]))


def _name(curve: Sequence[Configuration]) -> str:
    words = curve[-1].label.split(" ")
    kept = [word for word in words if not word.startswith(tuple(f"split.{name}=" for name in SETTINGS))]
    return " ".join(kept) or curve[-1].first.name


def _shown(curve: Sequence[Configuration], settings: Evaluation, of: str, number_of_curve: int) -> Iterator[Block]:
    points = [_by_whole_split(configuration, settings) for configuration in curve]
    scores, (tail, tail_name) = curve[0].headlines, list(curve[0].tail.items())[-1]
    buckets = {f"{bucket}_{tail}": f"{tail_name} {bucket}" for bucket in BUCKETS}
    names = scores | buckets
    estimates = {name: [estimate(point, f"test/{name}", settings) for point in points] for name in names}
    n = [_recordings(configuration) for configuration in curve]
    doublings = {name: doubling for name in names if (doubling := _doubling(curve, name, settings))}
    yield _figure(n, (scores, buckets), estimates, doublings, of, number_of_curve)
    yield _sentence(scores, doublings)
    rows: list[tuple[Cell, ...]] = []
    for i, configuration in enumerate(curve):
        known = [found.interval_cell() if (found := estimates[name][i]) else "" for name in names]
        runs = number(len(configuration.runs), "{:.0f}")
        rows.append((configuration.label, number(n[i], "{:,.0f}"), runs, *known))
    head = ("configuration", "train recordings", "seeds", *names.values())
    yield Table(f"Test figures by train recordings{of}", head, tuple(rows))
    if doublings:
        gains = tuple(
            (names[name], interval_cell(d.gain.value, d.gain.low, d.gain.high), number(100 * d.misfit, "{:.1f}"))
            for name, d in doublings.items()
        )
        head = ("figure", "gain, points", "largest misfit of a fit, points")
        yield Table(f"Forecast gain of twice the recordings{of}", head, gains)


def _by_whole_split(configuration: Configuration, settings: Evaluation) -> Configuration:
    """Return a configuration whose buckets are those of the train split before recordings were left out."""
    return replace(configuration, runs={seeds: _rejudged(run, settings) for seeds, run in configuration.runs.items()})


def _rejudged(run: Run, settings: Evaluation) -> Run:
    if run.whole_train_counts is run.train_counts:
        return run
    judged = copy(run)  # with what it has read
    judged.train_counts = run.whole_train_counts
    judged.metrics = run.metrics | {"test": run.test.figures(run.whole_train_counts, settings)}
    return judged


def _doubling(curve: Sequence[Configuration], metric: str, settings: Evaluation) -> Doubling | None:
    """Return what twice the recordings would bring; None under three numbers of recordings of one seed, or no spread.

    One seed's interval is that of the choice of its test recordings.
    """
    gains, moved, laws, misfit = [], [], [], 0.0
    for seeds in sorted({seeds for configuration in curve for seeds in configuration.runs}):
        runs = [configuration.runs[seeds] for configuration in curve if seeds in configuration.runs]
        n = np.array([run.train_counts.sum() for run in runs], dtype=np.float64)
        if len(set(n)) < LEAST_POINTS or len({frozenset(run.test.recording_id) for run in runs}) > 1:
            continue
        figures = [run.test.measured(metric, run.whole_train_counts, settings) for run in runs]
        known = [found for found in figures if found]
        if len(known) < len(runs):
            continue
        score, clips = np.array([value for value, _ in known]), len(runs[0].test.target)
        gain, gradient = gain_of_doubling(n, score, clips)
        loss = np.stack([influence.loss for _, influence in known], axis=1) @ gradient
        if not loss.any():  # all wrong, or all right: the test recordings show no spread
            continue
        law = fit_power_law(n, score, clips)
        gains.append(gain)
        moved.append(Influence(known[0][1].cluster, loss))
        laws.append(law)
        misfit = max(misfit, float(np.abs(law.score(n) - score).max()))
    if not gains:
        return None
    over = OverSeeds.of(gains, moved)
    sd = float(np.std(gains, ddof=1)) if len(gains) > 1 else float("nan")
    return Doubling(Estimate(over.value, *over.interval(settings.confidence), sd, len(gains)), laws, misfit)


def _sentence(scores: dict[str, str], doublings: dict[str, Doubling]) -> str:
    found = {name: doublings[name].gain for name in scores if name in doublings}
    if not found:
        return (
            f"What twice the recordings would bring takes a fit through {LEAST_POINTS} numbers of train recordings or "
            "more of one seed, of which none has all answers right or all wrong. Add values, such as "
            "split.train_fraction=0.25,0.5,1."
        )
    gains = [f"{interval_cell(g.value, g.low, g.high).text} points of {scores[name]}" for name, g in found.items()]
    seeds = max(gain.seeds for gain in found.values())
    over = f"the spread of {seeds} seeds as well as" if seeds > 1 else "one seed:"
    return (
        f"Twice the recordings, more of the same kind, would bring {' and '.join(gains)}, if the error falls on as it "
        "does along the curve: as a power of their number (Hestness et al., 2017), fitted to each seed. The intervals "
        f"count {over} the sampling of test recordings, not whether the law holds: see its misfit below."
    )


def _figure(
    n: Sequence[float],
    drawings: tuple[dict[str, str], dict[str, str]],
    estimates: dict[str, list[Estimate | None]],
    doublings: dict[str, Doubling],
    of: str,
    number_of_curve: int,
) -> Figure:
    """Return two drawings: the two figures with their fits up to twice the recordings, and one by bucket."""
    words = []
    top = max(found.high for one in estimates.values() for found in one if found)  # of both drawings, which share it
    with canvas(10, 3.6) as picture:
        for axes, names in zip(picture.subplots(1, 2, sharey=True), drawings, strict=True):
            for i, ((name, title), (colour, marker, line)) in enumerate(zip(names.items(), LOOKS, strict=False)):
                known = [(x, e) for x, e in zip(n, estimates[name], strict=True) if e]
                if not known:
                    continue
                x = np.array([x for x, _ in known])
                value, low, high = (np.array([getattr(e, part) for _, e in known]) for part in ("value", "low", "high"))
                axes.errorbar(
                    x * 1.02**i, value, np.stack([value - low, high - value]).clip(0), label=title, color=colour,
                    marker=marker, markersize=5, linestyle=line, linewidth=1.5, elinewidth=1, capsize=2,
                )  # fmt: skip
                words.append(f"{title} {value[0]:.2f} to {value[-1]:.2f}")
                if name in doublings and names is drawings[0]:
                    grid = np.geomspace(x[0], 2 * x[-1], 50)
                    fitted = np.mean([law.score(grid) for law in doublings[name].laws], axis=0)
                    axes.plot(grid, fitted, color=colour, linewidth=0.8, linestyle=":")
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:,.10g}")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_ylim(0, 1.05 * top)
            axes.set_xlabel("train recordings")
            axes.grid(alpha=0.2, color=INK)
            axes.legend(frameon=False, fontsize=9, loc="upper left")
        fits = " Dotted: the fits, up to twice the recordings." if doublings else ""
        caption = (
            f"From {n[0]:,.0f} to {n[-1]:,.0f} train recordings (logarithmic axis): {', '.join(words)}.{fits} Bars are "
            "the intervals of the table below."
        )
        return svg_figure(f"Learning curve{of}", caption, picture, unique=f"learning curve {number_of_curve}")
