"""Hydra's callbacks: which folder a command writes to, how Ctrl-C ends a sweep, and extras that are missing."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any, Final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from birdclf.config import config_hash, resolved_config
from birdclf.errors import UserError
from birdclf.files import check_writable, new_run, reason
from birdclf.runs.run import CONFIG, Run
from birdclf.runs.state import LOCK, is_busy
from birdclf.sweep.launches import launched_before, new_sweep, note_launch, words_of
from birdclf.sweep.trials import EXTRA
from birdclf.text import printable

RESULTS: Final = (CONFIG, "split.csv", "sweep.csv", "audit.csv")
ASIDE: Final = ("hydra.", "hydra/", "+hydra.", "resume=", "fail_fast=", "store.workers=")
"""Settings that may differ when a sweep is launched again: how its jobs are run, not what they are."""
NUMBERS: Final = ("hydra.sweeper.n_trials=", "hydra.sweeper.n_jobs=")
"""Likewise of the sweeper: a search may be resumed with more trials."""


class Folders(Callback):
    """Chooses the folder to write to before Hydra writes its first file; refuses one that holds other results."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Find an unfinished run of the same settings if ``resume=true``; refuse a folder that holds results."""
        folder = Path(config.hydra.run.dir)
        _check_place(config, folder, "hydra.run.dir")
        with _taking(folder, "hydra.run.dir"):
            if _resume(config) is not True:
                folder = _own(config, folder)
            elif not _given(config, "hydra.run.dir"):
                earlier = _unfinished(folder.parent, config)
                if earlier is None:
                    print(f"{folder.parent} holds no unfinished run of these settings; a new one begins")
                    folder = _own(config, folder)
                else:
                    folder = earlier
                    _choose(config, "run", earlier)
                    print(f"resuming in {printable(earlier)}")
            check_writable(folder)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Find the folder of the same sweep launched before; refuse one that holds another sweep."""
        folder, resume, words = Path(config.hydra.sweep.dir), _resume(config), sorted(_words(config))
        fresh = "resume" not in config or resume is False
        _check_place(config, folder, "hydra.sweep.dir")
        with _taking(folder, "hydra.sweep.dir"):
            earlier = None if fresh or _given(config, "hydra.sweep.dir") else launched_before(folder.parent, words)
            if earlier is None and _by_the_clock(config, "sweep"):
                folder = new_sweep(folder, words, share=not fresh)
                _choose(config, "sweep", folder)
            else:
                folder = earlier or folder
                if fresh:
                    _refuse(folder, "hydra.sweep.dir")
                elif _holds_results(folder) and resume is not True and words_of(folder) != words:
                    _refuse(folder, "hydra.sweep.dir", "or add to what is there with resume=true")
                if not fresh and words_of(folder) is not None:  # maybe stopped before its first job
                    _choose(config, "sweep", folder)
                    print(f"resuming in {printable(folder)}; resume=false starts a new sweep")
                note_launch(folder, words)
            check_writable(folder)


def _check_place(config: DictConfig, folder: Path, key: str) -> None:
    """Refuse the root and home folders, and ``hydra.job.chdir``, which changes the meaning of relative paths."""
    if folder.resolve() in (Path(folder.resolve().anchor), Path.home().resolve()):
        sys.exit(f"birdclf: {key}={folder} is no folder for a run alone. Choose a new one, such as {key}=outputs/mine")
    if config.hydra.job.chdir:
        sys.exit(
            "birdclf: hydra.job.chdir=true would look for data.root and all other paths in the run folder. Leave it "
            "out; everything a run writes is in its folder anyway."
        )


def _resume(config: DictConfig) -> bool | None:
    value = OmegaConf.select(config, "resume")
    return None if value is None else bool(value)


def _given(config: DictConfig, key: str) -> bool:
    return any(str(word).split("=", 1)[0].lstrip("+") == key for word in config.hydra.overrides.hydra)


def _by_the_clock(config: DictConfig, mode: str) -> bool:
    """Return whether the folder is named by the time: an existing one is then not the user's choice."""
    unresolved = OmegaConf.to_container(config.hydra[mode], resolve=False)
    assert isinstance(unresolved, dict)
    return "${now:" in str(unresolved["dir"])


def _own(config: DictConfig, folder: Path) -> Path:
    """Return the folder of a new run, made if it is named by the time; refuse one that holds results."""
    if not _by_the_clock(config, "run"):
        _refuse(folder, "hydra.run.dir")
        return folder
    made = new_run(folder)
    if made != folder:
        _choose(config, "run", made)
    return made


