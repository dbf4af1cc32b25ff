"""The space that a search looks through, in the words in which Hydra varies a setting."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from birdclf.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

LOG = "log"
"""Tag of a setting whose order of magnitude is looked for."""


def search_space(words: Iterable[str], loader: Any = None) -> tuple[dict[str, "BaseDistribution"], list[str]]:
    """Return what varies by its key, and the words that are the same in every trial.

    ``a,b`` and ``choice(a, b)`` are one of several values, ``interval(a, b)`` a real number and ``int(interval(a, b))``
    an integer between two that may be reached, ``range(a, b, step)`` one of evenly spaced numbers, and
    ``tag(log, interval(a, b))`` a number whose logarithm is evenly spread.

    Args:
        words: Overrides; of several with one key the last counts.
        loader: Hydra's loader of configurations, which ``glob(*)`` needs.

    Raises:
        UserError: If a range is empty, or a tag is unknown or does not fit.
    """
    space: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(words)):
        key = str(override.get_key_element())
        space.pop(key, None)
        fixed.pop(key, None)
        if override.is_sweep_override():
            space[key] = _distribution(key, override)
        else:
            word = override.input_line
            assert word is not None, "it was parsed from a word"
            fixed[key] = word
    return space, list(fixed.values())


def suggested(trial: "Trial", space: dict[str, "BaseDistribution"]) -> list[str]:
    """Return a trial's values as words, drawn where the trial has none yet.

    A real number keeps four digits, for it is read in folder names and tables, and no result hangs on the fifth.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    words = []
    for key, among in space.items():
        value: Any
        if isinstance(among, CategoricalDistribution):
            value = trial.suggest_categorical(key, among.choices)
        elif isinstance(among, IntDistribution):
            value = trial.suggest_int(key, among.low, among.high, step=among.step, log=among.log)
        else:
            assert isinstance(among, FloatDistribution)
            drawn = trial.suggest_float(key, among.low, among.high, step=among.step, log=among.log)
            short = float(f"{drawn:.4g}")
            value = short if among.step is None and among.low <= short <= among.high else drawn
        words.append(f"{key}={value}")
    return words


def _distribution(key: str, override: Override) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    tags = set(getattr(value, "tags", ()))
    log = LOG in tags
    if tags - {LOG} or (log and not isinstance(value, IntervalSweep)):
        raise UserError(
            f"{override.input_line}: the only tag is {LOG}, and of an interval only: tag(log, interval(1e-5, 1e-2))."
        )
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            assert low is not None and high is not None
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(low, high, log=log)
        if isinstance(value, RangeSweep):
            numbers, step = sorted(value.range()), abs(value.step)
            if not numbers:
                raise ValueError("it holds no number")
            if all(isinstance(number, int) for number in numbers):
                return IntDistribution(int(numbers[0]), int(numbers[-1]), step=int(step))
            return FloatDistribution(float(numbers[0]), float(numbers[-1]), step=float(step))
    except ValueError as error:
        raise UserError(f"{override.input_line} is no range to search: {error}.") from error
    return CategoricalDistribution(list(dict.fromkeys(map(str, override.sweep_string_iterator()))))
