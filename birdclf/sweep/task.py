"""A job as Hydra calls it: skipped if it is finished, recorded if it fails."""

import logging
import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from birdclf.config import folder_name, resolved_config
from birdclf.environment import launched
from birdclf.errors import UserError
from birdclf.mistakes import explain
from birdclf.output import prepare_output
from birdclf.runs import state as run_folder
from birdclf.runs.run import Run
from birdclf.runs.state import BusyError, Pruned
from birdclf.sweep.launches import launch_of, words_of
from birdclf.text import printable

if TYPE_CHECKING:
    from omegaconf import DictConfig


log = logging.getLogger(__name__)


class Task:
    """A command as Hydra calls it, once per job, maybe in another process or on another machine.

    Attributes:
        error: Error of a single run, or of a job in whose folder it could not be recorded. It is kept here because
            Hydra would print a stack trace of it.
        interrupted: Whether a job of this process was stopped by Ctrl-C: a launcher's process begins no other then.
    """

    interrupted: ClassVar[bool] = False

    def __init__(self, run: "Callable[[DictConfig, bool], float | None]") -> None:
        self.run = run
        self.error: Exception | None = None
        self.__name__ = run.__name__
        Task.interrupted = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the task in a launcher's process, before Hydra binds its log to that one's standard output."""
        prepare_output()
        self.__dict__.update(state)

    def __call__(self, cfg: "DictConfig") -> float | None:
        """Run one job; return its score, or None if it has none."""
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        if hydra.mode == RunMode.MULTIRUN:
            return self._job(cfg, folder, Path(hydra.sweep.dir))
        try:
            resume = "resume" in cfg and cfg.resume is True
            # One of several processes cannot know whether the run is finished: that of rank 0 tells the others.
            score = _finished(cfg, folder) if resume and not launched() else None
            return self.run(cfg, resume) if score is None else score
        except Exception as error:
            self.error = error
            return None

    def _job(self, cfg: "DictConfig", folder: Path, sweep: Path) -> float | None:
        """Run a job of a sweep. A failure is recorded in its folder, where the table finds it wherever the job ran."""
        if Task.interrupted:
            return None
        if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
            # joblib sets a start method in its workers that the processes which decode do not know.
            multiprocessing.set_start_method(None, force=True)
        if words_of(sweep) is None:
            # Hydra has just made the folder again: below a mount point, on another disk.
            self.error = self.error or UserError(
                f"{sweep} was lost while its jobs ran. Bring it back; the same command with hydra.sweep.dir={sweep} "
                f"resumes it."
            )
            return None
        launch = launch_of(sweep)
        if "fail_fast" in cfg and cfg.fail_fast and run_folder.failures(sweep, launch):
            return None
        began = time.monotonic()
        try:
            resume = "resume" in cfg and cfg.resume is not False
            score = _finished(cfg, folder, run_folder.finished_twin(folder, resolved_config(cfg))) if resume else None
            if score is None:
                epochs = run_folder.pruned_after(folder, resolved_config(cfg)) if resume else None
                if epochs is not None:
                    print(f"{printable(folder)} was stopped by its search after epoch {epochs}")
                    return None
                return self.run(cfg, resume)
            with suppress(OSError):  # of a sweep that may only be read
                run_folder.remove_failure(folder)
            return score
        except BusyError as error:
            print(error)  # into this process's terminal: the log belongs to the other one
            return None
        except Pruned as why:
            log.info("stopped by the search after epoch %d, %s %.4f", why.epoch, cfg.monitor, why.value)
            run_folder.write_pruned(folder, resolved_config(cfg), why)
            return None
        except KeyboardInterrupt:
            Task.interrupted = True
            raise
        except Exception as error:
            message = explain(error) or f"{type(error).__name__}: {error}"
            log.error("failed after %.0f s: %s", time.monotonic() - began, printable(message, keep="\n"))
            try:
                run_folder.write_failure(folder, message, error, launch)
            except OSError:
                self.error = self.error or UserError(message)
            return None


def _finished(cfg: "DictConfig", *folders: Path | None) -> float | None:
    """Return the score of the finished run of this configuration in the first folder that holds it, without torch."""
    for folder in folders:
        score = run_folder.finished_score(folder, resolved_config(cfg)) if folder else None
        if score is not None:
            print(f"{printable(folder)} is finished: {cfg.monitor} {score:.4f}")
            return score
    return None


def sibling(key: str, choice: str) -> str | None:
    """Return the folder of the job that differs from this one in one setting alone.

    A configuration asks for it by ``${sibling:experiment,phase2b}``. Where one job alone runs there is none.

    Raises:
        UserError: If the sweep does not vary the setting, or the other job has not finished.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    hydra = HydraConfig.get()
    naming = hydra.job.config.override_dirname
    words = hydra.job.override_dirname.split(naming.item_sep)
    others = [f"{key}{naming.kv_sep}{choice}" if word.startswith(f"{key}{naming.kv_sep}") else word for word in words]
    if others == words:
        raise UserError(f"This job builds on the one with {key}={choice}, so the sweep must vary {key} over both.")
    folders = Path(hydra.sweep.dir).glob(f"*_{folder_name(naming.item_sep.join(others))}")
    finished = [folder for folder in folders if folder.name.partition("_")[0].isdecimal() and Run(folder).finished]
    if not finished:
        raise UserError(
            f"This job builds on the one with {key}={choice}, which has not finished. The same sweep launched again "
            f"runs this job after it; name {choice} before in the sweep."
        )
    return str(finished[0])


OmegaConf.register_new_resolver("sibling", sibling, replace=True)
