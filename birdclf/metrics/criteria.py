"""Criteria of success, the key ``criteria`` of a configuration, and the verdict on a measured figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from birdclf.checks import is_number
from birdclf.errors import UserError

CONDITIONS: Final = ("above", "spread_below", "beats")


@dataclass(frozen=True)
class Criterion:
    """One condition on one metric.

    Attributes:
        metric: Such as ``test/accuracy`` or ``test/few_f1``; without a split it is one of test data.
        condition: ``above`` a bound, ``spread_below`` (standard deviation over seeds below a bound), or ``beats``
            (better than a named experiment on the same recordings).
        bound: The bound, 0 for ``beats``.
        rival: The experiment that is to be beaten, empty for the others.
        name: What a reader calls it.
    """

    metric: str
    condition: str
    bound: float
    rival: str
    name: str

    def judge(self, low: float, high: float) -> str:
        """Return ``met``, ``not met`` or ``undecided``.

        Args:
            low: Lower end of the interval of the metric, of its spread, or of its difference to the rival.
            high: Upper end; an end that is NaN decides nothing.
        """
        if math.isnan(low) or math.isnan(high):
            return "undecided"
        if self.condition == "spread_below":
            return "met" if high < self.bound else "not met" if low > self.bound else "undecided"
        return "met" if low > self.bound else "not met" if high < self.bound else "undecided"


class Criteria:
    """Goals and stretch goals.

    Args:
        goals: Mappings of ``metric``, exactly one of ``above`` (a number), ``spread_below`` (a number) and ``beats``
            (an experiment's name), and perhaps a ``name``.
        stretch: The same, for what would be more than success.

    Raises:
        UserError: If an entry is of another shape; the message names it, such as ``criteria.goals[1]``.
    """

    def __init__(self, goals: Sequence[Mapping[str, Any]] = (), stretch: Sequence[Mapping[str, Any]] = ()) -> None:
        self.goals = _read("criteria.goals", goals)
        self.stretch = _read("criteria.stretch", stretch)

    @classmethod
    def of(cls, node: Any) -> "Criteria":
        """Return the criteria of a configuration's key ``criteria``, none where it is null.

        Raises:
            UserError: If the key holds something else.
        """
        if node is None:
            return cls()
        if not isinstance(node, Mapping) or set(node) - {"goals", "stretch", "_target_"}:
            raise UserError(f"criteria is {node!r}; it holds the lists goals and stretch, and nothing else.")
        return cls(node.get("goals") or (), node.get("stretch") or ())


def _read(place: str, entries: Any) -> tuple[Criterion, ...]:
    if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence):
        raise UserError(
            f"{place} is {entries!r}; it is a list of entries such as {{metric: test/accuracy, above: 0.4}}."
        )
    return tuple(_criterion(f"{place}[{i}]", entry) for i, entry in enumerate(entries))


def _criterion(place: str, entry: Any) -> Criterion:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("metric"), str):
        raise UserError(f"{place} is {entry!r}; it needs a metric, such as {{metric: test/accuracy, above: 0.4}}.")
    unknown = sorted(set(entry) - {"metric", "name", *CONDITIONS})
    if unknown:
        raise UserError(
            f"{place}.{unknown[0]} is unknown; an entry has metric, name and one of {', '.join(CONDITIONS)}."
        )
    chosen = [condition for condition in CONDITIONS if condition in entry]
    if len(chosen) != 1:
        raise UserError(f"{place} has {' and '.join(chosen) or 'no condition'}; give one of {', '.join(CONDITIONS)}.")
    condition, value, metric = chosen[0], entry[chosen[0]], entry["metric"]
    if condition == "beats":
        if not isinstance(value, str) or not value:
            raise UserError(f"{place}.beats is {value!r}; it must be the name of an experiment, such as phase2a.")
        return Criterion(metric, condition, 0.0, value, str(entry.get("name") or f"{metric} beats {value}"))
    if not is_number(value):
        raise UserError(f"{place}.{condition} is {value!r}; it must be a number.")
    said = f"{metric} above {value}" if condition == "above" else f"{metric} varies by less than {value} over seeds"
    return Criterion(metric, condition, float(value), "", str(entry.get("name") or said))
