"""Hydra takes sweepers from this namespace alone, and imports what is in it at every start: keep it light."""

from birdclf.sweep.search import Search


class SearchSweeper(Search):
    """:class:`birdclf.sweep.search.Search`, where Hydra finds it."""
