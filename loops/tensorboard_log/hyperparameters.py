"""Hyperparameters, by which several runs compare in the tab HParams."""

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
from .content import Board, Content
from .values import Value, plugin_value

_RUN = "hparams"


class HyperParameters(Content):
    """A run `hparams`, with the hyperparameters and, as `final/NAME`, the logs of the last epoch so far.

    It is a separate run, as TensorBoard makes a column of each scalar in or under the run of a session. A
    folder has one session: a run that resumes replaces the session from before, whose status TensorBoard
    would keep.
    """

    def __init__(self, hparams: Mapping[str, HParam]) -> None:
        self._hparams = hparams
        self._epoch = 0

    def on_train_begin(self, board: Board) -> None:
        board.files.check_run_folder(_RUN)

    def on_session_begin(self, board: Board, step: int, epoch: int) -> None:
        files = os.path.join(glob.escape(board.log_dir), _RUN, "events.out.tfevents.*")
        for file in tf.io.gfile.glob(files):
            tf.io.gfile.remove(file)
        self._epoch = epoch
        board.files.write_values(_RUN, epoch, [session_start(self._hparams)])

    def on_epoch_end(self, board: Board, epoch: int, logs: dict[str, float]) -> None:
        self._epoch = epoch
        board.files.write_scalars(_RUN, [epoch], {f"final/{name}": [value] for name, value in logs.items()})

    def on_train_end(self, board: Board, logs: dict[str, float]) -> None:
        board.files.write_values(_RUN, self._epoch, [session_end(succeeded=not board.failed)])


def session_start(hparams: Mapping[str, HParam]) -> Value:
    """The start of a session: its hyperparameters and its time.

    No list of hyperparameters and metrics is written for the experiment: TensorBoard would use the list of
    the first run alone, and not show names that only other runs have. Without a list it finds all of them.
    """
    info = SessionStartInfo(start_time_secs=time.time())
    for name, value in hparams.items():
        field = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
        setattr(info.hparams[name], f"{field}_value", value)
    return _value("session_start_info", HParamsPluginData(session_start_info=info))


def session_end(succeeded: bool) -> Value:
    """The end of a session: whether it succeeded, and its time."""
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    info = SessionEndInfo(status=status, end_time_secs=time.time())
    return _value("session_end_info", HParamsPluginData(session_end_info=info))


def _value(tag: str, data: HParamsPluginData) -> Value:
    nothing = np.zeros(0, np.float32)
    return plugin_value(f"_hparams_/{tag}", "hparams", nothing, content=data.SerializeToString())
