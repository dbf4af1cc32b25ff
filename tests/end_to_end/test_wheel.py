"""A wheel, installed elsewhere, that trains with its own configs."""

import shutil
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny_runs import REPO, Command, on_folder

LEFT_OUT = shutil.ignore_patterns(".*", "outputs", "tests", "notebooks", "docs", "__pycache__", "benchmarks")


@pytest.fixture(scope="module")
def wheel(python: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, so that the checkout stays as it is."""
    work = tmp_path_factory.mktemp("build")
    shutil.copytree(REPO, work / "source", ignore=LEFT_OUT)
    built = python("-m", "build", "--wheel", "--no-isolation", "--outdir", work / "dist", work / "source", cwd=work)
    assert built.status == 0, built.out + built.err
    (file,) = (work / "dist").glob("birdclf-*.whl")
    return file


def test_the_wheel_holds_configs_counts_and_types(wheel: Path):
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"birdclf/conf/{path.relative_to(REPO / 'conf').as_posix()}" for path in (REPO / "conf").rglob("*.yaml")}
    sources = {path.relative_to(REPO).as_posix() for path in (REPO / "birdclf").rglob("*.py")}
    sources |= {path.relative_to(REPO).as_posix() for path in (REPO / "birdclf").rglob("*.html")}
    others = {"birdclf/data/sources/species_counts.csv", "birdclf/py.typed"}
    assert wanted | sources | others <= inside, (wanted | sources | others) - inside
    assert not [name for name in inside if name.startswith(("tests/", "conf/", "outputs/"))]
    assert not [name for name in inside if name.endswith((".pyc", ".wav"))]


@pytest.mark.slow
def test_an_installed_wheel_trains_with_its_own_configs(wheel: Path, python: Command, recordings: Path, tmp_path: Path):
    target = tmp_path / "site"
    installed = python("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path)
    assert installed.status == 0, installed.err
    # A mark in the wheel's own copy shows which files are read.
    with (target / "birdclf" / "conf" / "train.yaml").open("a") as file:
        file.write("\nreference: of the wheel\n")
    work = tmp_path / "elsewhere"
    work.mkdir()
    env = {"PYTHONPATH": str(target)}
    where = python("-c", "import birdclf; print(birdclf.__file__)", cwd=work, env=env)
    assert Path(where.out.strip()) == target / "birdclf" / "__init__.py"
    find = (
        "import birdclf.config; from hydra.core.plugins import Plugins; print(*Plugins.instance().class_name_to_class)"
    )
    assert "hydra_plugins.birdclf.SearchSweeper" in python("-c", find, cwd=work, env=env).out.split()
    done = python("-m", "birdclf", *on_folder(recordings, "run"), cwd=work, env=env)
    assert done.status == 0, done.err
    run = work / "run"
    assert (run / "done.json").is_file()
    assert OmegaConf.load(run / "config.yaml").reference == "of the wheel"
    sources = OmegaConf.load(run / ".hydra" / "hydra.yaml").hydra.runtime.config_sources
    paths = [source.path for source in sources if source.provider == "main"]
    assert paths == [str(target / "birdclf" / "conf")]
