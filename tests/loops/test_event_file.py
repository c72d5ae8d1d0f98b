"""Event files are read by TensorBoard's own reader."""

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gradloop.loops.event_file import EventFile


def test_tensorboard_reads_every_value(tmp_path):
    values = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
    values[7, 1] = np.nan
    steps = np.arange(10**9, 10**9 + 300)
    file = EventFile(str(tmp_path / "run"), ["step/loss", "step/accuracy"])
    file.write(steps[:200], values[:200])
    file.flush()
    file.write(steps[200:], values[200:])
    file.close()
    reader = EventAccumulator(str(tmp_path / "run"), {"tensors": 0}).Reload()
    assert reader.SummaryMetadata("step/loss").plugin_data.plugin_name == "scalars"
    for column, tag in enumerate(("step/loss", "step/accuracy")):
        events = reader.Tensors(tag)
        assert [event.step for event in events] == steps.tolist()
        read = [tf.make_ndarray(event.tensor_proto).item() for event in events]
        np.testing.assert_array_equal(np.float32(read), values[:, column])


def test_two_files_in_one_folder_do_not_collide(tmp_path):
    for _ in range(2):
        EventFile(str(tmp_path), ["a"]).close()
    assert len(list(tmp_path.iterdir())) == 2
