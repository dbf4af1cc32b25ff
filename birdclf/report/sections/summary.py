"""The executive summary: sentences that say what the figures and tests show, and no more."""

from collections.abc import Mapping, Sequence

from birdclf.metrics.figures import Evaluation
from birdclf.report.configurations import Configuration
from birdclf.report.document import Bullets, Section, capitalised, counted, listed
from birdclf.report.estimates import estimate
from birdclf.report.paired_tests import Comparison, Verdict
from birdclf.report.sections.comparison import by_how_much
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
    for metric in reference.headlines:
        sentences += _against(reference, comparisons, metric)
    sentences += _goals(verdicts)
    others = [comparison.rival for comparison in comparisons if comparison.rival.task != reference.task]
    refused = [c.rival.label for c in comparisons if c.refused and c.rival not in others]
    if others:
        sentences.append(
            f"Not compared, because {'it is' if len(others) == 1 else 'they are'} of task={others[0].task} and judged "
            f"by other figures: {listed([one.label for one in others])}."
        )
    if refused:
        sentences.append(
            f"Not compared, because it was not measured on the same recordings and species: {listed(refused)}."
        )
    sentences += _seeds(ranked)
    sentences += _mixed(ranked)
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
    for metric, name in reference.headlines.items():
        found = estimate(reference, f"test/{metric}", settings)
        assert found, "every run has the figures that it is compared by"
        text.append(
            f"{name} {found.value:.3f} ({settings.coverage} interval {found.low:.3f} to {found.high:.3f}, "
            f"{found.basis})"
        )
    return [f"On test data {reference.label} has {text[0]} and {text[1]}."]


def _against(reference: Configuration, comparisons: Sequence[Comparison], metric: str) -> list[str]:
    """Return what the tests show of one metric: who is beaten, who is better, what stays open."""
    tested = [comparison for comparison in comparisons if not comparison.refused]
    if not tested:
        return []
    groups: dict[Verdict, list[Comparison]] = {}
    for comparison in tested:
        groups.setdefault(comparison.verdict(metric), []).append(comparison)
    name, out = capitalised(reference.headlines[metric]), list[str]()
    decided: dict[Verdict, str] = {"better": "beats", "worse": "is beaten by"}
    for verdict, verb in decided.items():
        if verdict in groups:
            found = sorted(groups[verdict], key=lambda c: abs(c.difference(metric).value), reverse=True)
            each = [f"{c.rival.label} ({by_how_much(c, metric)})" for c in found]
            out.append(f"{name}: {reference.label} {verb} {listed(each, most=3)}.")
    if equal := groups.get("no relevant difference"):
        out.append(
            f"{name}: no relevant difference, one of more than {100 * equal[0].margin:g} points, to "
            f"{listed([c.rival.label for c in equal])}."
        )
    if undecided := groups.get("undecided"):
        seen = f"; these runs would have shown {100 * max(c.detectable(metric) for c in undecided):.1f} points"
        if len(undecided) == 1:
            one = undecided[0]
            out.append(f"{name}: undecided against {one.rival.label} ({by_how_much(one, metric)}){seen}.")
        else:
            names = listed([c.rival.label for c in undecided])
            out.append(f"{name}: undecided against {names}{seen} or less.")
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


def _mixed(ranked: Sequence[Configuration]) -> list[str]:
    """Return sentences on versions and precisions that differ where the settings do not."""
    runs = [run for configuration in ranked for run in configuration.runs.values()]
    versions = [run.provenance.get("versions", {}) for run in runs]
    names = sorted({name for each in versions for name in each})
    out = []
    changed = [name for name in names if len({each.get(name) for each in versions if name in each}) > 1]
    if changed:
        known = [f"{name} {listed(sorted({str(v[name]) for v in versions if name in v}))}" for name in changed]
        out.append(f"Runs of several versions are compared, which may be a reason of differences: {'; '.join(known)}.")
    for configuration in ranked:
        precisions = {str(p) for run in configuration.runs.values() if (p := run.provenance.get("precision"))}
        if len(precisions) > 1:
            out.append(f"The seeds of {configuration.label} were trained in {listed(sorted(precisions))}.")
    return out
