"""An ensemble as a job of a sweep: ``birdclf train members=[RUN,RUN]``."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from birdclf.config import plain
from birdclf.declared import hold_to_types
from birdclf.disk import writing_to
from birdclf.errors import UserError
from birdclf.inference.ensemble import average_of
from birdclf.inference.made import metrics_of, print_made, score, write_made
from birdclf.inference.members import read_members
from birdclf.run_folder import begun, check_same, forget_failure, held

WITHOUT_EFFECT: Final = (
    *("model", "loss", "features", "window", "audio", "audit", "augment", "sampler", "loader", "optimizer"),
    *("scheduler", "layers", "averaging", "posthoc", "trainer", "redraw_output", "allow"),
)
"""What a training has and an average does not."""


def average_members(cfg: DictConfig, resume: bool = False) -> float:
    """Average the runs of ``members``, equally and by probabilities, and leave a run folder without a checkpoint.

    Args:
        cfg: Composed ``conf/train.yaml``. Of its settings, ``evaluation`` and ``monitor`` act.
        resume: Whether the run folder may hold the same job, begun and stopped.

    Returns:
        The monitored metric.

    Raises:
        UserError: If the members cannot be averaged, or the folder holds something else.
        BusyError: If another process works in the folder.
    """
    hold_to_types(cfg.evaluation, "evaluation")
    config, folder = plain(cfg), Path(cfg.run_dir)
    runs = config["members"]
    if not isinstance(runs, Sequence) or isinstance(runs, str) or len(runs) < 2 or not all(runs):
        raise UserError(
            f"members is {runs!r}; it must be a list of two run folders or more. experiment=phase3_ensemble finds them "
            f"in a sweep alone, beside the experiments that it averages; elsewhere give 'members=[RUN,RUN]'."
        )
    _check_words()
    if config["init_from"] is not None or config["lr_find"]:
        raise UserError("members are averaged and nothing is trained: leave out init_from and lr_find.")
    with writing_to(folder, "the same command makes it anew."):
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            forget_failure(folder)
            if (earlier := begun(folder)) is not None:
                check_same(folder, config, earlier)
                if not resume:
                    raise UserError(f"{folder} holds a run already; nothing is overwritten. Choose another folder.")
            members = read_members([Path(str(run)) for run in runs])
            settings = instantiate(cfg.evaluation)
            recipe = {"checkpoint": "best", "window": None}
            command = ["birdclf", *sys.argv[1:]]
            made, predictions = average_of(members, "probabilities", "equal", recipe, command)
            value = score(predictions["val"], cfg.monitor)
            metrics = metrics_of(made, members, predictions, settings) | {"monitor": cfg.monitor, "score": value}
            write_made(folder, made, members, predictions, metrics, settings, config)
    print_made(made, members, predictions, metrics, settings)
    return value


def _check_words() -> None:
    """Refuse words of a command that would train; in a sweep they may be meant for the jobs beside this one.

    Raises:
        UserError: If there is one.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.RUN:
        return
    for word in HydraConfig.get().overrides.task:
        group = re.split(r"[.=/@]", word.lstrip("+~"))[0]
        if group in WITHOUT_EFFECT:
            raise UserError(f"members are averaged, nothing is trained, so that {word} changes nothing. Leave it out.")
