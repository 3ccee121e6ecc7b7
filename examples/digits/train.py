"""Train DigitsCNN on scikit-learn's handwritten digits (1,797 real images that the package carries), in seconds.

Writes model.pt (a state_dict), calibration.npz (training images) and evaluation.npz (held-out images).
"""

from pathlib import Path

import numpy as np
import torch
from model import DigitsCNN
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).parent
EPOCHS = 25


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and held-out images, uint8 (N, 8, 8) from 0 to 16, with their labels; no image stands in both."""
    images, labels = load_digits(return_X_y=True)
    images, first = np.unique(images.astype(np.uint8), axis=0, return_index=True)
    labels = labels[first].astype(np.int64)
    train, test, train_labels, test_labels = train_test_split(
        images.reshape(-1, 8, 8), labels, test_size=0.4, stratify=labels, random_state=0
    )
    return train, train_labels, test, test_labels


def main() -> None:
    """Train, print the held-out accuracy, write the three files."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, train_labels, test, test_labels = data()
    x, y = torch.from_numpy(train[:, None] / np.float32(16)), torch.from_numpy(train_labels)
    model = DigitsCNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        predicted = model(torch.from_numpy(test[:, None] / np.float32(16))).argmax(1).numpy()
    print(f"float accuracy on {len(test)} held-out digits: {100 * np.mean(predicted == test_labels):.2f}%")
    np.savez_compressed(HERE / "calibration.npz", x=train, y=train_labels)
    np.savez_compressed(HERE / "evaluation.npz", x=test, y=test_labels)
    torch.save(model.state_dict(), HERE / "model.pt")


if __name__ == "__main__":
    main()
