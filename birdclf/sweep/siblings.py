"""Jobs of a sweep that build on another job of the same sweep."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from birdclf.config import folder_name
from birdclf.errors import UserError
from birdclf.run_folder import is_finished


def sibling(key: str, choice: str) -> str | None:
    """Return the folder of the job that differs from this one in one setting alone.

    A configuration asks for it by ``${sibling:experiment,phase2b}``. Where one job alone runs there is none.

    Args:
        key: The setting that the sweep varies.
        choice: Its value in the other job.

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
    finished = [folder for folder in folders if folder.name.partition("_")[0].isdecimal() and is_finished(folder)]
    if not finished:
        raise UserError(
            f"This job builds on the one with {key}={choice}, which has not finished. The same sweep launched again "
            f"runs this job after it; name {choice} before in the sweep."
        )
    return str(finished[0])


OmegaConf.register_new_resolver("sibling", sibling, replace=True)
