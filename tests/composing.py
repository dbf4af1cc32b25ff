"""Compositions of ``conf/`` that are made once a session: a command composes it three times, 0.14 s each.

Which files a composition has, and what they merge to, depends on the options chosen and on the files alone, which no
test changes. Both are kept; the settings of a command are put on a copy. A test with a folder of its own
(``--config-dir``) is composed by Hydra as ever. What a word or an interpolation parses to depends on its text alone.
"""

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from hydra._internal import config_loader_impl as loader
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, base, grammar_parser

from birdclf.config import conf_dir

CONSTANT = (str(conf_dir()), "hydra.conf")
"""Sources whose files stay; a structured one has no path."""


def _sources(repo: IConfigRepository) -> tuple[str, ...] | None:
    """Return where a composition is read from, and the schemas that are registered; None where files may change."""
    paths = tuple(source.path for source in repo.get_sources())
    return (*paths, *_names(ConfigStore.instance().repo)) if all(path in ("", *CONSTANT) for path in paths) else None


def _names(registered: dict[str, Any]) -> Iterator[str]:
    for name, node in registered.items():
        yield name
        if isinstance(node, dict):
            yield from _names(node)


@contextmanager
def compositions_kept() -> Iterator[None]:
    """Keep files, lists of defaults and what they merge to, until the end of the block."""
    files: dict[str, bytes] = {}
    lists: dict[Any, DefaultsList] = {}
    merged: dict[Any, bytes] = {}
    usual_list, usual_merge = loader.create_defaults_list, loader.ConfigLoaderImpl._compose_config_from_defaults_list
    Plugins.instance()  # which registers the sources, as classes of its own
    source = SourcesRegistry.instance().resolve("file")
    usual_load = source.load_config

    def load(self: ConfigSource, config_path: str) -> ConfigResult:
        if self.path not in CONSTANT:
            return usual_load(self, config_path)
        if config_path not in files:
            found = usual_load(self, config_path)
            files[config_path] = pickle.dumps((found.config, found.path, found.header))
        config, path, header = pickle.loads(files[config_path])
        return ConfigResult(provider=self.provider, path=path, config=config, header=header)

    def defaults_list(
        repo: IConfigRepository, config_name: str, overrides_list: list[Override], **how: bool
    ) -> DefaultsList:
        sources = _sources(repo)
        if sources is None:
            return usual_list(repo, config_name, overrides_list, **how)
        fresh = Overrides(repo=repo, overrides_list=overrides_list)
        settings = {id(override) for override in fresh.config_overrides}
        options = tuple(override.input_line for override in overrides_list if id(override) not in settings)
        key = (sources, config_name, options, *sorted(how.items()))
        if key not in lists:
            lists[key] = usual_list(repo, config_name, overrides_list, **how)
        kept = lists[key]
        fresh.known_choices = dict(kept.overrides.known_choices)
        return DefaultsList(list(kept.defaults), kept.defaults_tree, fresh.config_overrides, fresh)

    def merge(self: loader.ConfigLoaderImpl, defaults: list[Any], repo: IConfigRepository) -> DictConfig:
        sources = _sources(repo)
        if sources is None:
            return usual_merge(self, defaults, repo)
        key = (sources, *((d.config_path, d.parent, d.package, d.is_self, d.primary, d.override_key) for d in defaults))
        if key not in merged:
            merged[key] = pickle.dumps(usual_merge(self, defaults, repo))
        return pickle.loads(merged[key])

    parsed: dict[tuple[str, str], bytes] = {}
    usual_parse = OverridesParser.parse_rule

    def parse(self: OverridesParser, text: str, rule: str) -> Any:
        if (text, rule) not in parsed:
            parsed[text, rule] = pickle.dumps(usual_parse(self, text, rule))
        return pickle.loads(parsed[text, rule])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OverridesParser, "parse_rule", parse)
        patch.setattr(base, "parse", cache(grammar_parser.parse))  # a tree that is only read
        patch.setattr(source, "load_config", load)
        patch.setattr(ConfigRepository, "__deepcopy__", lambda self, memo: copy.copy(self), raising=False)
        patch.setattr(loader, "create_defaults_list", defaults_list)
        patch.setattr(loader.ConfigLoaderImpl, "_compose_config_from_defaults_list", merge)
        yield
