"""The commands. Only this module knows ``hydra.main``; torch is imported once a command runs."""

import argparse
import difflib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from birdclf import __version__, cores  # noqa: F401, cores measures how busy they are from here on
from birdclf.commands import evaluate as evaluate_command
from birdclf.commands import export as export_command
from birdclf.commands import fetch as fetch_command
from birdclf.commands import predict as predict_command
from birdclf.commands import report as report_command
from birdclf.commands import search as search_command
from birdclf.commands import serve as serve_command
from birdclf.commands import soup as soup_command
from birdclf.commands import suggest as suggest_command
from birdclf.commands import synthesize as synthesize_command
from birdclf.commands import thresholds as thresholds_command
from birdclf.environment import follows, launched, leave_out_imports, prepare_command
from birdclf.errors import UserError
from birdclf.output import prepare_output, take_lost
from birdclf.text import printable

if TYPE_CHECKING:
    from omegaconf import DictConfig


COMPOSED = {
    "train": "train a classifier; settings as KEY=VALUE, see birdclf train --help",
    "prepare": "compute the features of a source into the store; settings as KEY=VALUE",
}
"""Commands that take Hydra overrides, and what each does."""

PLAIN = {
    "synthesize": synthesize_command,
    "fetch": fetch_command,
    "evaluate": evaluate_command,
    "soup": soup_command,
    "report": report_command,
    "thresholds": thresholds_command,
    "predict": predict_command,
    "export": export_command,
    "serve": serve_command,
    "suggest": suggest_command,
    "search": search_command,
}
"""Commands with ordinary arguments, each a module that declares and runs it."""


SHOWING = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info")
"""Options whose output is the whole purpose of the command."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command, given by the words after ``birdclf``; None takes those of the process."""
    words = list(sys.argv[1:] if argv is None else argv)
    prepare_command(words[0] if words else "")
    prepare_output()
    try:
        _run(words)
    finally:
        lost = take_lost()
        broken = isinstance(lost, BrokenPipeError)  # the reader, such as head, has seen enough
        if lost is not None and not broken:
            sys.stderr.write(f"birdclf: standard output did not take all that was printed: {lost.strerror}\n")
        if lost is not None and any(word.partition("=")[0] in SHOWING for word in words):
            sys.exit(141 if broken else 1)


def _run(words: list[str]) -> None:
    if words and words[0] in COMPOSED:
        _guarded(lambda: _composed(words[0], words[1:]))
        return
    parser = _parser()
    commands = [*COMPOSED, *PLAIN]
    if words and not words[0].startswith("-") and words[0] not in commands:
        near = difflib.get_close_matches(words[0], commands, n=1)
        question = f"Did you mean {near[0]}? " if near else ""
        parser.error(f"there is no command {words[0]!r}. {question}The commands are {', '.join(commands)}.")
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help()
        sys.exit(2)
    _guarded(lambda: arguments.run_command(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "birdclf", description="Bird sound classification when the classes are extremely unbalanced."
    )
    parser.add_argument("--version", action="version", version=f"birdclf {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMPOSED.items():
        commands.add_parser(name, help=summary, add_help=False)
    for name, module in PLAIN.items():
        command = commands.add_parser(name, help=module.SUMMARY, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(run_command=module.run)
    return parser


def _composed(command: str, words: list[str]) -> None:
    """Let Hydra compose ``conf/<command>.yaml`` and run the command on it."""
    import hydra

    from birdclf.config import conf_dir
    from birdclf.overrides import text_words

    # Errors arrive here as exceptions instead of being printed by Hydra, which would show a stack trace.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.path.append(os.getcwd())  # a user's own package beside their data: loss._target_=their_package.TheirLoss
    options, settings = _sorted_words(words)
    if rerun := [word for word in options if word.startswith("--e")]:  # Hydra takes any beginning of the name
        raise UserError(
            f"{rerun[0]} opens a pickle, which runs whatever is in it, and is refused. Give the run's command instead: "
            f"its provenance.json has it."
        )
    settings = text_words(command, options, settings)
    sys.argv = [f"birdclf {command}", *options, *settings, *_short_job_names(settings)]
    if options in (["--help"], ["-h"]):
        from birdclf.mistakes import composed_help

        print(composed_help(command, settings))
        return
    from birdclf.sweep.task import Task

    task = Task({"train": _train, "prepare": _prepare}[command])
    if launched() and ("-m" in options or "--multirun" in options):
        raise UserError(
            "torchrun and srun start the processes of one run; a sweep over machines is by Hydra's launchers, such as "
            "hydra/launcher=submitit_slurm. Leave -m out, or start the sweep as one process."
        )
    try:
        with _unwritten_folder() as nowhere:
            sys.argv += nowhere
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)(task)()
    finally:
        if task.error is not None:  # also where Hydra could not start the next job on the same full disk
            raise task.error


@contextmanager
def _unwritten_folder() -> Iterator[list[str]]:
    """Yield the settings that keep a process which trains for another from making a run folder and a log."""
    if not follows():
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        yield [f"hydra.run.dir='{folder}'", "hydra.output_subdir=null", "hydra/job_logging=none"]


TAKE_A_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c")


def _sorted_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Separate options from settings: Hydra takes settings only in one block."""
    options: list[str] = []
    settings: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        (options if word.startswith("-") or before in (*TAKE_A_VALUE, "--info", "-i") else settings).append(word)
    return options, settings


def _short_job_names(settings: list[str]) -> list[str]:
    """Return the override that keeps settings shared by all jobs of a sweep out of their folder names."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from birdclf.config import JOB_NAMING

    try:
        parsed = OverridesParser.create().parse_overrides(settings)
    except HydraException:
        return []  # Hydra will say what is wrong with them
    shared = {str(o.key_or_group) for o in parsed if not o.is_sweep_override()}
    shared |= {"sweep", "resume", "fail_fast"}
    names = sorted(name for name in shared if not name.startswith("hydra"))
    return [f"{JOB_NAMING}=[{','.join(names)}]"]


def _train(cfg: "DictConfig", resume: bool) -> float:
    if cfg.members is not None:
        from birdclf.runs.ensemble import average_members

        return average_members(cfg, resume)
    from birdclf.training.train import train

    leave_out_imports()
    return train(cfg, resume)


def _prepare(cfg: "DictConfig", resume: bool) -> None:
    from birdclf.store.prepare import prepare

    prepare(cfg)


def _guarded(run: Callable[[], Any]) -> None:
    """Run a command; print a user's mistake as one message and leave with status 1."""
    try:
        _check_current_folder()
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.exit(141)
    except Exception as error:
        message = _explained(error)
        if message is None:
            raise
        _fail(message)


def _check_current_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the current folder is gone ({error.strerror}). Change to another one: cd DIR") from error


def _fail(message: str) -> NoReturn:
    message = printable(message, keep="\n")
    sys.stderr.write(f"birdclf: {message}\n")
    sys.exit(1)


def _explained(error: BaseException) -> str | None:
    """Return the message for a user's mistake, or None for a defect, which needs its stack trace."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Could not determine home directory"):  # pathlib's
        return "a path begins with ~, but the home folder is unknown. Write the path in full."
    from birdclf.mistakes import explain  # imports Hydra
    from birdclf.sweep.callbacks import explain_launch

    return explain(error) or explain_launch(error)


if __name__ == "__main__":
    main()
