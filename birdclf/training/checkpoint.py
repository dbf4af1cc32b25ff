"""Checkpoints on the disk: written whole or not at all, read without running anything in them or any Lightning."""

import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import torch
from torch import nn

from birdclf.disk import refuse_pointer
from birdclf.errors import UserError

CHECKPOINT_FORMAT: Final = 1
LAST: Final = "last.ckpt"
BEFORE: Final = "before_last.ckpt"


def write_whole(content: dict[str, Any], path: Path) -> None:
    """Write a temporary file beside a checkpoint, and put it in its place once the disk has it.

    Raises:
        OSError: If it cannot be written; what was there before still is.
    """
    path.parent.mkdir(exist_ok=True)  # not the run folder above: where that is gone, another must not take its place
    memory = io.BytesIO()  # torch's own writer reports a full disk as an error of its format
    torch.save(content, memory)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(memory.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            os.replace(path, path.with_name(BEFORE))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def opened(file: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU; nothing in it is executed.

    Raises:
        UserError: If it cannot be read, is a Git LFS pointer, or holds more than weights and plain values.
    """
    refuse_pointer(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on how a file is pickled that is about to be refused
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} holds more than weights and plain values: opening it could run code, so it is refused, and "
            f"nothing of it was executed. Do not use this file unless you know who made it."
        ) from error
    except (RuntimeError, EOFError, BadZipFile, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{file} cannot be read as a checkpoint; it may be cut short: {reason}. Copy it again, or use another one."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is no checkpoint of birdclf: it holds a {type(content).__name__}.")
    return content


def load_weights(classifier: nn.Module, checkpoint: Path) -> int:
    """Load a checkpoint's weights and return its epoch, from 1; nothing in the file is executed.

    Raises:
        UserError: If it cannot be read, or holds the weights of something else.
    """
    content = opened(checkpoint)
    try:
        classifier.load_state_dict(content["state_dict"])
        return int(content["epoch"]) + 1
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{checkpoint} does not hold the weights of this run. Restore it, or train anew.") from error


def keep_fitted(checkpoint: Path, temperature: float, adjustment: dict[str, Any] | None = None) -> None:
    """Add a temperature to a checkpoint, and an adjustment of logits as plain values.

    Raises:
        UserError: If it cannot be read.
    """
    content = opened(checkpoint)
    content["birdclf"] |= {"temperature": temperature, "adjustment": adjustment}
    write_whole(content, checkpoint)
