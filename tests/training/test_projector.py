"""What the projector shows is what the last layer saw while validation was predicted."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.tensorboard._embedding import make_sprite

from birdclf.data.module import RecordingDataModule
from birdclf.data.splits import StratifiedSplit
from birdclf.data.windows import WindowPolicy
from birdclf.features.mfcc import MFCCStack
from birdclf.runs.predictor import Predictor, predict
from birdclf.training import loggers as projector
from birdclf.training.loggers import ClipEmbedder


class Pooled(nn.Module):
    """A network whose last layer sees the mean of each coefficient."""

    def __init__(self, classes: int, last: bool = True) -> None:
        super().__init__()
        self.head = nn.Linear(60, classes) if last else nn.Conv1d(60, classes, 1)
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean(dim=3).flatten(1)
        return self.head(pooled) if self.last else self.head(pooled[:, :, None]).flatten(1)


@pytest.fixture
def data(folder, store, store_root):
    made = RecordingDataModule(
        catalog=folder,
        features=MFCCStack(),
        split=StratifiedSplit(train=0.4, val=0.4, test=0.2),
        window=WindowPolicy(eval="all"),
        batch_size=5,
        store_dir=store_root,
        store_workers=0,
    )
    made.prepare()
    return made


def embedded(data: RecordingDataModule, last: bool = True) -> tuple[ClipEmbedder, Predictor]:
    predictor, embedder = Predictor(Pooled(len(data.classes), last), data.features), ClipEmbedder(data)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[embedder]
    )
    loaders = {"val": data.val_dataloader(), "test": data.test_dataloader()}
    predict(trainer, predictor, loaders, data.source.table)
    return embedder, predictor


@pytest.mark.parametrize("most", [2_000, 3])
def test_clips_are_those_of_validation_at_even_steps(data, monkeypatch, most):
    monkeypatch.setattr(projector, "CLIPS", most)
    embedder, predictor = embedded(data)
    clips = embedder.embeddings()
    assert clips is not None
    val = data.table[data.table.split == "val"]
    clips_wanted = min(most, len(val))
    assert clips.vectors.shape == (clips_wanted, 60) and clips.spectrograms.shape == (clips_wanted, 32, 32)
    steps = np.linspace(0, len(val) - 1, clips_wanted).round().astype(int)
    assert clips.labels.recording.tolist() == val.recording_id.iloc[steps].tolist()
    assert clips.labels.species.tolist() == val.species.iloc[steps].tolist()
    seen = []
    for batch in data.val_dataloader():
        pooled = predictor.features(batch.bands).mean(dim=3).flatten(1)
        seen += [pooled[batch.owner == i].mean(dim=0) for i in range(len(batch.target))]
    np.testing.assert_allclose(clips.vectors, torch.stack(seen)[steps].numpy(), atol=1e-4)


def test_nothing_listens_any_more_once_predictions_are_made(data):
    _, predictor = embedded(data)
    assert not predictor.network.head._forward_pre_hooks


def test_a_network_without_a_linear_layer_has_no_embeddings(data):
    assert embedded(data, last=False)[0].embeddings() is None


def test_the_sprite_is_torchs(tmp_path):
    pictures = torch.rand(7, 32, 32)
    make_sprite(pictures[:, None].expand(-1, 3, -1, -1), str(tmp_path))
    theirs = np.asarray(Image.open(tmp_path / "sprite.png"))
    np.testing.assert_array_equal(np.asarray(projector._sprite(pictures))[..., None].repeat(3, axis=2), theirs)
