"""Bird sound classification when the classes are extremely unbalanced."""

from typing import TYPE_CHECKING, Any

from birdclf.environment import prepare_import

if TYPE_CHECKING:
    from birdclf.detection.detector import load as load

__version__ = "0.1.0"
__all__ = ["load"]

prepare_import()


def __getattr__(name: str) -> Any:
    """Import what takes torch only where it is asked for: the command line and worker processes begin without."""
    if name == "load":
        from birdclf.detection.detector import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
