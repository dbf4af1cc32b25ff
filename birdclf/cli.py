"""The commands. Only this module knows ``hydra.main``; torch is imported once a command runs."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from omegaconf import DictConfig

from birdclf import __version__
from birdclf.errors import UserError
from birdclf.report.command import add_arguments as add_report_arguments

COMPOSED = {
    "train": "train a classifier; settings as KEY=VALUE, see birdclf train --help",
    "prepare": "compute the features of a source into the store; settings as KEY=VALUE",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        argv: The words after ``birdclf``; None takes those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMPOSED:
        _guarded(lambda: _composed(words[0], words[1:]))
        return
    parser = _parser()
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
    synthesize = commands.add_parser(
        "synthesize",
        help="write the procedural aviary as sound files",
        description="Write the procedural aviary as a folder a species, with a manifest.",
    )
    synthesize.add_argument("out", help="folder to write, which must be new or empty")
    synthesize.add_argument("--scale", type=float, default=0.02, help="share of the published counts (0.02)")
    synthesize.add_argument("--num-species", type=int, default=None, help="how many species (all 90)")
    synthesize.add_argument("--sample-rate", type=int, default=32_000, metavar="HZ", help="rate of the files (32000)")
    synthesize.add_argument("--format", choices=("flac", "wav", "ogg"), default="flac", help="kind of file (flac)")
    synthesize.set_defaults(run_command=_synthesize)
    fetch = commands.add_parser("fetch", help="fetch recordings from a public archive")
    archives = fetch.add_subparsers(dest="archive", metavar="ARCHIVE", required=True)
    xeno_canto = archives.add_parser(
        "xeno-canto",
        help="xeno-canto.org",
        description="Fill a folder with the recordings that a Xeno-canto query finds. Run again, it goes on where it "
        "was stopped.",
        epilog="The environment variable XENO_CANTO_KEY holds your key (https://xeno-canto.org/account); "
        "BIRDCLF_XENO_CANTO_URL names another server, for mirrors and tests.",
    )
    xeno_canto.add_argument("query", help="terms with tags, such as 'gen:turdus q:A' or 'sp:\"larus fuscus\" q:A'")
    xeno_canto.add_argument("--out", required=True, metavar="DIR", help="folder to fill; it may hold earlier ones")
    xeno_canto.add_argument("--limit", type=int, default=None, metavar="N", help="recordings to have at most (all)")
    xeno_canto.set_defaults(run_command=_fetch_xeno_canto)
    _add_evaluate(commands)
    report = commands.add_parser(
        "report",
        help="compare runs and sweeps",
        description="Write report.md, report.html and comparison.csv on run folders and sweeps: what is better than "
        "what, how surely, for which species, and what the mistakes sound like.",
    )
    add_report_arguments(report)
    report.set_defaults(run_command=_report)
    return parser


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="judge a run's checkpoint again",
        description="Predict with a run's checkpoint. With nothing changed the figures have to be those of its "
        "metrics.json, else the exit status is 1; with another checkpoint, window or source they are written to a "
        "folder of their own.",
    )
    evaluate.add_argument("run", metavar="RUN", help="run folder")
    evaluate.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which weights (best)")
    evaluate.add_argument(
        "--window", choices=("first", "center", "loudest", "all"), help="window of a recording (as in the run)"
    )
    evaluate.add_argument(
        "--source", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="where the run's recordings are now (data.root=DIR), or another source with the same species, all of it "
        "test (data=folder data.root=DIR)",
    )  # fmt: skip
    evaluate.add_argument("--out", metavar="DIR", help="new folder for the figures (RUN/evaluations/NAME)")
    evaluate.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="package whose network a checkpoint may name"
    )
    evaluate.set_defaults(run_command=_evaluate)


def _synthesize(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from birdclf.catalog.export import export_audio
    from birdclf.catalog.synthetic import synthetic_catalog

    try:
        catalog = synthetic_catalog(scale=arguments.scale, num_species=arguments.num_species)
    except UserError as error:  # worded for the configuration
        raise UserError(str(error).replace("data.num_species", "--num-species").replace("data.", "--")) from error
    manifest = export_audio(catalog, Path(arguments.out), sample_rate_hz=arguments.sample_rate, format=arguments.format)
    print(f"{len(catalog)} recordings of {len(catalog.classes)} species; train on them with")
    print(f"  birdclf train data=manifest data.path={manifest}")


def _fetch_xeno_canto(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from birdclf.catalog.fetch.access import key_from_environment
    from birdclf.catalog.fetch.client import XenoCantoClient
    from birdclf.catalog.fetch.download import fetch_xeno_canto

    out = Path(arguments.out).expanduser()
    with XenoCantoClient(key_from_environment()) as client:
        done = fetch_xeno_canto(client, arguments.query, out, arguments.limit)
    print(f"{done.found} recordings found: {done.new} fetched, {done.already} there already, {done.skipped} skipped")
    if done.skipped:
        print(f"  {out / 'skipped.csv'} says why")
    print(f"Licences are in {out / 'recordings.csv'}; train with")
    print(f"  birdclf train data=xeno_canto data.root={out}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from birdclf.inference.evaluate import evaluate

    sys.path.append(os.getcwd())  # a user's own source or network, as in training
    out = Path(arguments.out).expanduser() if arguments.out else None
    run = Path(arguments.run).expanduser()
    if not evaluate(run, arguments.checkpoint, arguments.window, arguments.source, out, arguments.trust):
        sys.exit(1)


def _report(arguments: argparse.Namespace) -> None:
    from birdclf.report.command import run

    run(arguments)


def _composed(command: str, words: list[str]) -> None:
    """Let Hydra compose ``conf/<command>.yaml`` and run the command on it."""
    import hydra

    from birdclf.config import conf_dir

    # Errors arrive here as exceptions instead of being printed by Hydra, which would show a stack trace.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.path.append(os.getcwd())  # a user's own package beside their data: loss._target_=their_package.TheirLoss
    options, settings = _sorted_words(words)
    sys.argv = [f"birdclf {command}", *options, *settings, *_short_job_names(settings)]
    from birdclf.sweep.task import Task

    task = Task({"train": _train, "prepare": _prepare}[command])
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)(task)()
    if task.error is not None:
        raise task.error


TAKE_A_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c")


def _sorted_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return options and settings apart: Hydra takes settings only in one block."""
    options: list[str] = []
    settings: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        (options if word.startswith("-") or before in (*TAKE_A_VALUE, "--info") else settings).append(word)
    return options, settings


def _short_job_names(settings: list[str]) -> list[str]:
    """Return the override that keeps out of a job's folder name what all jobs of a sweep share."""
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
    from birdclf.training.train import train

    return train(cfg, resume)


def _prepare(cfg: "DictConfig", resume: bool) -> None:
    from birdclf.features.prepare import prepare

    prepare(cfg)


def _guarded(run: Callable[[], Any]) -> None:
    """Run a command; print a user's mistake as one message and leave with status 1."""
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        message = _explained(error)
        if message is None:
            raise
        _fail(message)


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"birdclf: {message}\n")
    sys.exit(1)


def _explained(error: BaseException) -> str | None:
    """Return what to tell the user of an error, or None for an error of ours, whose stack trace is wanted."""
    if isinstance(error, UserError):
        return str(error)
    from birdclf.mistakes import explain  # imports Hydra

    return explain(error)


if __name__ == "__main__":
    main()
