"""A run folder may come from anybody: whatever its files hold, no command runs any of it."""

import ast
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import OmegaConf
from tiny_runs import TINY, Command, Outcome

import birdclf as package
from birdclf.cli import COMPOSED, PLAIN

ROOT = Path(package.__file__).parent
OPENERS = {"birdclf.runs.checkpoint", "birdclf.training.callbacks.snapshot"}
"""The modules that open checkpoints; test_nothing_executed holds all others to it."""


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
            yield str(node.module)


def reached(names: Iterator[str]) -> set[str]:
    """Return the modules of the package that some imports lead to, at module level or inside a function."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        file = ROOT.parent / f"{name.replace('.', '/')}.py"
        if name.startswith("birdclf.") and name not in seen and file.is_file():
            seen.add(name)
            waiting += imports(ast.parse(file.read_text()))
    return seen


def modules_of(command: str) -> set[str]:
    if command in PLAIN:
        return reached(iter([PLAIN[command].__name__]))
    tree = ast.parse((ROOT / "cli.py").read_text())
    (entry,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == f"_{command}")
    return reached(imports(entry))


class Case(NamedTuple):
    """A way to make a command open checkpoints: the words, and the files that are put in place of the real ones."""

    words: Callable[[Path], list[object]]
    spoilt: tuple[str, ...]
    finished: bool = True
    status: int = 1


# Words are relative to the folder that holds sweep and recordings, so that a copy of it is the same to every command.
TRAIN = (*TINY, "data=folder", "data.root=recordings", "seed=1", "callbacks.snapshot.every_s=0", "loader.batch_size=8")
SWEEP = ("train", "-m", *TRAIN, "hydra.sweep.dir=sweep")


def resumed(job: Path) -> list[object]:
    return ["train", *TRAIN, f"hydra.run.dir={job}", "resume=true"]


def launched_again(job: Path) -> list[object]:
    return list(SWEEP)


def with_another(job: Path) -> list[object]:
    """Return the job and a copy of it: two runs of one split, without saved predictions so that models are opened."""
    another = shutil.copytree(job, job.with_name("1_another"))
    for folder in (job, another):
        (folder / "predictions.parquet").unlink()
    return [another, job]


def started_from(job: Path) -> list[object]:
    return ["train", *TRAIN, f"init_from={job}", "hydra.run.dir=fresh"]


def started_from_file(job: Path) -> list[object]:
    return ["train", *TRAIN, f"init_from={job}/checkpoints/mine.pt", "hydra.run.dir=fresh"]


def like_the_first(job: Path) -> list[object]:
    """Return a search by the spoilt run in embeddings of the run as it was."""
    query = min((job.parents[1] / "recordings").rglob("*.wav"))
    return ["search", "embedded", query, "--run", job, "--out", "alike"]


CASES = {
    "soup": [Case(lambda job: ["soup", *with_another(job)], ("best.ckpt",))],
    "evaluate": [
        Case(lambda job: ["evaluate", *with_another(job)], ("best.ckpt",)),
        Case(lambda job: ["evaluate", job], ("best.ckpt",)),
        Case(lambda job: ["evaluate", job, "--checkpoint", "last"], ("last.ckpt",)),
    ],
    "train": [
        Case(resumed, ("last.ckpt", "before_last.ckpt"), finished=False),
        Case(resumed, ("best.ckpt",), finished=False),
        Case(launched_again, ("last.ckpt", "before_last.ckpt"), finished=False),
        Case(started_from, ("best.ckpt",)),
        Case(started_from_file, ("mine.pt",)),
    ],
    "serve": [Case(lambda job: ["serve", job, "--port", "0"], ("best.ckpt",))],
    "export": [
        Case(lambda job: ["export", job, "--format", "onnx", "torch_export"], ("best.ckpt",)),
        Case(lambda job: ["export", job, "--checkpoint", "last"], ("last.ckpt",)),
    ],
    "report": [Case(lambda job: ["report", job, "--out", "told"], ("best.ckpt",), status=0)],
    "predict": [
        Case(lambda job: ["predict", job, "recordings"], ("best.ckpt",)),
        Case(lambda job: ["predict", job, "recordings", "--out", "found", "--checkpoint", "last"], ("last.ckpt",)),
    ],
    "thresholds": [Case(lambda job: ["thresholds", job, "--soundscapes", "recordings"], ("best.ckpt",))],
    "search": [Case(like_the_first, ("best.ckpt",))],
    "suggest": [Case(lambda job: ["suggest", job, "recordings", "--out", "to_label"], ("best.ckpt",))],
}


def test_every_command_that_can_open_a_checkpoint_is_tried_here():
    assert {name for name in (*COMPOSED, *PLAIN) if OPENERS & modules_of(name)} == set(CASES)


@pytest.fixture(scope="module")
def sweep(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of one job, with its recordings beside it. Tests copy it."""
    cwd = tmp_path_factory.mktemp("handed")
    (cwd / "recordings").symlink_to(recordings)
    done = birdclf(*SWEEP, cwd=cwd)
    assert done.status == 0, done.err
    (job,) = (cwd / "sweep").glob("0_*")
    done = birdclf("predict", job, "recordings", "--out", "embedded", "--embeddings", "--no-timelines", cwd=cwd)
    assert done.status == 0, done.err
    return cwd / "sweep"


