"""Error messages for what Hydra and OmegaConf refuse, and the help of a command that takes settings."""

import difflib
import inspect
import re
import sys
from pathlib import Path
from string import Template

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from birdclf.config import conf_dir
from birdclf.errors import UserError
from birdclf.files import explain_disk
from birdclf.overrides import SettingTypes, config_folders, read_override

ADDRESS = re.compile(r"(See|Please see|For more info)?:? ?https?://\S+( for \w+)?")


def explain(error: BaseException) -> str | None:
    """Return the message for a user's mistake or a full disk, or None for a defect, which needs its stack trace."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__
    return explain_composition(error) or explain_disk(error)


def explain_composition(error: BaseException) -> str | None:
    """Return one message for an error of composing or instantiating, or None for any other error."""
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or "a setting"
        return f"{key} has no value. Give it one on the command line: {key}=…"
    if isinstance(error, InstantiationException):
        return _instantiation(error)
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    message = ADDRESS.sub("", str(error))
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    if unknown := re.match(r"Could not override '([^']+)'", first):
        return f"There is no setting {unknown[1]!r}. {_hint(unknown[1])}"
    if option := re.match(r"In '([^']+)': Could not (?:find|load) '([^']+)/([^'/]+)'", first):
        listed = message.partition("Available options in")[2].partition("Config search path")[0].split()[1:]
        return _option(option[1], option[2], option[3], listed)
    if several := re.match(r"Ambiguous value for argument '(.+)'$", first):
        key, _, values = several[1].partition("=")
        return f"{several[1]} gives several values, which is a sweep: add -m. A list has brackets: {key}=[{values}]."
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        lines += [line.strip() for line in str(cause).splitlines() if line.strip()]
        if merged := re.match(r"Error merging override (.+)", first):
            return _misfit(merged[1], str(cause).partition("\n")[0])
    noise = ("full_key", "object_type", "reference_type", "Config search", "provider=")
    return " ".join(dict.fromkeys(line for line in lines if not line.startswith(noise)))


def _unreadable(word: str) -> str:
    """Return the message for a word that Hydra's grammar refuses."""
    key, _, value = word.partition("=")
    quoted = QuotedString(value, Quote.double).with_quotes()
    return f"{word} cannot be read. If it is a text, quote it: '{key}={quoted}'; a list is {key}=[a,b]."


def _misfit(word: str, reason: str) -> str:
    """Return the message for a value of another type than the schema declares."""
    key, _, value = word.partition("=")
    types = {"Integer": "a whole number", "Float": "a number"}
    wanted = re.search(r"could not be converted to (\w+)|(not a valid bool)", reason)
    if wanted is None:
        return f"{word} cannot be used: {reason}"
    return f"{key} is {value}; it must be {types.get(wanted[1], 'true or false')}."


def _option(file: str, group: str, name: str, listed: list[str]) -> str:
    """Return the message for an option that a group lacks, named on the command line or in a file of ``conf/``."""
    files = (path for folder in config_folders(sys.argv) for path in folder.glob(f"{group}/*.yaml"))
    options = listed or sorted({path.stem for path in files})
    near = difflib.get_close_matches(name, options, n=1)
    where = "" if file in (_command(), "hydra/config") else f"{file}.yaml: "
    question = f"Did you mean {near[0]}? " if near else ""
    return f"{where}{group}={name}: {group} has no option {name!r}. {question}It has {', '.join(options)}."


def _instantiation(error: InstantiationException) -> str:
    lines = str(error).splitlines()
    key = next((line.split(": ", 1)[1] for line in lines if line.startswith("full_key: ")), "")
    cause = error.__cause__
    if isinstance(cause, TypeError):
        argument = re.search(r"unexpected keyword argument '(\w+)'", str(cause))
        if argument:
            name = f"{key}.{argument[1]}"
            files = [word for word in sys.argv if word.lstrip("+").startswith("experiment=")]
            given = any(word.lstrip("+").startswith(f"{name}=") for word in sys.argv)
            origin = "" if given or not files else f" It is a setting of {files[0]}, which does not fit this {key}."
            return f"There is no setting {name!r}. {_arguments(lines[0], key, argument[1])}{origin}"
    missing = re.match(r"Error locating target '([^']+)'", lines[0])
    if missing:
        return (
            f"{key}._target_={missing[1]} cannot be imported. Check the name; packages are searched in the "
            f"environment and in the current folder."
        )
    reason = f"{type(cause).__name__}: {cause}" if cause is not None else " ".join(lines[1:])
    return f"{key or 'A setting'} cannot be built from its settings ({reason}). Check the values of {key}.*."


def _arguments(line: str, key: str, misspelt: str) -> str:
    """Return a sentence that names the arguments of a target."""
    target = re.search(r"target '([^']+)'", line)
    if target is None:
        return ""
    taken = [name for name in inspect.signature(get_object(target[1])).parameters if name != "self"]
    near = difflib.get_close_matches(misspelt, taken, n=1)
    if near:
        return f"Did you mean {key}.{near[0]}?"
    return f"{target[1].rsplit('.', 1)[-1]} takes {', '.join(taken)}."


def _command() -> str:
    return sys.argv[0].split()[-1]


def _hint(key: str) -> str:
    """Return a sentence that leads from an unknown key to the right one."""
    words = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    good = [word for word in words if (override := read_override(word)) and override.key_or_group != key]
    cfg = SettingTypes(_command(), sys.argv, good).cfg
    keys = [name for name in _keys(cfg) if not name.startswith("hydra")]
    if "." not in key and (nested := _nested(key, keys)):
        return f"Did you mean {' or '.join(nested)}?"
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.75)
    if near:
        return f"Did you mean {near[0]}?"
    parent = key.rpartition(".")[0]
    beside = [name for name in keys if name.rpartition(".")[0] == parent and not name.endswith("_")]
    return f"{parent or 'The top level'} has {', '.join(beside)}." if beside else f"See birdclf {_command()} --help."


def _nested(name: str, keys: list[str]) -> list[str]:
    """Return the settings below the top level that have a name: of this job, or else of options that it lacks."""
    nested = [key for key in keys if "." in key]
    found = [key for key in nested if key.endswith(f".{name}")] or [key for key in nested if key.endswith(f"_{name}")]
    if found:
        return found
    having: dict[str, list[str]] = {}
    for file in sorted(conf_dir().glob("*/*.yaml")):
        group = file.parent.name
        if group in keys and re.search(rf"^{re.escape(name)}:", file.read_text(encoding="utf-8"), re.MULTILINE):
            having.setdefault(group, []).append(file.stem)
    return [f"{group}.{name} (with {group}={' or '.join(options)})" for group, options in having.items()]


def _keys(cfg: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for name in map(str, cfg):
        keys.append(f"{prefix}{name}")
        node = cfg._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not OmegaConf.is_missing(cfg, name):
            keys += _keys(node, f"{prefix}{name}.")
    return keys


def composed_help(command: str, settings: list[str]) -> str:
    """Return the text of ``hydra.help.template`` for ``train`` or ``prepare`` with some overrides, filled in.

    Hydra's own filling reads the search path again for each group, which takes seconds where there are many.

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
    """Return the options of every group, both in alphabetical order."""
    groups: dict[str, list[str]] = {}
    for file in sorted(conf.rglob("*.yaml")):
        if file.parent != conf:
            groups.setdefault(file.parent.relative_to(conf).as_posix(), []).append(file.stem)
    return {name: groups[name] for name in sorted(groups) if not name.startswith("hydra")}
