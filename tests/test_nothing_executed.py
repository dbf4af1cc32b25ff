"""No module of the package turns a file into code: what would is found in its syntax."""

import ast
from collections.abc import Iterator
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
PARTS_OF = {"pickle": {"UnpicklingError"}, "zipfile": {"BadZipFile"}, "yaml": {"YAMLError"}}
"""All that is used of modules that could do harm: their exceptions."""
OPEN_CHECKPOINTS = [
    "models/pretrained.py", "runs/checkpoint.py", "training/callbacks/snapshot.py", "training/trainer.py"
]  # fmt: skip
INSTANTIATE = [
    "runs/ensemble.py", "store/prepare.py", "training/build.py", "training/train.py", "training/workers.py",
]  # fmt: skip
"""What the command line composed, and one process hands on to its others, is built by these, and nothing else is.

A file's own settings go through the gate. ``declared.py`` looks up the types of what the command line names, and calls
nothing.
"""
START_PROCESSES = ["training/workers.py"]
"""Its command is this Python and a module of the package, whatever a file says."""
IMPORT_BY_NAME = ["models/pretrained.py", "runs/trust.py"]
"""The gate, and a library's own name that a network's code gives."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def users_of(*names: str) -> list[str]:
    return [name_of(path) for path in MODULES if any(name.rpartition(".")[2] in names for name, _ in calls(path))]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_that_could_run_a_file_is_used(path: Path):
    tree = ast.parse(path.read_text())
    unsafe = UNSAFE_IMPORTS - ({"subprocess"} if name_of(path) in START_PROCESSES else set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {name.name for name in node.names} & unsafe
        elif isinstance(node, ast.ImportFrom):
            assert not {node.module, *(f"{node.module}.{name.name}" for name in node.names)} & UNSAFE_IMPORTS
            if node.module in PARTS_OF:
                assert {name.name for name in node.names} <= PARTS_OF[node.module]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PARTS_OF:
            assert node.attr in PARTS_OF[node.value.id], ast.unparse(node)
    for name, call in calls(path):
        assert name not in UNSAFE_CALLS and name.rpartition(".")[2] not in UNSAFE_METHODS, ast.unparse(call)
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert given.get("allow_pickle", "False") == "False" and given.get("shell", "False") == "False"
        assert given.get("weights_only", "True") == "True", ast.unparse(call)
        if name in ("torch.load", "trainer.fit"):
            assert given.get("weights_only") == "True", ast.unparse(call)


def test_checkpoints_are_opened_and_settings_built_in_these_places_alone():
    torch_load = [name_of(path) for path in MODULES if any(name == "torch.load" for name, _ in calls(path))]
    assert torch_load == OPEN_CHECKPOINTS
    builders = sorted([*INSTANTIATE, "declared.py", "mistakes.py"])
    assert users_of("instantiate", "get_method", "get_class", "get_object") == builders
    assert users_of("import_module") == IMPORT_BY_NAME
    assert not users_of("load_from_checkpoint", "trust_remote_code")
