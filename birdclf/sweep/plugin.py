"""The sweeper of searches where Hydra takes it from: it builds plugins of the package ``hydra_plugins`` alone."""

import sys
from types import ModuleType
from typing import Final

from hydra.core.plugins import Plugins

from birdclf.sweep.search import Search

NAMESPACE: Final = "hydra_plugins"
"""Package that Hydra looks for launchers and sweepers in."""


class SearchSweeper(Search):
    """:class:`birdclf.sweep.search.Search` under a name that Hydra trusts."""

    __module__ = f"{NAMESPACE}.birdclf"


def register() -> None:
    """Make the sweeper known to Hydra, by class and by name; may be called more than once."""
    Plugins.instance().register(SearchSweeper)
    if NAMESPACE not in sys.modules:  # no other plugin is installed
        sys.modules[NAMESPACE] = ModuleType(NAMESPACE)
        sys.modules[NAMESPACE].__path__ = []
    sys.modules[SearchSweeper.__module__] = sys.modules[__name__]
