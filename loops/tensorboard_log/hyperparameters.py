"""Hyperparameters, with which several runs compare in the tab HParams."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from .arguments import HParam
from .part import Board, Part
from .values import Value, plugin_value

_RUN = "hparams"


class HyperParameters(Part):
    """A run `hparams`, with the hyperparameters and, as `final/NAME`, the logs of the last epoch so far.

    A run of its own, as TensorBoard makes a column of each scalar in or under the run of a session. There is
    one session in a folder: a run that resumes takes the place of its first part, of which TensorBoard would
    keep the status.
    """

    def __init__(self, hparams: Mapping[str, HParam]) -> None:
        self._hparams = hparams
        self._epoch = 0

    def on_train_begin(self, board: Board) -> None:
        board.files.check(_RUN)

    def on_session(self, board: Board, step: int, epoch: int) -> None:
        files = os.path.join(glob.escape(board.log_dir), _RUN, "events.out.tfevents.*")
        for file in tf.io.gfile.glob(files):
            tf.io.gfile.remove(file)
        self._epoch = epoch
        board.files.values(_RUN, epoch, [session_start(self._hparams)])

    def on_epoch_end(self, board: Board, epoch: int, logs: dict[str, float]) -> None:
        self._epoch = epoch
        board.files.scalars(_RUN, [epoch], {f"final/{name}": [value] for name, value in logs.items()})

    def on_train_end(self, board: Board, logs: dict[str, float]) -> None:
        board.files.values(_RUN, self._epoch, [session_end(succeeded=not board.failed)])


def session_start(hparams: Mapping[str, HParam]) -> Value:
    """What a run begins with, written into a run of TensorBoard's of its own.

    No list of hyperparameters and metrics is written for the experiment, since of several TensorBoard takes
    the first: names that only other runs have would not show. It finds all of them by itself.
    """
    info = SessionStartInfo(start_time_secs=time.time())
    for name, value in hparams.items():
        field = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
        setattr(info.hparams[name], f"{field}_value", value)
    return _value("session_start_info", HParamsPluginData(session_start_info=info))


def session_end(succeeded: bool) -> Value:
    """What a run ends with, whether it came to its end or failed."""
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    info = SessionEndInfo(status=status, end_time_secs=time.time())
    return _value("session_end_info", HParamsPluginData(session_end_info=info))


def _value(tag: str, data: HParamsPluginData) -> Value:
    nothing = np.zeros(0, np.float32)
    return plugin_value(f"_hparams_/{tag}", "hparams", nothing, content=data.SerializeToString())
