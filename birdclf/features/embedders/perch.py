"""Perch 2 as features (van Merriënboer et al., 2025), from an ONNX file that the user brings."""

from typing import ClassVar

from birdclf.features.embedders.embedder import Embedder


class Perch(Embedder):
    """Embeddings of Perch 2: 32 kHz, windows of 5 s scaled to a peak of 0.25, 1,536 values.

    Args:
        file: An ONNX file whose input is ``(B, 160000)`` and which has an output ``embedding``.
        hop_s: Seconds from the beginning of one window to that of the next, at most 5.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``.
        output: Name of the output.
        content_hash: Hash that the file must have; None for any. A checkpoint has it.
        width: Values of the vector; None asks the file. A checkpoint has it.

    Raises:
        UserError: If a setting is out of range, or the file is missing, is no network or does not fit.
    """

    stored_as: ClassVar = "perch-2-1"
    licence = "Apache-2.0"

    def __init__(
        self,
        file: str,
        hop_s: float = 5.0,
        padding: str = "silence",
        output: str = "embedding",
        content_hash: str | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__(
            file, 32_000, 5.0, hop_s, None, output, peak=0.25, padding=padding, content_hash=content_hash, width=width
        )
        kept = ("file", "hop_s", "padding", "output", "content_hash", "width")
        self.settings = {name: self.settings[name] for name in kept}
