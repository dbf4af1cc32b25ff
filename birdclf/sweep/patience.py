"""Ctrl-C in a sweep whose jobs run in processes of their own: the first one waits for what they have at hand."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from birdclf.run_folder import LOCK, is_busy

REACHED: Final = ("hydra_plugins.hydra_joblib_launcher.",)
"""Launchers whose jobs a Ctrl-C in the terminal reaches, and that then kill them without waiting."""
POLL_S: Final = 0.2


class Patience(Callback):
    """Lets jobs end their step and write their snapshot before their launcher may kill them."""

    def __init__(self) -> None:
        self.folder = Path()
        self.before: Any = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take Ctrl-C over if the launcher would not wait."""
        if str(config.hydra.launcher._target_).startswith(REACHED):
            self.folder = Path(config.hydra.sweep.dir)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for a program in the background
                self.before = signal.signal(signal.SIGINT, self._wait)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Give it back."""
        self._give_back()

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        print("waiting for the jobs to keep the step at hand; Ctrl-C again stops at once", flush=True)
        while any(is_busy(lock.parent) for lock in self.folder.glob(f"*/{LOCK}")):
            time.sleep(POLL_S)
        raise KeyboardInterrupt

    def _give_back(self) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
            self.before = None