@pytest.fixture
def job(sweep: Path, tmp_path: Path) -> Path:
    """A copy of the job's run folder that a test may spoil."""
    (tmp_path / "recordings").symlink_to((sweep.parent / "recordings").resolve())
    (tmp_path / "embedded").symlink_to(sweep.parent / "embedded")
    (folder,) = shutil.copytree(sweep, tmp_path / "sweep").glob("0_*")
    return folder


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def plain_pickle(file: Path, content: Any, trace: Path) -> None:
    file.write_bytes(pickle.dumps(Malicious(trace)))


def archive(file: Path, content: Any, trace: Path) -> None:
    torch.save(Malicious(trace), file)


def among_the_weights(file: Path, content: Any, trace: Path) -> None:
    content["state_dict"]["network.extra"] = Malicious(trace)
    torch.save(content, file)


def instantiator(file: Path, content: Any, trace: Path) -> None:
    torch.save(content | {"hyper_parameters": {"_instantiator": Malicious(trace)}}, file)


def names(file: Path, content: Any, trace: Path) -> None:
    """Plain values that name what is to be called: they load, so that what they name must be refused."""
    called = {"_target_": "os.mkdir", "_args_": [str(trace)], "path": str(trace)}
    content["birdclf"]["config"]["model"] = called
    content["birdclf"]["config"]["features"] = called
    torch.save(content | {"hyper_parameters": {"_instantiator": "os.mkdir", "path": str(trace)}}, file)


CASE_LIST = [(name, case) for name, cases in CASES.items() for case in cases]


SPOILS = [plain_pickle, archive, among_the_weights, instantiator, names]
SPOILT = [
    pytest.param(
        *(name, case, spoil),
        id=f"{name}-{'+'.join(case.spoilt)}-{spoil.__name__}",
        marks=[] if i % len(SPOILS) == j else pytest.mark.slow,
    )
    for i, (name, case) in enumerate(CASE_LIST)
    for j, spoil in enumerate(SPOILS)
]
"""Every way to make a command open a checkpoint, each with one kind of malice, in turn; the others are slow."""


@pytest.mark.parametrize(("name", "case", "spoil"), SPOILT)
def test_a_malicious_checkpoint_is_refused_in_a_sentence(birdclf, job: Path, name: str, case: Case, spoil):
    trace, content = job.parent / "executed", torch.load(job / "checkpoints" / "last.ckpt", weights_only=True)
    for file in case.spoilt:
        spoil(job / "checkpoints" / file, content, trace)
    if not case.finished:
        (job / "done.json").unlink()
    done: Outcome = birdclf(*case.words(job), cwd=job.parents[1])
    assert not trace.exists() and "Traceback" not in done.out + done.err
    if spoil is names and name == "train":
        return  # training goes by the command line: what the file names is passed over
    assert done.status == case.status, done.err
    page = job.parents[1] / "told" / "report.html"
    said = page.read_text() if name == "report" else done.err
    assert "checkpoint" in said and any(
        w in said for w in ("nothing of it was executed", "cannot be read", "is not run")
    ), said
    assert len([line for line in done.err.splitlines() if line.startswith("birdclf: ")]) == (name != "report")


