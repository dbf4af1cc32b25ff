"""The sweeper of searches under a name that Hydra takes."""

from hydra.core.plugins import Plugins

from birdclf.sweep.search import Search


class SearchSweeper(Search):
    """:class:`birdclf.sweep.search.Search`; Hydra builds sweepers of the package ``hydra_plugins`` alone."""

    __module__ = "hydra_plugins.birdclf"


def register() -> None:
    """Make the sweeper known to Hydra; may be called more than once."""
    Plugins.instance().register(SearchSweeper)
