"""Help on a command that takes settings: its groups with their options, and the settings as composed."""

from pathlib import Path
from string import Template

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from birdclf.config import conf_dir


def composed_help(command: str, settings: list[str]) -> str:
    """Return the text of ``hydra.help.template``, filled in.

    Hydra's own filling reads the search path anew for each group, which takes seconds where there are many.

    Args:
        command: ``train`` or ``prepare``, the root that is composed.
        settings: Overrides that the settings are shown with.

    Raises:
        HydraException: If an override cannot be used.
    """
    conf = conf_dir()
    with initialize_config_dir(str(conf), version_base="1.3", job_name=command):
        cfg = compose(command, overrides=settings, return_hydra_config=True)
    used = {group.partition("@")[0] for group in cfg.hydra.runtime.choices}
    groups = [f"{name}: {', '.join(options)}" for name, options in _groups(conf).items() if name in used]
    template = Template(cfg.hydra.help.template)
    with open_dict(cfg):
        cfg.pop("hydra")
    return template.substitute(APP_CONFIG_GROUPS="\n".join(groups) + "\n", CONFIG=OmegaConf.to_yaml(cfg))


def _groups(conf: Path) -> dict[str, list[str]]:
    """Return the options of every group, both in the order of the alphabet."""
    groups: dict[str, list[str]] = {}
    for file in sorted(conf.rglob("*.yaml")):
        if file.parent != conf:
            groups.setdefault(file.parent.relative_to(conf).as_posix(), []).append(file.stem)
    return {name: groups[name] for name in sorted(groups) if not name.startswith("hydra")}
