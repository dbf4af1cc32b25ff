"""The executive summary: sentences that say what the figures and tests show, and no more."""

from collections.abc import Mapping, Sequence

from birdclf.metrics.figures import Evaluation
from birdclf.report.configurations import Configuration
from birdclf.report.document import Bullets, Section, counted, listed
from birdclf.report.estimates import estimate
from birdclf.report.paired_tests import METRICS, Comparison
from birdclf.report.sections.comparison import NAMES, by_how_much
from birdclf.runs.run import LeftOut


def summary_section(
    reference: Configuration,
    ranked: Sequence[Configuration],
    monitor: str,
    comparisons: Sequence[Comparison],
    verdicts: Mapping[str, Sequence[str]],
    left_out: Sequence[LeftOut],
    settings: Evaluation,
) -> Section:
    """Return the summary."""
    sentences = [_who(reference, ranked, monitor), *_figures(reference, settings)]
    for metric in METRICS:
        sentences += _against(reference, comparisons, metric)
    sentences += _goals(verdicts)
    refused = [comparison.rival.label for comparison in comparisons if comparison.refused]
    if refused:
        sentences.append(
            f"Not compared, because it was not measured on the same recordings and species: {listed(refused)}."
        )
    sentences += _seeds(ranked)
    if left_out:
        sentences.append(
            f"{counted(len(left_out), 'folder')} {'is' if len(left_out) == 1 else 'are'} left out; the last section "
            "says why."
        )
    return Section("summary", "Summary", (Bullets(tuple(sentences)),))


def _who(reference: Configuration, ranked: Sequence[Configuration], monitor: str) -> str:
    runs = sum(len(configuration.runs) for configuration in ranked)
    if len(ranked) == 1:
        return (
            f"One configuration, {reference.label}, with {counted(runs, 'run')}: there is nothing to compare it with."
        )
    begins = f"{counted(runs, 'run')} of {counted(len(ranked), 'configuration')}"
    best = ranked[0]
    if reference is best:
        return f"{begins}. {best.label} has the best {monitor} on validation data; test data did not choose it."
    return f"{begins}. The reference {reference.label} was named; {best.label} has the best {monitor}."


def _figures(reference: Configuration, settings: Evaluation) -> list[str]:
    text = []
    for metric in METRICS:
        found = estimate(reference, f"test/{metric}", settings)
        assert found, "every run has its accuracy and macro F1"
        text.append(
            f"{NAMES[metric]} {found.value:.3f} ({settings.coverage} interval {found.low:.3f} to {found.high:.3f}, "
            f"{found.basis})"
        )
    return [f"On test data {reference.label} has {text[0]} and {text[1]}."]


def _against(reference: Configuration, comparisons: Sequence[Comparison], metric: str) -> list[str]:
    """Return what the tests show of one metric: who is beaten, who is better, what stays open."""
    tested = [comparison for comparison in comparisons if not comparison.refused]
    if not tested:
        return []
    groups = {verdict: [c for c in tested if c.decided(metric) == verdict] for verdict in (1, -1, 0)}
    name, out = NAMES[metric].capitalize() if metric == "accuracy" else "Macro F1", []
    for verdict, verb in ((1, "beats"), (-1, "is beaten by")):
        if groups[verdict]:
            found = sorted(groups[verdict], key=lambda c: abs(c.difference(metric).value), reverse=True)
            each = [f"{c.rival.label} ({by_how_much(c, metric)})" for c in found]
            out.append(f"{name}: {reference.label} {verb} {listed(each, most=3)}.")
    if groups[0]:
        names = [comparison.rival.label for comparison in groups[0]]
        if len(names) == 1:
            out.append(f"{name}: undecided against {names[0]} ({by_how_much(groups[0][0], metric)}).")
        else:
            out.append(f"{name}: undecided against {listed(names)}; the data cannot tell them from {reference.label}.")
    return out


def _goals(verdicts: Mapping[str, Sequence[str]]) -> list[str]:
    parts = [
        f"{verdict}: {listed(verdicts[verdict])}"
        for verdict in ("met", "not met", "undecided")
        if verdicts.get(verdict)
    ]
    return [f"Goals {'; '.join(parts)}."] if parts else []


def _seeds(ranked: Sequence[Configuration]) -> list[str]:
    single = [configuration for configuration in ranked if len(configuration.runs) == 1]
    if not single:
        return []
    which = (
        "Every configuration was"
        if len(single) == len(ranked)
        else f"{counted(len(single), 'configuration')} of {len(ranked)} {'was' if len(single) == 1 else 'were'}"
    )
    if len(ranked) == 1:
        which = "It was"
    return [
        f"{which} run with one seed: intervals and tests then cover the choice of test recordings, not the luck of a "
        "seed. Run several with seed=1,2,3."
    ]
