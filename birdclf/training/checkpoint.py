"""The best checkpoint: its weights for the final figures, and the temperature that is fitted after it was written."""

import os
from pathlib import Path

import torch

from birdclf.training.predictor import Predictor


def load_weights(classifier: Predictor, checkpoint: Path) -> int:
    """Load a checkpoint's weights and return its epoch, from 1; nothing in the file is executed."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    classifier.load_state_dict(content["state_dict"])
    return int(content["epoch"]) + 1


def keep_temperature(checkpoint: Path, temperature: float) -> None:
    """Add a temperature to a checkpoint. The file is replaced whole: nobody ever reads half of it."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    content["birdclf"]["temperature"] = temperature
    temporary = checkpoint.with_name(f"{checkpoint.name}.tmp")
    torch.save(content, temporary)
    os.replace(temporary, checkpoint)
