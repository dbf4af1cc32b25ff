"""Imports run along the way of the data only, and the command line starts without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import birdclf

PACKAGE = Path(birdclf.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# What anyone may use.
FREE = {
    *("errors", "disk", "environment", "output", "randomness", "allocator"),
    *("svg", "pages", "quoting", "checks", "declared"),
}
MAY_IMPORT = {
    "audio": set(),
    "catalog": {"audio"},
    "audit": {"audio"},
    "features": {"audio", "catalog", "audit"},
    "data": {"audio", "catalog", "audit", "features"},
    "augment": {"features"},
    "models": set(),
    "losses": set(),
    "evaluation": set(),
    "training": {"catalog", "features", "augment", "data", "models", "losses", "evaluation", "config", "run_folder"},
    "inference": {
        "audio",
        "models",
        "catalog",
        "audit",
        "features",
        "data",
        "losses",
        "evaluation",
        "training",
        "config",
        "run_folder",
        "sweep",
    },
    "detection": {"audio", "catalog", "features", "models", "inference"},
    "serving": {"audio", "catalog", "detection", "inference", "run_folder"},
    "labelling": {"audio", "catalog", "detection", "inference"},
    "export": {
        "audio",
        "catalog",
        "features",
        "models",
        "data",
        "evaluation",
        "training",
        "inference",
        "detection",
        "config",
        "run_folder",
    },
    "report": {"audio", "catalog", "features", "evaluation", "inference", "config", "sweep"},
    "sweep": {"config", "mistakes", "run_folder"},
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of every module that is imported anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def rooms_of(path: Path) -> set[str]:
    """Return the rooms of the package that a module imports from."""
    names = imported(ast.parse(path.read_text()))
    return {parts[1] for parts in (name.split(".") for name in names) if parts[0] == "birdclf" and len(parts) > 1}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != PACKAGE], ids=name_of)
def test_rooms_import_along_the_arrow_only(path):
    room = path.relative_to(PACKAGE).parts[0]
    assert room in MAY_IMPORT, f"{room} is a new room: say here what it may import"
    assert rooms_of(path) <= FREE | {room} | MAY_IMPORT[room]


def test_the_arrow_has_no_way_back():
    reached = {room: set(seen) for room, seen in MAY_IMPORT.items()}
    for _ in MAY_IMPORT:
        for room in reached:
            reached[room] |= set().union(*(reached.get(other, set()) for other in reached[room]))
    assert not [room for room in reached if room in reached[room]]


@pytest.mark.parametrize("name", sorted(FREE))
def test_what_anyone_may_use_uses_nobody(name):
    assert rooms_of(PACKAGE / f"{name}.py") <= {"errors", "quoting"} - {name}


def test_only_the_command_line_knows_hydra_main():
    assert [name_of(path) for path in MODULES if "hydra.main" in path.read_text()] == ["cli.py"]
    for path in MODULES:
        assert "hydra.main" not in set(imported(ast.parse(path.read_text()))), path


def test_nobody_imports_the_command_line():
    users = [name_of(path) for path in MODULES if "cli" in rooms_of(path)]
    assert users == ["__main__.py"]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_one_idea_a_file(path):
    assert len(path.read_text().splitlines()) <= 250, "split it"


def test_no_drawer_of_utils():
    parts = {part.removesuffix(".py") for path in MODULES for part in path.relative_to(PACKAGE).parts}
    assert not parts & {"utils", "util", "helpers", "misc", "common"}


def test_the_command_line_imports_nothing_heavy_at_module_level():
    tree = ast.parse((PACKAGE / "cli.py").read_text())
    top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    heavy = {"torch", "torchaudio", "lightning", "torchmetrics", "pandas", "librosa", "hydra", "omegaconf"}
    assert not {name.split(".")[0] for name in imported(top)} & heavy


def test_the_command_line_starts_without_torch():
    code = (
        "import sys, birdclf.cli, birdclf.sweep.search; "
        "print(sorted({'torch', 'lightning', 'torchmetrics', 'librosa', 'optuna'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
