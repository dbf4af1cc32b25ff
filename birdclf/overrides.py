"""The overrides of a command line, quoted as Hydra's grammar requires.

Hydra reads a value as a number or a list where it can, and refuses many characters outside quotes. Where a setting
takes a text, the typed characters are that text and are quoted here: ``data.root=günter``, ``data.root=1e3``,
``data.species=[1e3,TRUE]``. A comma still separates the values of a sweep.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from birdclf.config import conf_dir
from birdclf.declared import fits, types_of
from birdclf.errors import UserError

MULTIRUN: Final = ("-m", "--multirun")
SHOWS: Final = ("--cfg", "-c", "--info", "-i", "--resolve")
NESTING: Final = "\"'()[]{}"


def text_words(command: str, options: Sequence[str], settings: list[str]) -> list[str]:
    """Return settings with quotes around the texts that Hydra would refuse, or read as something else.

    ``null`` of a group becomes ``none`` where there is such an option, and is left out if the group is null already.
    ``options`` are the words that begin with a dash, with their values.

    Raises:
        UserError: If a word has no key or no value, an option contradicts another, or a comma is ambiguous.
    """
    sweeps = any(option in MULTIRUN for option in options)
    if sweeps and (showing := [option for option in options if option.partition("=")[0] in SHOWS]):
        raise UserError(f"{showing[0]} shows the settings of one job: leave out -m, and give each setting one value.")
    words: list[str] = []
    kinds = None
    for place, word in enumerate(settings):
        key, equals, typed = word.partition("=")
        if not equals and not key.startswith("~"):
            raise UserError(_no_override(command, options, settings, place))
        if key == "features" and typed.startswith("[") and not sweeps:
            raise UserError(_several_features(typed))
        if key.startswith("~") or _means_itself(word, typed):
            words.append(word)
            continue
        kinds = kinds or SettingTypes(command, options, settings)
        if typed != "null" or not kinds.is_null(key):  # Hydra takes no null for a group
            words.append(f"{key}={_quoted(key, typed, kinds.of(key.lstrip('+')), sweeps)}")
    return words


def _no_override(command: str, options: Sequence[str], settings: list[str], place: int) -> str:
    """Return the message for a word that has no ``=``."""
    word = settings[place]
    before = settings[place - 1] if place else ""
    if "=" in before and (before.endswith(("[", "{", ",")) or word.startswith((",", "]", "}"))):
        rest = settings[place:]
        end = next((i for i, other in enumerate(rest) if "=" in other), len(rest))
        split = [before, *rest[:end]]
        return f"A space divides {' '.join(split)}. Leave it out: {''.join(split)}; or quote all: '{' '.join(split)}'."
    if Path(word).is_dir():
        return f"{word} is not KEY=VALUE. A folder of recordings is given by data=folder data.root={word}"
    if Path(word).is_file():
        return f"{word} is not KEY=VALUE. A manifest of recordings is given by data=manifest data.path={word}"
    if word.lstrip("+").partition(".")[0] in SettingTypes(command, options, settings[:place]).cfg:
        return f"{word} has no value: write {word}=VALUE."
    quote = f" If it belongs to the word before it, quote both: '{before} {word}'." if "=" in before else ""
    return f"{word} is not KEY=VALUE, and there is no such folder or setting.{quote} See birdclf {command} --help."


def _several_features(typed: str) -> str:
    """Return the message for a list of features."""
    names = [name.strip() for name in typed.strip("[]").split(",")]
    parts = zip(("", "", "+", "+", "+"), ("first", "second", "third", "fourth", "fifth"), names, strict=False)
    words = " ".join(f"{more}features@features.parts.{place}={name}" for more, place, name in parts)
    return f"features={typed} is a list, and features takes one option. As one vector: features=fusion {words}"


def config_folders(options: Sequence[str]) -> list[Path]:
    """Return the folders that hold the YAML files: the package's own and those of ``--config-dir``."""
    return [conf_dir(), *map(Path, _folders(options))]


