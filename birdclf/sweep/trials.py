"""The space and the study of a search; the study is a journal in the sweep's folder, trials are its jobs by number."""

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from birdclf.errors import UserError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.storages import JournalStorage
    from optuna.trial import Trial


JOURNAL: Final = "study.journal"
NAME: Final = "search"
EXTRA: Final = "pip install 'birdclf[optuna]'"
LOG: Final = "log"
"""Tag of a setting that is searched on a logarithmic scale."""


def search_space(words: Iterable[str], loader: Any = None) -> tuple[dict[str, "BaseDistribution"], list[str]]:
    """Return the distributions of varied settings by key, and the overrides that all trials share.

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

    A real number is rounded to four digits, for folder names and tables.
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
            exact = trial.suggest_float(key, among.low, among.high, step=among.step, log=among.log)
            short = float(f"{exact:.4g}")
            value = short if among.step is None and among.low <= short <= among.high else exact
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


def has_study(folder: Path) -> bool:
    """Return whether a sweep folder is that of a search."""
    return (folder / JOURNAL).is_file()


def begin_study(folder: Path, space: "Mapping[str, BaseDistribution]", monitor: str, direction: str) -> "Study":
    """Return the study of a sweep folder, which is created if missing; ``direction`` is ``min`` or ``max``.

    Raises:
        UserError: If the folder holds a study of something else.
    """
    import optuna
    from optuna.distributions import distribution_to_json

    about = {"monitor": monitor, **{key: distribution_to_json(among) for key, among in space.items()}}
    _mend(folder / JOURNAL)
    study = optuna.create_study(
        storage=_storage(folder),
        study_name=NAME,
        direction="maximize" if direction == "max" else "minimize",
        load_if_exists=True,
    )
    known = study.user_attrs.get("about")
    if known is None:
        study.set_user_attr("about", about)
    elif known != about:
        changed = next(key for key in [*about, *known] if known.get(key) != about.get(key))
        raise UserError(
            f"{folder} holds a search of another kind: {changed} was {known.get(changed, 'not there')} and is "
            f"{about.get(changed, 'not there')} now. Set it back, or begin another one with resume=false."
        )
    return study


def read_study(folder: Path) -> "Study":
    """Return the study of a sweep folder, to read it; nothing is written.

    Raises:
        UserError: If it cannot be read, or Optuna is not installed.
    """
    if not has_study(folder):
        raise UserError(f"{folder} holds no {JOURNAL}, so that its trials are not known.")
    try:
        import optuna
    except ImportError as error:
        raise UserError(f"{folder / JOURNAL} is read by Optuna, which is not installed: {EXTRA}") from error
    try:
        return optuna.load_study(study_name=NAME, storage=_storage(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / JOURNAL} cannot be read: {error}. Restore it.") from error


def trial_numbered(study: "Study", number: int) -> "Trial":
    """Return an open trial of a study, to draw its values or to report its score.

    Raises:
        UserError: If the study has no such trial.
    """
    from optuna.trial import Trial

    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise UserError(f"The study of the search has no trial {number}. Launch the search itself, not one job of it.")
    return Trial(study, trials[number]._trial_id)


def trial_of(folder: str, pruner: "BasePruner") -> "Trial":
    """Return the trial that a run belongs to: the one of its job's number, in the study beside its folder.

    Raises:
        UserError: If the run belongs to no search.
    """
    run = Path(folder)
    study = read_study(run.parent)
    study.pruner = pruner
    number = run.name.split("_")[0]
    if not number.isdecimal():
        raise UserError(f"{folder} does not begin with the number of its trial, by which its study knows it.")
    return trial_numbered(study, int(number))


def _storage(folder: Path) -> "JournalStorage":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A resumed run reports epochs that the study has already.
    warnings.filterwarnings("ignore", message=".*reported value is ignored because this `step`.*")
    file = str(folder / JOURNAL)
    return JournalStorage(JournalFileBackend(file, JournalFileOpenLock(file)))


def _mend(journal: Path) -> None:
    """Cut off a last line that a full disk left incomplete; the next one would be appended to it."""
    try:
        content = journal.read_bytes()
    except FileNotFoundError:
        return
    if content and not content.endswith(b"\n"):
        os.truncate(journal, content.rfind(b"\n") + 1)


def facts_of(study: "Study") -> dict[str, Any]:
    """Return the monitor of a study, and its distributions by key."""
    return dict(study.user_attrs.get("about", {}))
