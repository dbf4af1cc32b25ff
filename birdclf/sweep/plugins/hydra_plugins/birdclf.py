"""The sweeper of ``sweep=optuna``, where Hydra looks for plugins: in the namespace package ``hydra_plugins``."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from birdclf.checks import whole
from birdclf.config import direction
from birdclf.errors import UserError
from birdclf.files import lock_file
from birdclf.runs import state as run_folder
from birdclf.sweep.launches import launch_of, words_of
from birdclf.sweep.trials import begin_study, search_space, suggested, trial_numbered

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler


class SearchSweeper(Sweeper):
    """Hydra's sweeper over the trials of a study of Optuna's (Akiba et al., 2019), which lies in the sweep's folder.

    A trial is a job of the same number. Its sampler is made from the seed and that number, so that a resumed
    search draws the same trials. A trial that failed or was stopped stays open: the next launch resumes it in its
    folder.

    Args:
        n_trials: Trials in all launches together, 1 or more.
        n_jobs: Trials that are launched together, 1 or more; they know nothing of each other.
        seed: Of the sampler, 0 or more.
        sampler: Makes a sampler from a seed.
        pruner: Says which trials are to be stopped early; None stops none.
        params: What varies, as values of overrides by their key.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        seed: int,
        sampler: "Callable[..., BaseSampler]",
        pruner: "BasePruner | None" = None,
        params: dict[str, Any] | None = None,
    ) -> None:
        for name, value, least in (("n_trials", n_trials, 1), ("n_jobs", n_jobs, 1), ("seed", seed, 0)):
            whole(f"hydra.sweeper.{name}", value, least)
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed
        self.sampler, self.pruner, self.params = sampler, pruner, dict(params or {})
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the configuration of the command and make its launcher.

        Raises:
            UserError: If jobs could not tell their trial how they go.
        """
        devices = OmegaConf.select(config, "trainer.devices")
        if self.pruner is not None and not (devices == 1 or OmegaConf.is_list(devices) and len(devices) == 1):
            raise UserError(
                f"trainer.devices is {devices}, but only a trial of one process can be stopped early. Use "
                f"trainer.devices=1, or callbacks.pruning=null."
            )
        subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
        if not str(subdir).startswith("${hydra.job.num}_"):
            raise UserError(
                f"hydra.sweep.subdir is {subdir!r}; a search knows a trial by the number that its folder begins with: "
                f"'${{hydra.job.num}}_…'."
            )
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list["JobReturn"]:
        """Run open trials and then new ones, until there are enough.

        Raises:
            UserError: If nothing varies, or the folder holds another search.
        """
        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        space, fixed = search_space(words, self.hydra_context.config_loader)
        if not space:
            raise UserError("Nothing varies. Say what to search: 'loss.gamma=interval(0, 5)', or hydra.sweeper.params.")
        if "monitor" in space:
            raise UserError("monitor varies, so that trials could not be compared. Give it one value.")
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        monitor = str(self.config.monitor)
        study = begin_study(folder, space, monitor, direction(monitor))
        if self.pruner is not None:
            study.pruner = self.pruner
        done: list[JobReturn] = []
        tried: set[int] = set()
        while batch := self._batch(study, folder, tried):
            tried |= set(batch)
            for numbers in _consecutive(batch):
                jobs = [[*fixed, *self._values(study, number, space)] for number in numbers]
                self.validate_batch_is_legal(jobs)
                results = self.launcher.launch(jobs, initial_job_idx=numbers[0])
                for number, result in zip(numbers, results, strict=True):
                    _tell(study, number, result)
                done += results
            if words_of(folder) is None or self._fails_fast(folder):
                break
        return done

    def _batch(self, study: "Study", folder: Path, tried: set[int]) -> list[int]:
        """Return the trials to launch next: those that were left open before, then new ones."""
        with lock_file(folder / "study.lock"):  # the same search may have been launched twice
            trials = study.get_trials(deepcopy=False)
            batch = [t.number for t in trials if not t.state.is_finished() and t.number not in tried][: self.n_jobs]
            for _ in range(min(self.n_jobs - len(batch), self.n_trials - len(trials))):
                batch.append(study.ask().number)
        return batch

    def _values(self, study: "Study", number: int, space: dict[str, Any]) -> list[str]:
        """Return a trial's values as words; they depend on the seed, its number and the trials that are over."""
        from birdclf.random import (
            key_of,
        )  # imports numpy, which every command would wait for: Hydra imports its plugins

        study.sampler = self.sampler(seed=key_of(self.seed, "search", number) % 2**32)
        return suggested(trial_numbered(study, number), space)

    def _fails_fast(self, folder: Path) -> bool:
        assert self.config is not None
        return bool(self.config.fail_fast) and bool(run_folder.failures(folder, launch_of(folder)))


def _tell(study: "Study", number: int, result: "JobReturn") -> None:
    """Record how a trial ended; one that did not end stays open."""
    from optuna.trial import TrialState

    score = result.return_value
    folder = Path(result.hydra_cfg.hydra.runtime.output_dir)  # type: ignore[union-attr]
    if score is not None:
        study.tell(number, float(score), skip_if_finished=True)
    elif run_folder.pruned_after(folder) is not None:
        study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)


def _consecutive(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield stretches of numbers that follow each other: a launcher numbers its jobs from the first one on."""
    stretch: list[int] = []
    for number in sorted(numbers):
        if stretch and number != stretch[-1] + 1:
            yield stretch
            stretch = []
        stretch.append(number)
    if stretch:
        yield stretch
