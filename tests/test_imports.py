"""Imports run one way, no two files import each other, and the command line starts without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import birdclf

PACKAGE = Path(birdclf.__file__).parent
MODULES = {
    ".".join(("birdclf", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FREE = {
    "errors",
    "files",
    "checks",
    "cores",
    "declared",
    "text",
    "pages",
    "random",
    "environment",
    "output",
    "targets",
}  # what anyone may use
FILES = {"audio", "data.tables", "data.tree", "data.listing", "data.background", "data.annotations", "data.label_names"}
SOUND = {*FILES, "audit", "data.catalog", "data.soundscapes"}
DATA = {*SOUND, "data", "features", "store"}
RUNS = {*DATA, "models", "losses", "posthoc", "metrics", "runs", "config"}
MAY_IMPORT: dict[str, set[str]] = {
    "audio": set(),
    "audit": {"audio"},
    "data.tables": set(),
    "data.catalog": FILES,
    "data.tree": set(),
    "data.listing": {"data.tables", "data.tree"},
    "data.background": {"audio", "data.listing", "data.tree"},
    "data.label_names": {"data.tables"},
    "data.annotations": {"audio", "data.tables", "data.tree"},
    "data.soundscapes": FILES,
    "data.sources": {*FILES, "data.catalog", "data.soundscapes"},
    "features": {"audio"},
    "store": {*SOUND, "features"},
    "data": DATA - {"data"},
    "augment": {"features"},
    "models": set(),
    "losses": set(),
    "posthoc": set(),
    "metrics": set(),
    "runs": RUNS - {"runs"},
    "training": {*RUNS, "augment"},
    "sweep": {"config", "mistakes", "runs"},
    "detection": {*RUNS, "data.sources"},
    "export": {*RUNS, "detection"},
    "serving": {"audio", "data.tables", "data.sources", "detection"},
    "labelling": {"audio", "data.tables", "detection"},
    "report": {*RUNS, "data.sources", "sweep"},
    "mistakes": {"config", "overrides"},
    "overrides": {"config"},
    "config": set(),
    "commands": {*RUNS, "data.sources", "detection", "export", "serving", "labelling", "report", "training", "sweep"},
}
"""The rooms, each with those that it may import. Tables and catalog are below the store, the rest of ``data`` above."""


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of every module, or name in one, that a module imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(name: str) -> str:
    """Return the room of ``birdclf.room.module``, or the module at the top itself."""
    parts = name.split(".")[1:]
    two = ".".join(parts[:2])
    return two if two in MAY_IMPORT else parts[0]


def is_ours(name: str) -> bool:
    return name.startswith("birdclf.")


IMPORTS = {name: [other for other in imported(path) if is_ours(other)] for name, path in MODULES.items()}


def test_rooms_import_along_the_arrow_only():
    offenders = []
    for name, others in IMPORTS.items():
        room = room_of(name) if name != "birdclf" else "birdclf"
        if room in ("birdclf", "cli", "__main__", *FREE):
            continue
        allowed = FREE | {room} | MAY_IMPORT[room]  # a room that is missing there is new: say what it may import
        offenders += [f"{name} imports {other}" for other in others if room_of(other) not in allowed]
    assert not offenders


def test_the_arrow_has_no_way_back():
    assert not circles(MAY_IMPORT)


def test_no_two_files_import_each_other():
    def module(name: str) -> str:
        return name if name in MODULES else name.rpartition(".")[0]

    assert not circles({name: {module(other) for other in others} - {name} for name, others in IMPORTS.items()})


def circles(arrows: dict[str, Iterable[str]]) -> list[str]:
    """Return the nodes from which a way leads back to themselves."""
    reached = {node: set(others) for node, others in arrows.items()}
    changed = True
    while changed:
        changed = False
        for others in reached.values():
            more = set().union(*(reached.get(other, set()) for other in others)) - others
            changed |= bool(more)
            others |= more
    return sorted(node for node, others in reached.items() if node in others)


def test_what_anyone_may_use_uses_nothing_above_it():
    offenders = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        if name.removeprefix("birdclf.") in FREE
        for other in others
        if room_of(other) not in FREE
    ]
    assert not offenders


def test_only_the_command_line_knows_hydra_main():
    assert [name for name, path in MODULES.items() if "hydra.main" in path.read_text()] == ["birdclf.cli"]
    assert not [name for name, path in MODULES.items() if "hydra.main" in set(imported(path))]


def test_nothing_imports_the_command_line():
    assert [name for name, others in IMPORTS.items() if "cli" in map(room_of, others)] == ["birdclf.__main__"]


def test_no_drawer_of_utils():
    parts = {part for name in MODULES for part in name.split(".")}
    assert not parts & {"utils", "util", "helpers", "misc", "common"}


def test_the_command_line_imports_nothing_heavy_at_module_level():
    tree = ast.parse((PACKAGE / "cli.py").read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {name.name if isinstance(node, ast.Import) else str(node.module) for node in top for name in node.names}
    heavy = {"torch", "torchaudio", "lightning", "torchmetrics", "pandas", "librosa", "hydra", "omegaconf"}
    assert not {name.split(".")[0] for name in named} & heavy


def test_the_command_line_starts_without_torch_and_numpy():
    code = (
        "import sys, birdclf.cli, birdclf.config, hydra_plugins.birdclf; "
        "print(sorted({'torch', 'lightning', 'torchmetrics', 'librosa', 'optuna', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


def test_the_libraries_that_the_package_stands_on_are_used_by_itself():
    used = {name.split(".")[0] for path in MODULES.values() for name in imported(path)}
    wanted = {"torch", "torchaudio", "lightning", "torchmetrics", "hydra", "omegaconf", "librosa", "tensorboard"}
    assert wanted <= used
