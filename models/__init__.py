"""Networks to train: LeNet-5, written in the three ways that Keras has."""

from .lenet5 import LeNet5, lenet5_functional, lenet5_sequential

__all__ = ["LeNet5", "lenet5_functional", "lenet5_sequential"]