def _choose(config: DictConfig, mode: str, folder: Path) -> None:
    """Set ``hydra.<mode>.dir``, also for the jobs, whose settings Hydra composes again from the overrides."""
    with read_write(config), open_dict(config):
        config.hydra[mode].dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.{mode}.dir='{folder}'")


def _words(config: DictConfig) -> Iterator[str]:
    for word in [*config.hydra.overrides.task, *config.hydra.overrides.hydra]:
        decides = str(word).startswith(("hydra.sweeper.", "hydra/sweeper/")) and not str(word).startswith(NUMBERS)
        if decides or not str(word).startswith(ASIDE):
            yield str(word)


def _unfinished(parent: Path, config: DictConfig) -> Path | None:
    """Return the newest run folder below a folder that holds an unfinished run of these settings.

    Any of them ends the same; where the clock was set back, the newest may be one that is less far.
    """
    job = config.copy()
    with read_write(job), open_dict(job):
        job.pop("hydra")
        job.run_dir = ""
    own = config_hash(resolved_config(job))
    for path in sorted(parent.glob(f"*/{CONFIG}"), key=lambda path: path.stat().st_mtime, reverse=True):
        run = Run(path.parent)
        try:
            if not run.finished and config_hash(run.config) == own:
                return run.folder
        except UserError:
            continue  # another folder's damage does not concern this command
    return None


def _holds_results(folder: Path) -> bool:
    jobs = folder.glob(f"[!.]*/{CONFIG}")  # not what Hydra wrote to .hydra before the command itself began
    return any((folder / name).exists() for name in RESULTS) or any(jobs)


def _refuse(folder: Path, key: str, way: str = "") -> None:
    if _holds_results(folder):
        # Hydra turns exceptions of a callback into warnings; leaving the process is the way to stop.
        sys.exit(
            f"birdclf: {folder} holds results already; nothing is overwritten. Choose another folder with {key}=…"
            + (f", {way}." if way else "")
        )


@contextmanager
def _taking(folder: Path, key: str) -> Iterator[None]:
    """Leave the process with a message where a folder cannot be written to."""
    try:
        yield
    except OSError as error:
        sys.exit(
            f"birdclf: {folder} cannot be written to: {reason(error)}. Nothing was begun. Free some space, "
            f"bring the folder back or choose another with {key}=…."
        )


REACHED: Final = ("hydra_plugins.hydra_joblib_launcher.",)
"""Launchers that kill their jobs at Ctrl-C without waiting, though it reaches the jobs as well."""
POLL_S: Final = 0.2


class WaitForJobs(Callback):
    """Lets jobs finish their step and write a snapshot at Ctrl-C, before their launcher may kill them."""

    def __init__(self) -> None:
        self.folder = Path()
        self.before: Any = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Handle Ctrl-C if the launcher would not wait."""
        if str(config.hydra.launcher._target_).startswith(REACHED):
            self.folder = Path(config.hydra.sweep.dir)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for a program in the background
                self.before = signal.signal(signal.SIGINT, self._wait)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Restore the handler of before."""
        self._give_back()

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        print("waiting for the jobs to finish their step; Ctrl-C again stops at once", flush=True)
        while any(is_busy(lock.parent) for lock in self.folder.glob(f"*/{LOCK}")):
            time.sleep(POLL_S)
        raise KeyboardInterrupt

    def _give_back(self) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
            self.before = None


EXTRA_OF: Final = {
    "hydra_joblib_launcher": "joblib",
    "hydra_submitit_launcher": "slurm",
    "hydra_ray_launcher": "ray",
}
"""Extra of pyproject.toml by the package in it that holds the launcher."""
SEARCH: Final = "hydra_plugins.birdclf.SearchSweeper"
"""``_target_`` of birdclf's sweeper."""


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
        return find_spec(f"hydra_plugins.{package}") is not None
    except ModuleNotFoundError:  # no plugin of any kind
        return False


def explain_launch(error: BaseException) -> str | None:
    """Return the message for an error that a launcher raised, or None for any other error.

    Jobs record their failures in their folders, and a launcher raises only its own: a killed worker process, a queue
    that refuses a job, a cluster that is not there.
    """
    if not any(
        str(frame.f_globals.get("__name__")).startswith("hydra_plugins.") for frame, _ in walk_tb(error.__traceback__)
    ):
        return None
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (
        f"the launcher stopped ({type(error).__name__}: {message}). Finished jobs are kept; once that is solved, the "
        f"same command runs the others."
    )
