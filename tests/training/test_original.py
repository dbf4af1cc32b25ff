"""The network with the weights of another, against that one on recordings."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from perch_port import NAME, write_onnx, write_weights

from birdclf.data.catalog import Catalog
from birdclf.data.module import RecordingDataModule
from birdclf.data.splits import StratifiedSplit
from birdclf.data.windows import WindowPolicy
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import Embedder
from birdclf.features.embedders.perch import Perch
from birdclf.features.mfcc import MFCCStack
from birdclf.features.perch_mel import PerchMel
from birdclf.models.image_network import ImageNetwork
from birdclf.runs.predictor import Predictor
from birdclf.training.original import check_original, compare

pytest.importorskip("timm")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("port")
    return {"weights": write_weights(folder / "w.pt"), "onnx": write_onnx(folder / "original.onnx")}


@pytest.fixture(scope="module")
def data(folder: Catalog, store_root: Path) -> RecordingDataModule:
    made = RecordingDataModule(
        folder, PerchMel(), StratifiedSplit(), WindowPolicy(), store_dir=store_root, store_workers=0
    )
    made.prepare()
    return made


def network(files: dict[str, Path], **knobs: Any) -> ImageNetwork:
    knobs = {"time_first": True, "pretrained": str(files["weights"])} | knobs
    return ImageNetwork(4, 1, NAME, stem_stride=None, **knobs)


def test_embeddings_are_those_of_the_original(files, data, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    predictor = Predictor(network(files), data.features).train()
    table = compare(predictor, data, Perch(str(files["onnx"])), tmp_path)
    assert len(table) == len(data.table) and set(table.recording_id) == set(data.table.recording_id)
    brief = table.recording_id.isin(data.table.recording_id[data.table.duration_s <= 5])
    assert brief.sum() > 10 and table.cosine[brief].min() > 0.9999 and table.distance[brief].max() < 0.02
    assert table.cosine.min() > 0.98  # the last frame of a window of a longer recording holds what comes next
    assert predictor.training and predictor.network.training
    least = f"{table.cosine.min():.4f} at least"
    assert least in caplog.text and "does not give" not in caplog.text
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "original.csv"), table, check_dtype=False, rtol=1e-4)


@pytest.mark.parametrize("knobs", [{"time_first": False}, {"pretrained": False}], ids=str)
def test_another_network_is_noticed(files, data, tmp_path, caplog, knobs):
    table = compare(Predictor(network(files, **knobs), data.features), data, Perch(str(files["onnx"])), tmp_path)
    assert table.cosine.mean() < 0.99 and "does not give the original's embeddings" in caplog.text


def test_another_front_end_is_noticed(files, folder, store_root, tmp_path, caplog):
    other = RecordingDataModule(
        folder, PerchMel(scale=0.4), StratifiedSplit(), WindowPolicy(), store_dir=store_root, store_workers=0
    )
    other.prepare()
    compare(Predictor(network(files), other.features), other, Perch(str(files["onnx"])), tmp_path)
    assert "does not give the original's embeddings" in caplog.text


def test_an_original_without_any_vector_is_refused(files, data, tmp_path, monkeypatch):
    monkeypatch.setattr(Perch, "embed", lambda self, windows: np.full((len(windows), self.n_bands), np.nan, np.float32))
    monkeypatch.setattr(data, "store_dir", tmp_path)  # the other one holds the right vectors
    with pytest.raises(UserError, match=r"no vector of any of the 32 recordings that were tried, such as 'barn owl/"):
        compare(Predictor(network(files), data.features), data, Perch(str(files["onnx"])), tmp_path)


def test_what_cannot_be_compared_is_refused(files):
    original = Perch(str(files["onnx"]))
    width = original.n_bands
    assert check_original(original, PerchMel(), width) is original
    with pytest.raises(UserError, match=r"MFCCStack, which gives no vectors.*features@original=perch"):
        check_original(MFCCStack(), PerchMel(), width)
    with pytest.raises(UserError, match=r"windows of 5 s, but those of the features are of 3 s.*features\.window_s=5"):
        check_original(original, PerchMel(window_s=3.0), width)
    with pytest.raises(UserError, match=rf"vectors of {width} values, but the network's last layer takes 7"):
        check_original(original, PerchMel(), 7)
    with pytest.raises(UserError, match=r"features\.output is 'vector', which the file has not.*embedding"):
        Embedder(str(files["onnx"]), 32_000, 5.0, output="vector")
