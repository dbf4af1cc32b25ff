"""What can go wrong with a launcher of Hydra's, in words: it is not installed, or what it runs on fails."""

import sys
from importlib.util import find_spec
from traceback import walk_tb
from typing import Any, Final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from birdclf.sweep.plugin import NAMESPACE, SearchSweeper
from birdclf.sweep.trials import EXTRA

EXTRA_OF: Final = {
    "hydra_joblib_launcher": "joblib",
    "hydra_submitit_launcher": "slurm",
    "hydra_ray_launcher": "ray",
}
"""Extra of pyproject.toml by the package in it that holds the launcher."""
SEARCH: Final = f"{SearchSweeper.__module__}.{SearchSweeper.__name__}"
"""Our sweeper, as a configuration names it."""


class Launcher(Callback):
    """Stops a sweep whose launcher or search is not installed before it has made a folder."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a launcher or a search that needs an extra."""
        package = str(config.hydra.launcher._target_).split(".")[1]
        extra = EXTRA_OF.get(package)
        if extra is not None and not _installed(package):
            # Hydra turns exceptions of a callback into warnings; leaving the process is the way to stop.
            choice = config.hydra.runtime.choices["hydra/launcher"]
            sys.exit(f"birdclf: hydra/launcher={choice} needs an extra: pip install 'birdclf[{extra}]'")
        if config.hydra.sweeper._target_ == SEARCH and find_spec("optuna") is None:
            choices = config.hydra.runtime.choices
            choice = f"sweep={choices.sweep}" if choices.get("sweep") else f"hydra/sweeper={choices['hydra/sweeper']}"
            sys.exit(f"birdclf: {choice} needs an extra: {EXTRA}")


def _installed(package: str) -> bool:
    try:
        return find_spec(f"{NAMESPACE}.{package}") is not None
    except ModuleNotFoundError:  # no plugin of any kind
        return False


def explain_launch(error: BaseException) -> str | None:
    """Return what to tell the user of an error that a launcher raised, or None for any other error.

    Jobs note their failures in their folders, so what comes through a launcher is of its own: a worker process that was
    killed, a queue that refuses a job, a cluster that is not there.
    """
    if not any(
        str(frame.f_globals.get("__name__")).startswith(f"{NAMESPACE}.") for frame, _ in walk_tb(error.__traceback__)
    ):
        return None
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (
        f"the launcher stopped ({type(error).__name__}: {said}). Finished jobs are kept; once that is mended, the same "
        f"command goes on with the others."
    )