def test_the_files_are_not_harmless(tmp_path: Path):
    plain_pickle(tmp_path / "file", None, tmp_path / "executed")
    pickle.loads((tmp_path / "file").read_bytes())
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("option", ["--experimental-rerun", "--experimental-rerun=", "--exp"])
@pytest.mark.parametrize("command", COMPOSED)
def test_no_option_of_hydra_opens_a_pickle(birdclf, command: str, option: str, tmp_path: Path):
    plain_pickle(tmp_path / "config.pickle", None, tmp_path / "executed")
    words = [f"{option}config.pickle"] if option.endswith("=") else [option, "config.pickle"]
    assert "pickle" in birdclf(command, *words, cwd=tmp_path).mistake
    assert not (tmp_path / "executed").exists()


def test_a_snapshot_cannot_say_where_to_write_or_delete(birdclf, job: Path):
    file, mine = job / "checkpoints" / "last.ckpt", job.parents[1] / "mine.ckpt"
    content = torch.load(file, weights_only=True)
    torch.save(content, mine)
    before = mine.read_bytes()
    content["callbacks"]["Snapshot"]["ended"]["best"] = "../../../mine.ckpt"
    for name in ("last.ckpt", "before_last.ckpt"):
        torch.save(content, job / "checkpoints" / name)
    (job / "done.json").unlink()
    assert "cannot be read" in birdclf(*resumed(job), cwd=job.parents[1]).mistake
    assert mine.read_bytes() == before


def called(trace: Path, target: str = "os.mkdir", **more: Any) -> dict[str, Any]:
    return {"_target_": target, "path": str(trace), **more}


# Where config.yaml may hold something that is called, and what: os.mkdir is what Hydra itself would run.
CONFIGS: dict[str, Callable[[Path], tuple[str, Any]]] = {
    **{
        group: lambda trace, group=group: (group, called(trace))
        for group in ("data", "audio", "audit", "features", "evaluation", "trainer", "model", "loss", "split", "logger")
    },
    "imported": lambda trace: ("data", called(trace, "birdclf.data.listing.os.mkdir")),
    "positional": lambda trace: ("data", {"_target_": "birdclf.data.tree.os.mkdir", "_args_": [str(trace)]}),
    "partial": lambda trace: ("evaluation", called(trace, _partial_=True)),
    "nested": lambda trace: ("data.root", called(trace)),
    "in a list": lambda trace: ("data.species", [called(trace)]),
    "deep": lambda trace: ("trainer.profiler", {"a": [{"b": called(trace)}]}),
    "of torch": lambda trace: ("data", called(trace, "torch.hub.os.mkdir")),
    "loads": lambda trace: ("audit", {"_target_": "torch.load", "f": str(trace), "weights_only": False}),
    "runs a program": lambda trace: ("trainer", {"_target_": "lightning.pytorch.cli.LightningCLI"}),
    "a module that runs": lambda trace: ("audio", {"_target_": "birdclf.__main__.main"}),
    "function of ours": lambda trace: ("audit", {"_target_": "birdclf.runs.state.write_whole", "path": str(trace)}),
    "no text": lambda trace: ("audio._target_", ["os.mkdir"]),
    "a mapping": lambda trace: ("audio._target_", called(trace)),
    "from the environment": lambda trace: ("data.root", "${oc.env:SECRET}"),
    "interpolated": lambda trace: ("audio._target_", "${name}"),
    "resolver": lambda trace: ("evaluation.bins", "${direction:${monitor}}"),
}  # fmt: skip


@pytest.fixture
def handed(job: Path, monkeypatch) -> Callable[[str], Path]:
    """Put one of the configurations in place; return the folder that must not come to be."""
    monkeypatch.setenv("SECRET", "hunter2")

    def put(kind: str) -> Path:
        trace = job.parent / "executed"
        key, value = CONFIGS[kind](trace)
        config = OmegaConf.load(job / "config.yaml")
        OmegaConf.update(config, key, value, merge=False)
        OmegaConf.save(config, job / "config.yaml")
        return trace

    return put


