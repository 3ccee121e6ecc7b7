"""A small convolutional network for Fashion-MNIST's 28x28 images."""

import torch
from torch import nn


class SmallCNN(nn.Module):
    """Logits (N, 10) of images (N, 1, 28, 28) in [0, 1]."""

    def __init__(self, num_classes: int = 10, batch_norm: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32) if batch_norm else nn.Identity()
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(32 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.pool(self.relu(self.bn1(self.conv1(images))))
        maps = self.pool(self.relu(self.bn2(self.conv2(maps))))
        return self.fc2(self.relu(self.fc1(torch.flatten(maps, 1))))
