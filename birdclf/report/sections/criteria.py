"""Which criteria of success the best configuration meets."""

from collections.abc import Sequence

from birdclf.errors import UserError
from birdclf.metrics.criteria import Criteria, Criterion
from birdclf.metrics.figures import Evaluation
from birdclf.report.configurations import Configuration
from birdclf.report.document import Cell, Section, Table, counted
from birdclf.report.estimates import Estimate, estimate, spread
from birdclf.report.paired_tests import Comparison


def criteria_section(
    configuration: Configuration, comparisons: Sequence[Comparison], settings: Evaluation
) -> tuple[Section, dict[str, list[str]]]:
    """Return the section, and the names of the goals by verdict for the summary."""
    title, verdicts = "Criteria of success", dict[str, list[str]]()
    try:
        criteria = Criteria.of(configuration.first.config.get("criteria"))
    except UserError as error:
        return Section("criteria", title, (f"They cannot be judged: {error}",)), verdicts
    rows: list[tuple[Cell, ...]] = []
    for kind, entries in (("goal", criteria.goals), ("stretch", criteria.stretch)):
        for criterion in entries:
            found = _measured(criterion, configuration, comparisons, settings)
            if isinstance(found, str):
                verdict, measured, why = "undecided", "", found
            else:
                verdict = criterion.judge(found.low, found.high)
                measured = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
                why = _basis(criterion, found)
            if kind == "goal":
                verdicts.setdefault(verdict, []).append(criterion.name)
            rows.append((kind, criterion.name, measured, verdict, why))
    if not rows:
        text = f"The configuration {configuration.label} states none; add them under criteria: in its experiment."
        return Section("criteria", title, (text,)), verdicts
    text = (
        f"Of {configuration.label}. A criterion is met when the whole {settings.coverage} interval satisfies it, not "
        "met when none of it does, and undecided in between."
    )
    table = Table("Criteria", ("kind", "criterion", "measured", "verdict", "basis"), tuple(rows))
    return Section("criteria", title, (text, table)), verdicts


def _measured(
    criterion: Criterion, configuration: Configuration, comparisons: Sequence[Comparison], settings: Evaluation
) -> Estimate | str:
    """Return the figure that a criterion is about, or why there is none."""
    if criterion.condition == "beats":
        return _difference(criterion, configuration, comparisons)
    metric = criterion.metric if "/" in criterion.metric else f"test/{criterion.metric}"
    try:
        found = estimate(configuration, metric, settings)
    except KeyError:
        found = None
    if found is None:
        return f"No run has {metric}, or no species of it has a recording to test."
    if criterion.condition == "above":
        return found
    return spread(configuration, metric, settings) or "One seed shows no spread; run several with seed=1,2,3."


def _difference(
    criterion: Criterion, configuration: Configuration, comparisons: Sequence[Comparison]
) -> Estimate | str:
    metric = criterion.metric.removeprefix("test/")
    if metric not in configuration.headlines:
        return f"Runs are compared by {' and '.join(configuration.headlines)} on test data, not by {criterion.metric}."
    if configuration.first.name == criterion.rival:
        return f"{criterion.rival} is this configuration itself."
    rival = next((c for c in comparisons if criterion.rival in (c.rival.first.name, c.rival.label)), None)
    if rival is None:
        return f"No run of {criterion.rival} is in this report."
    if rival.refused:
        return rival.refused
    difference = rival.difference(metric)
    return Estimate(difference.value, difference.low, difference.high, float("nan"), len(rival.pairs))


def _basis(criterion: Criterion, found: Estimate) -> str:
    if criterion.condition == "spread_below":
        return f"standard deviation over {counted(found.seeds, 'seed')}"
    if criterion.condition == "beats":
        return f"difference, {counted(found.seeds, 'pair')} of runs on the same recordings"
    return f"interval {found.basis}"
