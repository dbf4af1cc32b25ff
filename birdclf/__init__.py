"""Bird sound classification when the classes are extremely unbalanced."""

__version__ = "0.1.0"
