"""A run's network made ready to be traced, and a tracer that keeps quiet."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Final

import torch
from torch import Tensor
from torch.export import Dim

from birdclf.errors import UserError
from birdclf.inference.checkpoint import LoadedRun
from birdclf.inference.waveforms import WaveformClassifier

DYNAMIC: Final = {"waveforms": {0: Dim("batch", min=1)}}


def traceable(loaded: LoadedRun) -> tuple[WaveformClassifier, tuple[Tensor]]:
    """Return the module of a run and inputs to trace it with: sound in, calibrated probabilities and embeddings out.

    Args:
        loaded: What the checkpoint holds; its features compute spectra by matrix products from now on.
    """
    features = loaded.predictor.features
    features.without_fft()
    module = WaveformClassifier(loaded, channels_last=False).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    # Two windows: a batch of one would be taken for a constant.
    return module, (0.1 * torch.randn(2, features.frames * features.hop, generator=generator),)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what tracers print, log and warn of from the screen."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(disabled)


def cannot_be_traced(loaded: LoadedRun, error: Exception) -> UserError:
    """Return what to tell the user of a network that depends on values in a way that no graph can hold."""
    name = type(loaded.predictor.network).__name__
    causes = [error]
    while isinstance(cause := causes[-1].__cause__, Exception):
        causes.append(cause)
    said = next((line for line in str(causes[-1]).splitlines() if line.strip()), type(causes[-1]).__name__)
    return UserError(
        f"The network {name} cannot be exported: {said.strip()[:200]} Its forward must not depend on the values of its "
        f"input; birdclf predict uses the run folder as it is."
    )
