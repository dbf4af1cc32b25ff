"""Codes of targets that every room shares."""

from typing import Final, Literal

Task = Literal["single_label", "multi_label"]
"""One species a recording, or a set of species that may be empty."""

NONE: Final = "none"
"""Species of a recording in which none of the classes is heard: in ``single_label`` a class like any other."""
MASKED: Final = -1
"""Target of a class of which is not known whether it is heard: left out of loss and figures."""
