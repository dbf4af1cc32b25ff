"""Which folder a command writes to: a new one, or that of a run or sweep which was stopped."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from birdclf.config import config_hash, plain
from birdclf.disk import check_writable, reason
from birdclf.errors import UserError
from birdclf.quoting import shown
from birdclf.run_folder import CONFIG, begun, is_finished
from birdclf.sweep.launches import launched_before, new_run, new_sweep, note_launch, words_of

RESULTS: Final = (CONFIG, "split.csv", "sweep.csv", "audit.csv")
ASIDE: Final = ("hydra.", "hydra/", "+hydra.", "resume=", "fail_fast=", "store.workers=")
"""What a sweep may be launched again with differently: how its jobs are run, not what they are."""
NUMBERS: Final = ("hydra.sweeper.n_trials=", "hydra.sweeper.n_jobs=")
"""The same of the sweeper: a search is gone on with to more trials."""


class Folders(Callback):
    """Finds the folder to go on in, and stops before Hydra writes its first file to one that must not be touched."""

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
                    print(f"going on in {shown(earlier)}")
            check_writable(folder)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Find the folder of the same sweep launched before; refuse one that holds another sweep."""
        folder, resume, words = Path(config.hydra.sweep.dir), _resume(config), sorted(_words(config))
        anew = "resume" not in config or resume is False
        _check_place(config, folder, "hydra.sweep.dir")
        with _taking(folder, "hydra.sweep.dir"):
            earlier = None if anew or _given(config, "hydra.sweep.dir") else launched_before(folder.parent, words)
            if earlier is None and _by_the_clock(config, "sweep"):
                folder = new_sweep(folder, words, share=not anew)
                _choose(config, "sweep", folder)
            else:
                folder = earlier or folder
                if anew:
                    _refuse(folder, "hydra.sweep.dir")
                elif _holds_results(folder) and resume is not True and words_of(folder) != words:
                    _refuse(folder, "hydra.sweep.dir", "or add to what is there with resume=true")
                if not anew and words_of(folder) is not None:  # maybe stopped before its first job began
                    _choose(config, "sweep", folder)
                    print(f"going on in {shown(folder)}; resume=false starts anew")
                note_launch(folder, words)
            check_writable(folder)


def _check_place(config: DictConfig, folder: Path, key: str) -> None:
    """Refuse a folder that is no run's, and relative paths that would mean others than where the command is given."""
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
    """Return whether the clock named the folder: then it may be there already, and nobody asked for just that one."""
    unresolved = OmegaConf.to_container(config.hydra[mode], resolve=False)
    assert isinstance(unresolved, dict)
    return "${now:" in str(unresolved["dir"])


def _own(config: DictConfig, folder: Path) -> Path:
    """Return the folder of a new run, and make it if the clock named it; refuse one that holds results."""
    if not _by_the_clock(config, "run"):
        _refuse(folder, "hydra.run.dir")
        return folder
    made = new_run(folder)
    if made != folder:
        _choose(config, "run", made)
    return made


def _choose(config: DictConfig, mode: str, folder: Path) -> None:
    """Set ``hydra.<mode>.dir``, also for the jobs, whose settings Hydra composes anew from the overrides."""
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

    Any of them ends the same; where the clock was set back, the newest may be one that has less behind it.
    """
    job = config.copy()
    with read_write(job), open_dict(job):
        job.pop("hydra")
        job.run_dir = ""
    own = config_hash(plain(job))
    for path in sorted(parent.glob(f"*/{CONFIG}"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            earlier = begun(path.parent)
        except UserError:
            continue  # some other folder's damage is not this command's matter
        if earlier is not None and not is_finished(path.parent) and config_hash(earlier) == own:
            return path.parent
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
    """Stop with a sentence where a folder cannot be written to."""
    try:
        yield
    except OSError as error:
        sys.exit(
            f"birdclf: {folder} cannot be written to: {reason(error)}. Nothing was begun. Free some space, "
            f"bring the folder back or choose another with {key}=…."
        )
