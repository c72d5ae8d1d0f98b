"""Networks to train: LeNet-5 written in Keras' three ways, and transfer learning on keras.applications."""

from ..optim.common.old_paths import keep_old_paths
from .feature_cache.cache import Cached, cache_frozen
from .lenet.lenet5 import LeNet5, lenet5_functional, lenet5_sequential
from .pretrained.backbone import backbone, networks
from .pretrained.head import classifier
from .pretrained.strategy import Strategy, recommend
from .pretrained.truncation import truncate
from .weights.by_name import load_weights, save_weights

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

# Where the classes were that earlier versions may have pickled.
keep_old_paths(__name__, {"lenet5": "lenet.lenet5", "recommend": "pretrained.strategy"})
