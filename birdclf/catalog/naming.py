"""Names of files and folders that are made of what others wrote."""

import re
from typing import Final

LONGEST_BYTES: Final = 200  # file systems take 255, an ending and a hash come on top
RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""


def safe_name(text: str) -> str:
    """Return a name that is one on every file system and leads to no other folder; empty if nothing is left of it."""
    kept = re.sub(r"[^\w.\- ]", "_", text).strip(" .")
    cut = kept.encode("utf-8")[:LONGEST_BYTES].decode("utf-8", errors="ignore").rstrip(" .")
    return f"_{cut}" if RESERVED.fullmatch(cut) else cut
