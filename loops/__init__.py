"""How a step runs: gradients, devices, data, callbacks."""

from ..optim.common.old_paths import keep_old_paths
from ..optim.common.preempted import Preempted
from .callbacks.progress_bar import ProgressBar
from .callbacks.steps_callback import StepsCallback
from .callbacks.unfreeze import Unfreeze
from .checkpoint.checkpoint import Checkpoint
from .checkpoint.retention import Best, Every, Latest
from .data.batches import Batches, BatchIterator
from .distribute.cluster import is_chief
from .distribute.strategies import strategy
from .loss.labels import LabelError
from .loss.mean_loss import mean_loss
from .loss.records import Records
from .preflight_checks.preflight import preflight
from .step.eval_step import EvalStep
from .step.replicated import replicated
from .step.train_step import TrainStep
from .step.watch import Watch
from .support.folders import check_log_dir
from .support.scalars import record
from .tensorboard_log.board import TensorBoard
from .training.evaluate import evaluate
from .training.graceful_exit import graceful_exit
from .training.train import train
from .update.nonfinite import NonFiniteError
from .update.restore import Restore
from .update.spikes import Spike
from .update.update import Update

__all__ = [
    "BatchIterator",
    "Batches",
    "Best",
    "Checkpoint",
    "EvalStep",
    "Every",
    "LabelError",
    "Latest",
    "NonFiniteError",
    "Preempted",
    "ProgressBar",
    "Records",
    "Restore",
    "Spike",
    "StepsCallback",
    "TensorBoard",
    "TrainStep",
    "Unfreeze",
    "Update",
    "Watch",
    "check_log_dir",
    "evaluate",
    "graceful_exit",
    "is_chief",
    "mean_loss",
    "preflight",
    "record",
    "replicated",
    "strategy",
    "train",
]

# Where classes that may be in somebody's pickle lay before.
keep_old_paths(
    __name__,
    {
        "batches": "data.batches",
        "callbacks.tensorboard": "tensorboard_log.board",
        "checkpoint_folder": "checkpoint.directory",
        "labels": "loss.labels",
        "nonfinite": "update.nonfinite",
        "progress": "callbacks.progress_bar",
        "tensorboard": "tensorboard_log.board",
        "unfreeze": "callbacks.unfreeze",
    },
)
