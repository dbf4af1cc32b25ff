"""Processes that train one run together, on one machine or several.

``torchrun`` or ``srun`` starts them, or on one machine torch's own launcher. All train; the process of rank 0 alone
writes the run folder and evaluates.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import birdclf
from birdclf.checks import is_whole
from birdclf.config import resolved_config
from birdclf.environment import launched, prepare_import
from birdclf.errors import UserError
from birdclf.files import digest
from birdclf.output import prepare_output
from birdclf.runs.state import BusyError

AUTO: Final = "auto"
TIMEOUT_S: Final = 600.0
"""Longest time that a process waits for another, unless ``trainer.timeout_s`` says otherwise."""
RESUME: Final = "The same command with resume=true continues from the last snapshot."


@dataclass(frozen=True)
class Group:
    """Processes that train one run together.

    Attributes:
        devices: Devices of each machine, a number or a list of GPUs; each has a process of its own.
        nodes: Machines.
        environment: How the processes find each other; None where they are not started yet.
    """

    devices: int | list[int] = 1
    nodes: int = 1
    environment: ClusterEnvironment | None = None

    @property
    def count(self) -> int:
        """Processes in all."""
        return _number(self.devices) * self.nodes

    @property
    def rank(self) -> int:
        """Rank of this process."""
        return 0 if self.environment is None else self.environment.global_rank()


def group_of(settings: Mapping[str, Any]) -> Group:
    """Return the processes that ``trainer.*`` asks for, or that ``torchrun`` or ``srun`` has started.

    Args:
        settings: ``devices``, ``num_nodes``, ``strategy`` and ``accelerator`` of ``trainer.*``.

    Raises:
        UserError: If one is out of range, or they contradict each other or the launcher.
    """
    devices, nodes, strategy = (settings.get(name, AUTO) for name in ("devices", "num_nodes", "strategy"))
    if strategy not in (AUTO, "ddp"):
        raise UserError(f"trainer.strategy is {strategy!r}; it must be auto (one device) or ddp (several).")
    if devices != AUTO and not _is_devices(devices):
        raise UserError(f"trainer.devices is {devices!r}; it must be auto, a number from 1, or GPUs such as [0,1].")
    if nodes != AUTO and not (is_whole(nodes) and nodes >= 1):
        raise UserError(f"trainer.num_nodes is {nodes!r}; it must be auto or a number from 1.")
    environment = _environment()
    if strategy == AUTO:
        if environment is not None and environment.world_size() > 1:
            raise UserError(
                f"{environment.world_size()} processes were started for this run, but trainer.strategy=auto trains in "
                f"one. Add trainer=ddp, or start one process."
            )
        if nodes not in (AUTO, 1) or (devices != AUTO and _number(devices) > 1):
            name, value = ("num_nodes", nodes) if nodes not in (AUTO, 1) else ("devices", devices)
            raise UserError(f"trainer.{name} is {value}: several processes train together by trainer=ddp.")
        return Group(1 if devices == AUTO else devices)
    if environment is None:
        if nodes not in (AUTO, 1):
            raise UserError(
                f"trainer.num_nodes is {nodes}, but this process was not started for several machines. Start it on "
                f"each by torchrun or srun: docs/scale.md has the commands."
            )
        return Group(_devices_here(settings.get("accelerator", AUTO)) if devices == AUTO else devices)
    here = _started_here(environment)
    machines = environment.world_size() // here
    for name, given, started in (("devices", devices, here), ("num_nodes", nodes, machines)):
        if given != AUTO and _number(given) != started:
            raise UserError(
                f"trainer.{name} is {given}, but the launcher started {here} processes on each of {machines} machines. "
                f"Leave trainer.{name} out, or start as many."
            )
    return Group(here if devices == AUTO else devices, machines, environment)


def _is_devices(devices: Any) -> bool:
    if isinstance(devices, int):
        return is_whole(devices) and devices >= 1
    return isinstance(devices, Sequence) and not isinstance(devices, str) and len(devices) > 0


def _number(devices: int | Sequence[int]) -> int:
    return devices if isinstance(devices, int) else len(devices)


def _devices_here(accelerator: str) -> int:
    gpus = torch.cuda.device_count() if accelerator in (AUTO, "gpu", "cuda") else 0
    return gpus or 2


def _environment() -> ClusterEnvironment | None:
    """Return Lightning's environment of the launcher that started this process, None if there is none."""
    if not launched():
        return None
    try:
        environment: ClusterEnvironment
        if TorchElasticEnvironment.detect():
            environment = TorchElasticEnvironment()
        else:
            environment = SLURMEnvironment(auto_requeue=False)
        numbers = (environment.world_size(), environment.global_rank(), _started_here(environment))
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"torchrun or srun started this process, but its variables cannot be used: {error}. Start it by "
            f"torchrun, or by srun with --ntasks-per-node."
        ) from error
    world, rank, here = numbers
    if not 0 <= rank < world or here < 1 or world % here:
        raise UserError(
            f"this is process {rank} of {world}, {here} on each machine: every machine must have as many processes."
        )
    return environment


def _started_here(environment: ClusterEnvironment) -> int:
    if isinstance(environment, TorchElasticEnvironment):
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return environment.world_size() // int(os.environ["SLURM_NNODES"])


