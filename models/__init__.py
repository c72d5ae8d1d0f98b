"""Networks to train: LeNet-5 written in Keras' three ways, and transfer learning on keras.applications."""

from .backbone import backbone, networks
from .cache_frozen import Cached, cache_frozen
from .classifier import classifier
from .lenet5 import LeNet5, lenet5_functional, lenet5_sequential
from .recommend import Strategy, recommend
from .truncate import truncate
from .weights_file import load_weights, save_weights

__all__ = [
    "Cached",
    "LeNet5",
    "Strategy",
    "backbone",
    "cache_frozen",
    "classifier",
    "lenet5_functional",
    "lenet5_sequential",
    "load_weights",
    "networks",
    "recommend",
    "save_weights",
    "truncate",
]
