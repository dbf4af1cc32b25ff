"""A run's network to a file, which is verified against the checkpoint before it gets its name."""

import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from birdclf.detection.classifier import OnnxClassifier, TorchClassifier
from birdclf.environment import keep_freed_memory
from birdclf.errors import UserError
from birdclf.export import OTHER_FILE
from birdclf.export.formats import Program, is_head, metadata_of, require_onnx, write_onnx, write_program
from birdclf.export.verification import OwnRecordings, SoundWindow, compare, own_recordings, windows_of_files
from birdclf.features.embedders.embedder import Embedder
from birdclf.files import refuse_existing, writing_to
from birdclf.runs.checkpoint import LoadedRun, load_run
from birdclf.text import printable


@dataclass(frozen=True)
class Origin:
    """A run to export, and the recordings that verify the export."""

    run: Path
    checkpoint: str = "best"
    verify: Sequence[str] = ()  # recordings that an export is verified on; none for the run's own validation split
    source: Sequence[str] = ()  # settings that say where the run's recordings are now
    trusted: Collection[str] = ()
    embedder: Path | None = None  # where the file of its frozen network is now

    def load(self) -> LoadedRun:
        """Return the checkpoint's content, read again at every call: an export changes it."""
        return load_run(self.run, self.checkpoint, self.trusted, self.embedder)

    def reference(self) -> TorchClassifier:
        """Return the checkpoint as ``birdclf predict`` uses it."""
        file = self.run / "checkpoints" / f"{self.checkpoint}.ckpt"
        return TorchClassifier(self.load(), file, "cpu", self.trusted)

    def own(self, reference: TorchClassifier) -> OwnRecordings:
        """Return the run's own recordings."""
        return own_recordings(self.run, reference.input_spec, self.source, self.trusted)

    def sounds(self, reference: TorchClassifier, own: OwnRecordings | None) -> Iterator[SoundWindow]:
        """Return the windows that an export is verified on.

        Raises:
            UserError: If there is none.
        """
        sounds = (
            windows_of_files(self.verify, reference.input_spec)
            if self.verify
            else (own or self.own(reference)).some("val")
        )
        return chain([next(sounds)], sounds)  # before tracing, which takes a minute: there may be none


def export_network(origin: Origin, form: str, out: Path, int8: bool = False) -> None:
    """Write a run as an ``onnx`` file, which ``birdclf predict`` reads like the run, or as a ``torch_export`` file.

    Raises:
        UserError: If something is missing, the file exists or cannot be written, or its output differs from the
            checkpoint's; or for ``int8`` of a head.
    """
    if form == "onnx":
        require_onnx()
    keep_freed_memory()
    reference = origin.reference()
    features = reference.module.features
    frozen = features if isinstance(features, Embedder) else None
    head = is_head(origin.load(), form)
    if int8 and frozen is not None:
        raise UserError(
            f"--quantize int8 is for a network that was trained here; {frozen.file.name} is frozen, and the head on it "
            f"is too small to gain by it. Leave it out."
        )
    own = origin.own(reference) if int8 else None
    sounds = origin.sounds(reference, own)
    with _beside(out) as folder:
        loaded, file = origin.load(), folder / out.name
        metadata = metadata_of(loaded, reference.input_spec, head=head)
        exported: Program | OnnxClassifier
        if form == "onnx":
            network = write_onnx(loaded, metadata, file)
            exported = OnnxClassifier(file, "cpu", frozen.file if frozen and head else None)
        else:
            write_program(loaded, metadata, file)
            exported = Program(file, frozen)
        agreement = compare(reference, exported, sounds)
        agreement.check(form)
        print(f"{form} against the checkpoint, {agreement}")
        if isinstance(exported, OnnxClassifier) and own is not None:
            from birdclf.export.quantisation import CALIBRATION, calibration_windows, cost, quantise

            windows = calibration_windows(own.middles("train", CALIBRATION))
            smaller = folder / f"int8_{out.name}"
            quantise(file, network, windows, metadata_of(loaded, reference.input_spec, "int8"), smaller)
            print(cost(exported, OnnxClassifier(smaller, "cpu"), own.middles("val")))
            file = smaller
        refuse_existing(out, OTHER_FILE)  # minutes have passed
        os.replace(file, out)
    if frozen is not None:
        _tell(frozen, out, head)


def _tell(frozen: Embedder, out: Path, head: bool) -> None:
    """Say which file goes with an export, and under which licence."""
    licence = (
        f"Its weights are under {frozen.licence}." if frozen.licence else "The licence of its weights is not known."
    )
    place = f"{out.name} takes the vectors of" if head else f"{out.name} holds"
    print(f"{place} {printable(frozen.file.name)} (hash {frozen.content_hash}). {licence}")
    if head and out.suffix == ".onnx":
        file = "" if frozen.settings["file"] is None else " --embedder FILE"
        print(f"Both together: birdclf predict {out.name} AUDIO{file}")


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Yield a temporary folder on the disk of a new file; it is removed, as is an empty parent created here."""
    refuse_existing(out, OTHER_FILE)
    made = not out.parent.exists()
    with writing_to(out.parent, "or choose another place with --out."):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=".export.", dir=out.parent) as folder:
                yield Path(folder)
        finally:
            if made:
                with suppress(OSError):  # not empty: it holds the file
                    out.parent.rmdir()