def read_override(word: str) -> Override | None:
    """Return a word as Hydra parses it, or None if it cannot."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _means_itself(word: str, typed: str) -> bool:
    """Return whether Hydra reads a value as the typed text, or as a number written the same way."""
    override = read_override(word)
    if override is None or override.is_sweep_override():
        return False
    value = override.value()
    plain = isinstance(value, str | QuotedString) or (isinstance(value, int | float) and str(value) == typed)
    return plain and not (isinstance(value, int | float) and (conf_dir() / str(override.key_or_group)).is_dir())


def _quoted(key: str, typed: str, kind: Any, sweeps: bool) -> str:
    """Return a value, quoted if the setting takes a text that Hydra would not read."""
    override = read_override(f"{key}={typed}")
    if kind is Any:
        return typed
    if "," in typed and not any(mark in typed for mark in NESTING):
        if sweeps:
            return ",".join(_quoted(key, part.strip(), kind, sweeps) for part in typed.split(","))
        if kind is not Group and fits("", kind):
            raise UserError(
                f"{key}={typed} may be one text or several values. Quote a text: '{key}={_with_quotes(typed)}'; a list "
                f"is {key}=[{typed}]; with -m it is a sweep over the values."
            )
        return typed
    if override is None:  # a comma among brackets or quotes may be a sweep's
        return _with_quotes(typed) if fits("", kind) and not (sweeps and "," in typed) else typed
    value = override.value()
    if override.is_sweep_override() or fits(value, kind):
        return typed
    if value is None and kind is Group and (conf_dir() / key.lstrip("+") / "none.yaml").is_file():
        return "none"
    if isinstance(value, list) and fits(["a"], kind):
        parts = [part.strip() for part in typed.strip()[1:-1].split(",")]
        if len(parts) != len(value) or any(mark in part for part in parts for mark in NESTING):
            return typed
        return f"[{','.join(p if isinstance(v, str) else _with_quotes(p) for p, v in zip(parts, value, strict=True))}]"
    return _with_quotes(typed) if fits("", kind) else typed


Group = str | list[str] | dict[str, Any]
"""Type of a group's choice."""


def _with_quotes(text: str) -> str:
    return str(QuotedString(text, Quote.double).with_quotes())


class SettingTypes:
    """Types of settings by their keys, from the configuration that the other overrides compose."""

    def __init__(self, command: str, options: Sequence[str], settings: Sequence[str]) -> None:
        self.folders = config_folders(options)
        searched = ",".join(_with_quotes(f"file://{folder.resolve()}") for folder in self.folders[1:])
        words = [f"hydra.searchpath=[{searched}]", *_first_values(settings)]
        self.cfg = DictConfig({})
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name=command):
                self.cfg = compose(command, overrides=words, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, ValueError):
            pass  # Hydra reports it

    def is_null(self, group: str) -> bool:
        """Return whether no option of a group is chosen."""
        choices = OmegaConf.select(self.cfg, "hydra.runtime.choices") or {}
        return group in choices and choices[group] is None

    def of(self, key: str) -> Any:
        """Return the type of a setting; Any if it is unknown."""
        if any((folder / key.partition("@")[0]).is_dir() for folder in self.folders):  # group@package
            return Group
        above, _, name = key.rpartition(".")
        try:
            parent = OmegaConf.select(self.cfg, above) if above else self.cfg
            node = parent._get_node(name) if isinstance(parent, DictConfig) else None
            if node is None:
                return Any
            default = None if node._is_missing() else node._value()
            if isinstance(default, int | float) and not isinstance(default, bool):
                return Any  # a number: no import is needed
            of_schema = node._metadata.ref_type
            if of_schema is str and node._metadata.optional:
                of_schema = str | None
            return types_of(parent).get(name, of_schema)
        except (OmegaConfBaseException, AttributeError):
            return Any


def _first_values(settings: Sequence[str]) -> Iterator[str]:
    """Yield the words that Hydra can parse, each with one value."""
    for word in settings:
        override = read_override(word)
        if override is None or override.is_delete():
            continue
        if override.is_sweep_override() and (conf_dir() / str(override.key_or_group)).is_dir():
            with suppress(HydraException, StopIteration):  # of a glob
                yield f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
        elif not override.is_sweep_override() and _means_itself(word, word.partition("=")[2]):
            yield word


def _folders(options: Sequence[str]) -> Iterator[str]:
    for before, word in zip(options, options[1:], strict=False):
        if before in ("--config-dir", "-cd"):
            yield word
    yield from (word.partition("=")[2] for word in options if word.startswith("--config-dir="))
