"""The study of a search on the disk: a journal in the sweep's folder, a trial a job, told apart by its number."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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


def has_study(folder: Path) -> bool:
    """Return whether a sweep folder is that of a search."""
    return (folder / JOURNAL).is_file()


def begin_study(folder: Path, space: "Mapping[str, BaseDistribution]", monitor: str, direction: str) -> "Study":
    """Return the study of a sweep folder, begun if it is not there.

    Args:
        folder: The sweep folder.
        space: What varies, by its key.
        monitor: Metric that is looked for the best value of.
        direction: ``min`` or ``max``, the better direction of it.

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
    """Return a trial of a study that is still open, to draw its values or to tell how it goes.

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

    Args:
        folder: The run folder, in that of the sweep.
        pruner: Says which trials are to be stopped.

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
    # What a run that goes on reports anew is known already.
    warnings.filterwarnings("ignore", message=".*reported value is ignored because this `step`.*")
    file = str(folder / JOURNAL)
    return JournalStorage(JournalFileBackend(file, JournalFileOpenLock(file)))


def _mend(journal: Path) -> None:
    """Cut off a last line of which a full disk took only a part; the next one would be written on to it."""
    try:
        content = journal.read_bytes()
    except FileNotFoundError:
        return
    if content and not content.endswith(b"\n"):
        os.truncate(journal, content.rfind(b"\n") + 1)


def facts_of(study: "Study") -> dict[str, Any]:
    """Return what a study was begun with: ``monitor``, and what varies by its key."""
    return dict(study.user_attrs.get("about", {}))
