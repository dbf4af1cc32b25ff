"""The examples of CONTRIBUTING.md work as written."""

import importlib.util
import re
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional

from birdclf.audio.resampling import read_waveform

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


def example(name: str, folder: Path) -> ModuleType:
    """Return the code block that defines a name, as a module."""
    blocks = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)]
    (code,) = [block for block in blocks if f" {name}(" in block]
    path = folder / f"guide_{name}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_loss_of_the_guide(tmp_path: Path) -> None:
    poly1 = example("Poly1", tmp_path).Poly1
    logits, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    counts = torch.tensor([5, 3, 2, 1])
    torch.testing.assert_close(poly1(counts, epsilon=0.0)(logits, target), functional.cross_entropy(logits, target))
    assert poly1(counts)(logits, target) > functional.cross_entropy(logits, target)


def test_the_network_of_the_guide(tmp_path: Path) -> None:
    network = example("OneLayer", tmp_path).OneLayer(num_classes=7)
    assert network(torch.randn(2, 3, 20, 500)).shape == (2, 7)


def test_the_source_of_the_guide(tmp_path: Path) -> None:
    files = [tmp_path / species / "a.wav" for species in ("wren", "robin")]
    for file in files:
        file.parent.mkdir()
        soundfile.write(file, np.sin(np.arange(16_000) / 5), 16_000)
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(map(str, files)))
    catalog = example("list_catalog", tmp_path).list_catalog(str(listing))
    assert catalog.classes == ("robin", "wren")
    assert read_waveform(catalog.reader, catalog.clips()[0], 32_000).shape == (32_000,)


def test_the_yaml_of_the_guide_names_the_loss_of_the_guide() -> None:
    assert "_target_: birdclf.losses.poly1.Poly1" in GUIDE


@pytest.mark.parametrize("name", ["setup", "test", "test-all"])
def test_the_make_targets_of_the_guide_exist(name: str) -> None:
    assert f"make {name}" in GUIDE
    assert re.search(rf"^{name}:", (Path(__file__).parents[1] / "Makefile").read_text(), re.MULTILINE)
