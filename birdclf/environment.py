"""What a process inherits, decided before a library reads it: variables, and how freed memory is kept."""

import ctypes
import getpass
import os
import sys
from importlib.util import find_spec
from typing import Final

# What was decided of the variables that the libraries read, each tried in a training:
# - Reports of use: off unless set. Optuna, torch, Lightning and the others report nothing.
# - MPLBACKEND: Agg in a command; in a program that imports birdclf only where its value would fail.
# - Ranks and PL_TRAINER_*: gone in a command. A run is one process and those that it starts; settings are in conf/.
#   What a queue says beside (SLURM_JOB_ID, SLURM_NTASKS) stays: Lightning is told to pass over it, submitit needs it.
# - PYTHONIOENCODING, locale, PYTHONUNBUFFERED: what they cannot show is replaced, see output.py.
# - HOME, MPLCONFIGDIR, XDG_*, NUMBA_*, LIBROSA_*, TMPDIR not there or not writable: the libraries do without.
# - OMP_NUM_THREADS and its kind: as set; nonsense is passed over, by libgomp with a line. CUDA_VISIBLE_DEVICES: as set.
# - USER, LOGNAME: the user's number where it has no name, as in containers; torch names a folder by it.
# - COLUMNS, TERM, NO_COLOR, FORCE_COLOR: as set.
# - PYTHONWARNINGS, PYTHONOPTIMIZE, PL_GLOBAL_SEED, SCIPY_*, SKLEARN_*, HF_*: as set; they change no result.
# - Switches for debugging (TORCH_LOGS, TORCH_DISTRIBUTED_DEBUG, PANDAS_FUTURE, PYTORCH_CUDA_ALLOC_CONF): as set;
#   nonsense in them ends the process in their library.
NO_REPORTS: Final = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "false",
    "DO_NOT_TRACK": "1",
}
"""What keeps ONNX Runtime, Hugging Face, Ray, W&B, MLflow and their like from reporting their use."""
RANKS: Final = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_PROCID", "JSM_NAMESPACE_RANK"),
)
"""Places among processes that someone else started; Lightning leaves files out, or fails, where one is not 0."""


def prepare_import() -> None:
    """Keep libraries from reporting their use, unless somebody has set otherwise, and from failing at import.

    The rest is left to the program that imports the package.
    """
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


def prepare_command() -> None:
    """Set a process that is ours apart from what started it: a notebook, a cluster's job, another training."""
    prepare_import()
    os.environ["MPLBACKEND"] = "Agg"
    for name in list(os.environ):
        if name in RANKS or name.startswith("PL_TRAINER_"):
            del os.environ[name]


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks instead of giving them back to the kernel.

    Otherwise every activation of every step, and every block of sound, is mapped and zeroed page by page anew. Returns
    whether glibc took it; other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