@pytest.mark.parametrize("command", ["evaluate", "soup"])
@pytest.mark.parametrize(
    "kind",
    [
        "data",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("imported", "loads", "runs a program")),
        pytest.param("function of ours", marks=pytest.mark.slow),
        "from the environment",
    ],
)
def test_several_runs_build_nothing_that_a_run_folder_should_not_name(birdclf, job: Path, handed, kind: str, command):
    good = shutil.copytree(job, job.with_name("1_good"))
    trace = handed(kind)
    runs = with_another(job) if command == "evaluate" else [job, good]
    mistake = birdclf(command, *runs, cwd=job.parents[1]).mistake
    assert "config.yaml" in mistake and CONFIGS[kind](trace)[0].split(".")[0] in mistake
    assert "hunter2" not in mistake and not trace.exists()


@pytest.mark.parametrize("kind", CONFIGS)
def test_evaluate_builds_nothing_that_a_run_folder_should_not_name(birdclf, job: Path, handed, kind: str):
    trace = handed(kind)
    mistake = birdclf("evaluate", job, cwd=job.parents[1]).mistake
    assert "config.yaml" in mistake and CONFIGS[kind](trace)[0].split(".")[0] in mistake
    assert "hunter2" not in mistake and not trace.exists()


@pytest.mark.parametrize(
    "kind",
    [
        "data",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("imported", "positional", "nested")),
        "from the environment",
    ],
)
def test_export_builds_nothing_that_a_run_folder_should_not_name(birdclf, job: Path, handed, kind: str):
    trace = handed(kind)
    mistake = birdclf("export", job, "--format", "torch_export", cwd=job.parents[1]).mistake
    assert "config.yaml" in mistake and CONFIGS[kind](trace)[0].split(".")[0] in mistake
    done = birdclf("export", job, "--format", "card", "--out", "card.md", cwd=job.parents[1])
    card = (job.parents[1] / "card.md").read_text() if done.status == 0 else ""
    assert "hunter2" not in mistake + card and not trace.exists() and "Traceback" not in done.err


@pytest.mark.parametrize(
    "kind",
    [
        "data",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("imported", "positional", "nested", "in a list")),
        pytest.param("of torch", marks=pytest.mark.slow),
        "from the environment",
    ],
)
def test_report_builds_nothing_that_a_run_folder_should_not_name(birdclf, job: Path, handed, kind: str):
    trace = handed(kind)
    done = birdclf("report", job, "--out", "told", cwd=job.parents[1])
    assert done.status == 0, done.err
    text = (job.parents[1] / "told" / "report.html").read_text()
    assert "not one of birdclf&#39;s own" in text or kind == "from the environment" and "cannot be found" in text
    assert "hunter2" not in text + done.out and not trace.exists()


@pytest.mark.parametrize("words", [resumed, launched_again])
def test_training_goes_by_the_command_line_alone(birdclf, job: Path, handed, words):
    trace = handed("data")
    (job / "done.json").unlink()
    done = birdclf(*words(job), cwd=job.parents[1])
    assert done.status == 1 and "other settings: data._target_ was os.mkdir" in done.err
    assert not trace.exists()


def test_yaml_makes_no_objects(birdclf, job: Path):
    trace = job.parent / "executed"
    for name in ("config.yaml", ".hydra/overrides.yaml"):
        (job / name).write_text(f"a: !!python/object/apply:os.mkdir ['{trace}']\n")
    assert "config.yaml cannot be read" in birdclf("evaluate", job, cwd=job.parents[1]).mistake
    assert "not valid YAML" in birdclf("report", job, "--out", "told", cwd=job.parents[1]).err
    (job / "done.json").unlink()
    assert "config.yaml cannot be read" in birdclf(*resumed(job), cwd=job.parents[1]).mistake
    assert not trace.exists()


def test_a_package_that_the_user_names_is_trusted(birdclf, job: Path, monkeypatch):
    work = job.parents[1]
    (work / "their_source.py").write_text(
        "from birdclf.data.sources.folder import folder_catalog\n"
        "def theirs(**settings):\n    return folder_catalog(**settings)\n"
    )
    config = OmegaConf.load(job / "config.yaml")
    config.data._target_, config.loss._target_ = "their_source.theirs", "their_source.Loss"
    OmegaConf.save(config, job / "config.yaml")
    assert "--trust their_source" in birdclf("evaluate", job, cwd=work).mistake
    done = birdclf("evaluate", job, "--trust", "their_source", cwd=work)
    assert done.status == 0 and done.out.rstrip().endswith("equal to metrics.json"), done.err
