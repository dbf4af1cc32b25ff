"""No module of the package turns a file into code: what would is found in its syntax."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import birdclf

PACKAGE = Path(birdclf.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
UNSAFE_IMPORTS = {
    *("marshal", "shelve", "dill", "joblib", "cloudpickle", "jsonpickle", "runpy", "subprocess"),
    *("tarfile", "shutil.unpack_archive", "torch.hub", "torch.jit", "torch.package", "torch.utils.cpp_extension"),
}
UNSAFE_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads"),
    *("pickle.Unpickler", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "pd.read_pickle", "torch.hub.load"),
    "torch.jit.load",
}
UNSAFE_METHODS = {"read_pickle", "load_from_checkpoint", "unsafe_load", "extractall", "extract", "unpack_archive"}
KEYWORDS = {"allow_pickle", "shell", "weights_only"}
PARTS_OF = {"pickle": {"UnpicklingError"}, "zipfile": {"BadZipFile"}, "yaml": {"YAMLError"}}
"""All that is used of modules that could do harm: their exceptions."""
OPEN_CHECKPOINTS = [
    "models/pretrained.py", "runs/checkpoint.py", "training/callbacks/snapshot.py", "training/trainer.py"
]  # fmt: skip
INSTANTIATE = [
    "runs/ensemble.py", "store/prepare.py", "training/build.py", "training/check.py", "training/loggers.py",
    "training/train.py",
]  # fmt: skip
"""What the command line composed, and one process hands on to its others, is built by these, and nothing else is.

A file's own settings go through the gate. ``declared.py`` looks up the types of what the command line names, and calls
nothing.
"""
IMPORT_BY_NAME = ["models/pretrained.py", "runs/trust.py"]
"""The gate, and a library's own name that a network's code gives."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def dotted(node: ast.expr) -> str:
    """Return the dotted name of what is called; of ``f(x).extract`` the last part, after a dot."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@cache
def calls(path: Path) -> list[str]:
    return [dotted(node.func) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]


def users_of(*names: str) -> list[str]:
    return [name_of(path) for path in MODULES if any(name.rpartition(".")[2] in names for name in calls(path))]


def unsafe_in(tree: ast.Module) -> Iterator[str]:
    """Yield what a module uses that could run a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and {name.name for name in node.names} & UNSAFE_IMPORTS:
            yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            names = {name.name for name in node.names}
            if {node.module, *(f"{node.module}.{name}" for name in names)} & UNSAFE_IMPORTS:
                yield ast.unparse(node)
            if node.module in PARTS_OF and not names <= PARTS_OF[node.module]:
                yield ast.unparse(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PARTS_OF:
            if node.attr not in PARTS_OF[node.value.id]:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg in KEYWORDS}
            if (
                name in UNSAFE_CALLS
                or name.rpartition(".")[2] in UNSAFE_METHODS
                or given.get("allow_pickle", "False") != "False"
                or given.get("shell", "False") != "False"
                or given.get("weights_only", "True") != "True"
                or (name in ("torch.load", "trainer.fit") and "weights_only" not in given)
            ):
                yield ast.unparse(node)


def test_nothing_that_could_run_a_file_is_used():
    found = {name_of(path): list(unsafe_in(tree_of(path))) for path in MODULES}
    assert found.pop("cores.py") == [
        "from joblib import cpu_count"
    ]  # it knows the quotas of containers, and opens no file
    unpacked = ["import tarfile", "opened.extract(member, part, filter='data')"]
    assert found.pop("data/sources/birdset.py") == unpacked  # the filter refuses what would land outside the folder
    assert {name: uses for name, uses in found.items() if uses} == {}


UNSAFE = """
import subprocess
from torch import hub
from pickle import loads
pickle.Unpickler
eval(text)
archive.extractall()
np.load(file, allow_pickle=True)
run(words, shell=True)
torch.load(file)
torch.load(file, weights_only=False)
trainer.fit(module)
"""


@pytest.mark.parametrize("line", UNSAFE.split("\n")[1:-1])
def test_what_could_run_a_file_is_found(line: str):
    assert list(unsafe_in(ast.parse(line)))
    assert not list(unsafe_in(ast.parse("import torch\ntorch.load(file, weights_only=True)\nnp.load(file)")))


def test_checkpoints_are_opened_and_settings_built_in_these_places_alone():
    torch_load = [name_of(path) for path in MODULES if any(name == "torch.load" for name in calls(path))]
    assert torch_load == OPEN_CHECKPOINTS
    builders = sorted([*INSTANTIATE, "declared.py", "mistakes.py"])
    assert users_of("instantiate", "get_method", "get_class", "get_object") == builders
    assert users_of("import_module") == IMPORT_BY_NAME
    assert not users_of("load_from_checkpoint", "trust_remote_code")
