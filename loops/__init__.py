"""How a step runs: gradients, devices, data, callbacks."""

from .batches import Batches, BatchIterator
from .callbacks import StepsCallback
from .checkpoint import Checkpoint
from .cluster import is_chief
from .eval_step import EvalStep, evaluate
from .labels import LabelError
from .mean_loss import mean_loss
from .measures import Records
from .nonfinite import NonFiniteError
from .progress import ProgressBar
from .replicated import replicated
from .step import TrainStep
from .strategy import strategy
from .tensorboard import TensorBoard, check_log_dir
from .train import train
from .unfreeze import Unfreeze
from .update import Update

__all__ = [
    "BatchIterator",
    "Batches",
    "Checkpoint",
    "EvalStep",
    "LabelError",
    "NonFiniteError",
    "ProgressBar",
    "Records",
    "StepsCallback",
    "TensorBoard",
    "TrainStep",
    "Unfreeze",
    "Update",
    "check_log_dir",
    "evaluate",
    "is_chief",
    "mean_loss",
    "replicated",
    "strategy",
    "train",
]