def processes() -> int:
    """Return the number of processes that are connected."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def value_of_each(value: Any) -> list[Any]:
    """Return a plain value of every process, in the order of their ranks."""
    if processes() == 1:
        return [value]
    values: list[Any] = [None] * processes()
    dist.all_gather_object(values, value)
    return values


def first_value(value: Mapping[str, Any], alike: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the value of the process of rank 0, once all have shown that they train the same.

    Args:
        value: What rank 0 tells the others.
        alike: What must be equal in all, by what it is called.

    Raises:
        UserError: In the process of rank 0, if a process differs; it names the first one.
        SystemExit: In the others.
    """
    each = value_of_each((socket.gethostname(), value, alike))
    host, first, expected = each[0]
    for rank, (other_host, _, other) in enumerate(each):
        for name in sorted(expected.keys() | other.keys()):
            if (was := other.get(name)) != expected.get(name):
                if dist.get_rank():
                    raise SystemExit(1)
                raise UserError(
                    f"process {rank} on {other_host} has other {name} than process 0 on {host}: {was} instead of "
                    f"{expected.get(name)}. Start all with the same command, code and recordings."
                )
    return first  # type: ignore[no-any-return]


@contextlib.contextmanager
def connected(group: Group, connect: Callable[[], None], timeout_s: float) -> Iterator[None]:
    """Connect the processes of a group for the body.

    Args:
        group: The processes.
        connect: Makes torch's process group, and waits for the others.
        timeout_s: Longest time to wait for the others.

    Raises:
        UserError: If one does not come in time, the port is in use, or one is lost in the body.
    """
    if group.count == 1:
        yield
        return
    assert group.environment is not None
    try:
        connect()
    except (RuntimeError, OSError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            why = f"port {place} is in use. Choose another by MASTER_PORT"
        else:
            why = (
                f"not all of the {group.count} processes came to {place} within {timeout_s:g} s (trainer.timeout_s). "
                f"Look at the output of the others, and whether each machine reaches that address"
            )
        raise UserError(f"process {group.rank} of the training could not connect: {why}.") from error
    try:
        yield
    except RuntimeError as error:
        if processes() == 1 or not _is_lost(error):
            raise
        if group.environment.local_rank():  # its neighbour says it
            raise SystemExit(1) from error
        raise UserError(
            f"another process of this training ended, or did not answer for {timeout_s:g} s (trainer.timeout_s); its "
            f"own output says why. {RESUME}"
        ) from error
    disconnect()  # after an error the others notice by the end of this process, when it has said why


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "onnection"))


def code_hash() -> str:
    """Return the hash of this package's modules."""
    folder = Path(birdclf.__file__).parent
    return digest(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py"))))


def disconnect() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def run_processes(group: Group, run: Callable[[DictConfig, bool], float], cfg: DictConfig, resume: bool) -> float:
    """Run a training in processes of its own on this machine, by torch's elastic launcher.

    Args:
        group: The processes, not started yet.
        run: Trains in each of them; importable by its name.
        cfg: Composed ``conf/train.yaml``.
        resume: Passed to ``run``.

    Returns:
        What it returned in the process of rank 0.

    Raises:
        UserError: If a process was lost, or what it raised in the one that failed first.
        RuntimeError: Of a defect, with its stack trace.
        KeyboardInterrupt: On Ctrl-C, once they have ended.
    """
    hydra = HydraConfig.instance().cfg
    threads = max(1, torch.get_num_threads() // group.count)
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    handlers = {number: signal.getsignal(number) for number in signals}
    for name in list(logging.root.manager.loggerDict):  # each has a level of its own, and prints stack traces
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).disabled = True
    with tempfile.TemporaryDirectory() as errors:
        launch = elastic_launch(
            LaunchConfig(
                min_nodes=1, max_nodes=1, nproc_per_node=group.count, run_id="birdclf", rdzv_backend="c10d",
                rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", max_restarts=0,
            ),
            _run_process,
        )  # fmt: skip
        try:
            scores = launch(run, OmegaConf.create(resolved_config(cfg)), resume, hydra, sys.argv, threads, errors)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            reports = sorted(Path(errors).iterdir(), key=lambda file: file.stat().st_mtime_ns)
            if reports and failure.exitcode >= 0:  # one that was killed is the reason for what the others raise
                kind, message = json.loads(reports[0].read_text())
                raise {"BusyError": BusyError, "UserError": UserError}.get(kind, RuntimeError)(message) from None
            raise UserError(
                f"process {rank} of the training ended before its time: {_ending(failure.exitcode)}. {RESUME}"
            ) from error
        except SignalException as stopped:
            if stopped.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + stopped.sigval)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return float(scores[0])


def _ending(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _run_process(
    run: Callable[[DictConfig, bool], float],
    cfg: DictConfig,
    resume: bool,
    hydra: Any,
    words: list[str],
    threads: int,
    errors: str,
) -> float:
    """Run one process of :func:`run_processes`; an error is left for the process that started it."""
    os.setsid()  # Ctrl-C in a terminal goes to the launcher alone, which passes it on once
    prepare_import()
    prepare_output()
    rank = int(os.environ["RANK"])
    sys.argv = words
    torch.set_num_threads(threads)
    if hydra is not None:
        setup_globals()
        HydraConfig.instance().cfg = hydra
        if rank == 0:
            configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
    try:
        return run(cfg, resume)
    except Exception as error:
        kind = next((kind.__name__ for kind in (BusyError, UserError) if isinstance(error, kind)), "")
        message = str(error) if kind else traceback.format_exc()
        (Path(errors) / str(rank)).write_text(json.dumps([kind, message]))
        raise


def be_silent() -> None:
    """Leave what a user reads to the process of rank 0."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
