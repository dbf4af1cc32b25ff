"""Training as most people write it in plain PyTorch: what birdclf's speed is measured against.

Network, loss, optimizer, clipping and batch are those of ``birdclf train experiment=phase2b``. The memory format, the
order of ReLU and pool, the data set, the collation and the memory allocator are the usual defaults.

    python benchmarks/plain_loop.py FOLDER --workers 0

FOLDER holds ``labels.csv`` (file, label) and one ``.npy`` a recording, ``(3, 20, 500)`` float32.
Prints a line a step: the time of its end, the running mean loss, the running accuracy.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

NUM_CLASSES = 89


class BirdDataset(Dataset[tuple[torch.Tensor, int]]):
    """One file a recording."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with open(folder / "labels.csv") as file:
            self.rows = list(csv.DictReader(file))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        row = self.rows[index]
        return torch.from_numpy(np.load(self.folder / row["file"])), int(row["label"])


def conv_block(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU()]


def build_network() -> nn.Sequential:
    network = nn.Sequential(
        *conv_block(3, 64), nn.MaxPool2d(2),
        *conv_block(64, 128), nn.MaxPool2d(2),
        *conv_block(128, 256), nn.MaxPool2d(2),
        *conv_block(256, 512), nn.MaxPool2d(2),
        *conv_block(512, 512), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(512, 512), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(512, NUM_CLASSES),
    )  # fmt: skip
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
    return network


class FocalLoss(nn.Module):
    """``(1 - p)^gamma`` times the cross-entropy."""

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of logits ``(B, K)`` and classes ``(B,)``."""
        ce = functional.cross_entropy(logits, target, reduction="none")
        return ((1 - torch.exp(-ce)) ** self.gamma * ce).mean()


def predict(network: nn.Module, folder: Path, workers: int) -> None:
    """Predict in an endless loop; print the time at which each batch ends."""
    loader = DataLoader(BirdDataset(folder), batch_size=32, num_workers=workers)
    network.eval()
    with torch.no_grad():
        while True:
            for inputs, _ in loader:
                network(inputs).softmax(1).numpy()
                print(time.perf_counter(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="A plain PyTorch training loop.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--predict", action="store_true", help="predict only, as most people write it")
    arguments = parser.parse_args()

    torch.manual_seed(1)
    loader = DataLoader(BirdDataset(arguments.folder), batch_size=32, shuffle=True, num_workers=arguments.workers)
    device = torch.device(arguments.device)
    network = build_network().to(device)
    assert sum(p.numel() for p in network.parameters()) == 4_222_041  # the published count
    criterion = FocalLoss(gamma=2.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, weight_decay=1e-4)
    if arguments.predict:
        predict(network, arguments.folder, arguments.workers)
    network.train()
    for _ in range(50):
        running_loss, correct, total = 0.0, 0, 0
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            optimizer.zero_grad()
            outputs = network(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), max_norm=1.0)
            optimizer.step()

            running_loss += loss.item() * inputs.size(0)
            predicted = outputs.max(1)[1]
            total += labels.size(0)
            correct += predicted.eq(labels).sum().item()
            print(time.perf_counter(), running_loss / total, correct / total, flush=True)


if __name__ == "__main__":
    main()
