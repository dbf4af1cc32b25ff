"""Where a run comes from, in ``provenance.json``: command, versions, machine, catalog, split and seed."""

import hashlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig

import birdclf
from birdclf.catalog.catalog import Catalog
from birdclf.config import JOB_NAMING
from birdclf.training.start import file_hash, source_file

PACKAGES = ("lightning", "torchmetrics", "numpy", "pandas", "librosa", "hydra-core")


def write_provenance(
    folder: Path, catalog: Catalog, split: pd.DataFrame, seed: int, init_from: str | None = None
) -> None:
    """Write what repeating a run takes. It names neither user nor host: a path below the home folder starts with ``~``.

    Args:
        folder: The run folder.
        catalog: Recordings of the source.
        split: ``recording_id`` and ``split`` of the recordings that are used.
        seed: The run's seed.
        init_from: Run folder or file that the first weights come from; None draws them.
    """
    command, overrides = _words()
    content = {
        "command": command,
        "overrides": overrides,
        "versions": {
            "birdclf": birdclf.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,  # with the CUDA build, which the package's own version leaves out
            **{name: version(name) for name in PACKAGES},
        },
        "machine": _machine(),
        "catalog": {
            "name": _nameless(catalog.name),
            "content_hash": catalog.content_hash,
            "recordings": len(catalog),
            "species": len(catalog.classes),
        },
        "split_hash": split_hash(split),
        "seed": seed,
        "init_from": _start(init_from) if init_from is not None else None,
    }
    (folder / "provenance.json").write_text(json.dumps(content, indent=1))


def split_hash(split: pd.DataFrame) -> str:
    """Return the hash of which recording is in which split, whatever the order of the rows.

    Args:
        split: ``recording_id`` and ``split``.
    """
    rows = sorted(zip(split.recording_id, split.split, strict=True))
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=12).hexdigest()


def _start(init_from: str) -> dict[str, str]:
    file = source_file(init_from)
    return {"file": _nameless(str(file)), "content_hash": file_hash(file)}


def _words() -> tuple[list[str], list[str]]:
    """Return the command as it was typed and the overrides of this job; both empty when called from Python."""
    if not HydraConfig.initialized():
        return [], []
    typed = [*sys.argv[0].split(), *sys.argv[1:]]
    overrides = [str(word) for word in HydraConfig.get().overrides.task]
    return [_nameless(word) for word in typed if not word.startswith(JOB_NAMING)], [_nameless(o) for o in overrides]


def _nameless(text: str) -> str:
    home = os.path.expanduser("~")  # itself where nobody knows a home
    return text if home == os.sep else text.replace(home + os.sep, f"~{os.sep}")


def _machine() -> dict[str, Any]:
    """Return what decides speed, and None for what the system does not tell."""
    try:
        memory_gb = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        memory_gb = None
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gb": memory_gb,
        "gpu": gpu or ("Apple MPS" if torch.backends.mps.is_available() else None),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
