"""Train SmallCNN on Fashion-MNIST in minutes; the same machine and options give the same weights.

Writes model.pt (a state_dict), calibration.npz (1,000 training images), evaluation.npz (the 10,000 test images) and
training.npz (all training images, for pruning and quantization-aware training).
"""

import argparse
from pathlib import Path

import data
import numpy as np
import torch
from model import SmallCNN
from torch import nn

HERE = Path(__file__).parent
BATCH = 128
CALIBRATION_PER_CLASS = 100


def augment(images: torch.Tensor) -> torch.Tensor:
    """Mirror each image with probability 1/2 and shift it by up to one pixel."""
    mirrored = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images, images.flip(3))
    padded = nn.functional.pad(mirrored, (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2, len(images), 1, 1))
    rows = (torch.arange(28)[None, :, None] + down).expand(-1, -1, 28)
    columns = (torch.arange(28)[None, None, :] + right).expand(-1, 28, -1)
    return padded[torch.arange(len(images))[:, None, None], 0, rows, columns][:, None]


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> SmallCNN:
    """SmallCNN after `epochs` passes over the images."""
    x, y = torch.from_numpy(images[:, None] / np.float32(255)), torch.from_numpy(labels)
    model = SmallCNN(batch_norm=True)
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(augment(x[batch])), y[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(x):.4f}", flush=True)
    return model.eval()


def accuracy(model: SmallCNN, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 in percent."""
    with torch.inference_mode():
        batches = torch.from_numpy(images[:, None] / np.float32(255)).split(1000)
        predicted = torch.cat([model(batch).argmax(1) for batch in batches]).numpy()
    return 100 * float(np.mean(predicted == labels))


def main() -> None:
    """Train, print the accuracy on the test images, write the four files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="passes over the 60,000 training images (default: 5)")
    epochs = parser.parse_args().epochs
    if epochs < 1:
        parser.error("--epochs must be at least 1")
    torch.manual_seed(0)
    torch.set_num_threads(1)  # sums come out the same however many cores there are
    images, labels = data.load("train")
    test, test_labels = data.load("test")
    model = train(images, labels, epochs)
    print(f"float accuracy on {len(test)} test images: {accuracy(model, test, test_labels):.2f}%")
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == k)[:CALIBRATION_PER_CLASS] for k in range(10)]))
    np.savez_compressed(HERE / "calibration.npz", x=images[chosen], y=labels[chosen])
    np.savez_compressed(HERE / "evaluation.npz", x=test, y=test_labels)
    np.savez_compressed(HERE / "training.npz", x=images, y=labels)
    torch.save(model.state_dict(), HERE / "model.pt")


if __name__ == "__main__":
    main()
