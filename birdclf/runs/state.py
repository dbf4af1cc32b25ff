"""State of a run folder: locked, failed, pruned or finished. Needs no torch."""

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from birdclf.config import config_hash, flat_settings
from birdclf.errors import UserError
from birdclf.files import lock_file, write_whole
from birdclf.runs.run import DONE, FAILED, PRUNED, Run

LOCK: Final = "run.lock"
ABSENT: Final = "not there"


class BusyError(UserError):
    """Another process trains in this folder."""


class Pruned(Exception):
    """A search prunes this run: after as many epochs, other trials had better values of the monitored metric."""

    def __init__(self, epoch: int, value: float) -> None:
        super().__init__(epoch, value)
        self.epoch, self.value = epoch, value


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder; the system releases the lock when this process dies.

    Raises:
        BusyError: If another process trains in it.
    """
    busy = BusyError(f"{folder} is being trained by another process; nothing is done here.")
    with lock_file(folder / LOCK, busy):
        yield


def is_busy(folder: Path) -> bool:
    """Return whether a process trains in a folder."""
    try:
        with lock_run(folder):
            return False
    except BusyError:
        return True


def finished_score(folder: Path, config: Mapping[str, Any]) -> float | None:
    """Return the score of the finished run of this configuration that a folder holds, or None if it holds none."""
    done = _read(folder / DONE)
    if done is None or done.get("config_hash") != config_hash(config):
        return None
    return float(done["score"])


def finished_twin(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """Return another folder of the same sweep that holds the finished run of this configuration, or None.

    A sweep that is launched again with more values renumbers its jobs.
    """
    twins = (path.parent for path in sorted(folder.parent.glob(f"*/{DONE}")) if path.parent != folder)
    return next((twin for twin in twins if finished_score(twin, config) is not None), None)


def check_same(run: Run, config: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other settings than its own.

    Raises:
        UserError: If a setting that decides the result differs; it names the first one.
    """
    folder, earlier = run.folder, run.config
    if config_hash(earlier) == config_hash(config):
        return
    was, now = flat_settings(earlier), flat_settings(config)
    key = next(name for name in sorted(was.keys() | now.keys()) if was.get(name, ABSENT) != now.get(name, ABSENT))
    raise UserError(
        f"{folder} holds a run of other settings: {key} was {was.get(key, ABSENT)} and is {now.get(key, ABSENT)} now. "
        f"Nothing is overwritten: choose another folder, or set it back."
    )


def write_failure(folder: Path, message: str, error: BaseException, launch: int = 0) -> None:
    """Write ``failed.json``: why a run failed, with the stack trace.

    Raises:
        OSError: If it cannot be written.
    """
    trace = "".join(traceback.format_exception(error))
    # A run of other settings is refused in a folder that holds a finished one; its failure has nothing to do with that.
    content = {"message": message, "launch": launch, "finished": Run(folder).finished, "traceback": trace}
    write_whole(folder / FAILED, json.dumps(content, indent=1))


def write_pruned(folder: Path, config: Mapping[str, Any], why: Pruned) -> None:
    """Write ``pruned.json``: the search has pruned the run, which is no failure.

    Raises:
        OSError: If it cannot be written.
    """
    content = {"config_hash": config_hash(config), "epoch": why.epoch, "value": why.value}
    write_whole(folder / PRUNED, json.dumps(content, indent=1))


def pruned_after(folder: Path, config: Mapping[str, Any] | None = None) -> int | None:
    """Return the epoch after which a search pruned the run of a folder; None if it did not."""
    found = _read(folder / PRUNED)
    if (
        found is None
        or Run(folder).finished
        or (config is not None and found.get("config_hash") != config_hash(config))
    ):
        return None
    return int(found["epoch"])


def remove_failure(folder: Path) -> None:
    """Remove ``failed.json``, for a process that has locked the folder and is about to try again."""
    (folder / FAILED).unlink(missing_ok=True)


def failures(folder: Path, launch: int = 0) -> dict[str, str]:
    """Return the errors of failed jobs of a sweep folder by name, without jobs that finished later."""
    found = {}
    for path in sorted(folder.glob(f"*/{FAILED}")):
        failed = _read(path)
        if failed is None or failed.get("launch", 0) < launch:
            continue
        if failed.get("finished") or not Run(path.parent).finished:
            found[path.parent.name] = str(failed.get("message", "it does not say why"))
    return found


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
