"""PyTorch, eager and compiled, with the data held as tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .case import LEARNING_RATE, Case, Contender


def network_of(name: str) -> nn.Module:
    """The network in PyTorch's layout, ending in logits."""
    if name == "softmax":
        return nn.Linear(784, 10)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def _initialise(layer: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, as all other contenders start from."""
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


class Torch(Contender):
    """The usual PyTorch loop; rows are picked by a shuffled index, quicker than a `DataLoader`."""

    def __init__(self, case: Case, images: np.ndarray, labels: np.ndarray, *, compiled: bool) -> None:
        torch.manual_seed(0)
        self.batch_size = case.batch_size
        self.images, self.labels = self._tensors(images, labels)
        self.network = network_of(case.network)
        self.network.apply(_initialise)
        self.forward = torch.compile(self.network) if compiled else self.network
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE)
        self.loss_of = nn.CrossEntropyLoss()

    @staticmethod
    def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        if images.ndim == 4:
            # One channel: the same bytes serve as [n, 1, 28, 28].
            images = images.reshape(len(images), 1, *images.shape[1:3])
        return torch.from_numpy(images), torch.from_numpy(labels)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def block(self, steps: int) -> None:
        order = torch.randperm(len(self.labels))
        for i in range(steps):
            index = order[i * self.batch_size : (i + 1) * self.batch_size]
            self.optimizer.zero_grad()
            loss = self.loss_of(self.forward(self.images[index]), self.labels[index])
            loss.backward()
            self.optimizer.step()
        loss.item()

    def loss(self, images: np.ndarray, labels: np.ndarray) -> float:
        x, y = self._tensors(images, labels)
        with torch.no_grad():
            return float(self.loss_of(self.network(x), y))


def build(name: str, case: Case, images: np.ndarray, labels: np.ndarray) -> Contender:
    """`"torch"` or `"torch-compile"`."""
    return Torch(case, images, labels, compiled=name == "torch-compile")
