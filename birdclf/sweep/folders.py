"""Which folder a command writes to: a new one, or that of a run or sweep which was stopped."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from birdclf.config import config_hash, plain
from birdclf.errors import UserError
from birdclf.quoting import shown
from birdclf.run_folder import CONFIG, FAILED, begun, is_finished, write_whole

RESULTS: Final = (CONFIG, "split.csv", "sweep.csv", "audit.csv")
SWEEP: Final = "sweep.json"
"""The words of a sweep's command, by which it is known when it is launched again."""
ASIDE: Final = ("hydra.", "hydra/", "+hydra.", "resume=", "fail_fast=", "store.workers=")
"""What a sweep may be launched again with differently: how its jobs are run, not what they are."""


class Folders(Callback):
    """Finds the folder to go on in, and stops before Hydra writes its first file to one that must not be touched."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Find an unfinished run of the same settings if ``resume=true``; refuse a folder that holds results."""
        folder = Path(config.hydra.run.dir)
        if _resume(config) is not True:
            _refuse(folder, "hydra.run.dir")
        elif not _given(config, "hydra.run.dir"):
            earlier = _unfinished(folder.parent, config)
            if earlier is None:
                print(f"{folder.parent} holds no unfinished run of these settings; a new one begins")
            else:
                _choose(config, "run", earlier)
                print(f"going on in {shown(earlier)}")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Find the folder of the same sweep launched before; refuse one that holds another sweep."""
        folder, resume, words = Path(config.hydra.sweep.dir), _resume(config), sorted(_words(config))
        if "resume" not in config or resume is False:
            _refuse(folder, "hydra.sweep.dir")
        else:
            if not _given(config, "hydra.sweep.dir") and not folder.exists():
                folder = _launched_before(folder.parent, words) or folder
            if _holds_results(folder) and resume is not True and _launched(folder) != words:
                _refuse(folder, "hydra.sweep.dir", "or add to what is there with resume=true")
            if _launched(folder) is not None:  # maybe stopped before its first job began
                _choose(config, "sweep", folder)
                print(f"going on in {shown(folder)}; resume=false starts anew")
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f"*/{FAILED}"):
            stale.unlink()
        write_whole(folder / SWEEP, json.dumps({"words": words}, indent=1))


def _resume(config: DictConfig) -> bool | None:
    value = OmegaConf.select(config, "resume")
    return None if value is None else bool(value)


def _given(config: DictConfig, key: str) -> bool:
    return any(str(word).split("=", 1)[0].lstrip("+") == key for word in config.hydra.overrides.hydra)


def _choose(config: DictConfig, mode: str, folder: Path) -> None:
    """Set ``hydra.<mode>.dir``, also for the jobs, whose settings Hydra composes anew from the overrides."""
    with read_write(config), open_dict(config):
        config.hydra[mode].dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.{mode}.dir='{folder}'")


def _words(config: DictConfig) -> Iterator[str]:
    for word in [*config.hydra.overrides.task, *config.hydra.overrides.hydra]:
        if not str(word).startswith(ASIDE) or str(word).startswith("hydra.sweeper."):
            yield str(word)


def _unfinished(parent: Path, config: DictConfig) -> Path | None:
    """Return the newest run folder below a folder that holds an unfinished run of these settings."""
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


def _launched(folder: Path) -> list[str] | None:
    """Return the words of the sweep that a folder holds, or None if it holds none."""
    try:
        return list(json.loads((folder / SWEEP).read_text())["words"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _launched_before(parent: Path, words: list[str]) -> Path | None:
    same = [path for path in parent.glob(f"*/{SWEEP}") if _launched(path.parent) == words]
    return max(same, key=lambda path: path.stat().st_mtime).parent if same else None


def _holds_results(folder: Path) -> bool:
    return any((folder / name).exists() for name in RESULTS) or any(folder.glob(f"*/{CONFIG}"))


def _refuse(folder: Path, key: str, way: str = "") -> None:
    if _holds_results(folder):
        # Hydra turns exceptions of a callback into warnings; leaving the process is the way to stop.
        sys.exit(
            f"birdclf: {folder} holds results already; nothing is overwritten. Choose another folder with {key}=…"
            + (f", {way}." if way else "")
        )
