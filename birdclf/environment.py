"""Environment variables that libraries read, set before their import, and the allocator's handling of freed memory."""

import ctypes
import functools
import gc
import getpass
import os
import sys
from importlib.util import find_spec
from typing import Final

# Treatment of the variables that the libraries read, each tried in a training:
# - Telemetry: off unless set. Optuna, torch, Lightning and the others send none.
# - MPLBACKEND: Agg in a command; in a program that imports birdclf only where its value would fail.
# - Ranks: removed in a command, but for train in a process that torchrun or srun started. PL_TRAINER_*: removed;
#   settings are in conf/. Other variables of a queue (SLURM_JOB_ID, SLURM_NTASKS) stay: submitit needs them.
# - PYTHONIOENCODING, locale, PYTHONUNBUFFERED: characters that they cannot encode are replaced, see output.py.
# - HOME, MPLCONFIGDIR, XDG_*, NUMBA_*, LIBROSA_*, TMPDIR missing or not writable: the libraries work without them.
# - OMP_NUM_THREADS and the like: as set; libgomp ignores invalid values with a line. CUDA_VISIBLE_DEVICES: as set.
# - USER, LOGNAME: the user's number where it has no name, as in containers; torch names a folder after it.
# - COLUMNS, TERM, NO_COLOR, FORCE_COLOR: as set.
# - PYTHONWARNINGS, PYTHONOPTIMIZE, PL_GLOBAL_SEED, SCIPY_*, SKLEARN_*, HF_*: as set; they change no result.
# - Switches for debugging (TORCH_LOGS, TORCH_DISTRIBUTED_DEBUG, PANDAS_FUTURE, PYTORCH_CUDA_ALLOC_CONF): as set;
#   invalid values end the process in their library.
NO_REPORTS: Final = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "false",
    "DO_NOT_TRACK": "1",
}
"""Variables that turn off the telemetry of ONNX Runtime, Hugging Face, Ray, W&B, MLflow and the like."""
RANKS: Final = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_PROCID", "JSM_NAMESPACE_RANK"),
)
"""Ranks among processes that another program started; if one is not 0, Lightning writes no files."""


def prepare_import() -> None:
    """Turn off telemetry unless it was set, and prevent failures at import; the importing program decides the rest."""
    for name, value in NO_REPORTS.items():
        if not os.environ.get(name):
            os.environ[name] = value
    backend = os.environ.get("MPLBACKEND", "")
    if backend.startswith("module://") and "matplotlib" not in sys.modules and not _found(backend[len("module://") :]):
        os.environ["MPLBACKEND"] = "Agg"
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # it has no name
        os.environ["LOGNAME"] = str(os.getuid()) if hasattr(os, "getuid") else "user"


def launched() -> bool:
    """Return whether ``torchrun`` or ``srun`` started this process, as one of several or alone under ``torchrun``."""
    if "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ:
        return True
    # A batch script without srun has the number of tasks too, but no step.
    several = os.environ.get("SLURM_NTASKS", "1") != "1"
    return several and "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ


def follows() -> bool:
    """Return whether this process trains for another one, of rank 0, which writes the run folder."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "SLURM_PROCID"))
    return launched() and any(rank != "0" for rank in ranks)


def prepare_command(command: str) -> None:
    """Remove settings of the parent process, such as a notebook, a cluster's job or another training."""
    prepare_import()
    os.environ["MPLBACKEND"] = "Agg"
    keep = command == "train" and launched()
    if keep:  # torch's warnings of a connection that is tried again are stack traces
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in list(os.environ):
        if (name in RANKS and not keep) or name.startswith("PL_TRAINER_"):
            del os.environ[name]


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def leave_out_imports() -> None:
    """Leave all that is there at the first call out of garbage collection.

    A full collection goes through every object of torch, Lightning and the others, which takes 0.3 s, once in one or
    two jobs of a sweep. For commands only: what another program holds would not be freed.
    """
    gc.freeze()


M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks instead of giving them back to the kernel.

    Otherwise every activation of every step, and every block of sound, is mapped and zeroed page by page again. Returns
    whether glibc accepted it; other C libraries are unchanged.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
