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
from birdclf.export import OTHER_FILE
from birdclf.export.formats import Program, metadata_of, require_onnx, write_onnx, write_program
from birdclf.export.verification import OwnRecordings, SoundWindow, compare, own_recordings, windows_of_files
from birdclf.files import refuse_existing, writing_to
from birdclf.runs.checkpoint import LoadedRun, load_run


@dataclass(frozen=True)
class Origin:
    """A run to export, and the recordings that verify the export."""

    run: Path
    checkpoint: str = "best"
    verify: Sequence[str] = ()  # recordings that an export is verified on; none for the run's own validation split
    source: Sequence[str] = ()  # settings that say where the run's recordings are now
    trusted: Collection[str] = ()

    def load(self) -> LoadedRun:
        """Return the checkpoint's content, read again at every call: an export changes it."""
        return load_run(self.run, self.checkpoint, self.trusted)

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
            checkpoint's.
    """
    if form == "onnx":
        require_onnx()
    keep_freed_memory()
    reference = origin.reference()
    own = origin.own(reference) if int8 else None
    sounds = origin.sounds(reference, own)
    with _beside(out) as folder:
        loaded, file = origin.load(), folder / out.name
        metadata = metadata_of(loaded, reference.input_spec)
        exported: Program | OnnxClassifier
        if form == "onnx":
            network = write_onnx(loaded, metadata, file)
            exported = OnnxClassifier(file, "cpu")
        else:
            write_program(loaded, metadata, file)
            exported = Program(file)
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
