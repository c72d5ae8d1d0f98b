"""Event files are read by TensorBoard's own reader."""

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gradloop.loops.tensorboard_log.event_writer import EventWriter


def test_tensorboard_reads_every_value(tmp_path):
    values = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
    values[7, 1] = np.nan
    steps = np.arange(10**9, 10**9 + 300)
    file = EventWriter(str(tmp_path / "run"))
    for part in (slice(200), slice(200, None)):
        columns = {"step/loss": values[part, 0].tolist(), "step/accuracy": values[part, 1].tolist()}
        file.write(steps[part].tolist(), columns)
        file.flush()
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
        EventWriter(str(tmp_path)).close()
    assert len(list(tmp_path.iterdir())) == 2


def test_other_tags_from_some_step_on(tmp_path):
    """Logs may gain a name on the way."""
    file = EventWriter(str(tmp_path))
    file.write([1], {"loss": [0.5]})
    file.write([2, 3], {"loss": [0.25, 0.125], "rate": [1.0, 2.0]})
    file.write([4], {"rate": [4.0]})
    file.close()
    reader = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    read = {
        tag: [(event.step, tf.make_ndarray(event.tensor_proto).item()) for event in reader.Tensors(tag)]
        for tag in ("loss", "rate")
    }
    assert read == {"loss": [(1, 0.5), (2, 0.25), (3, 0.125)], "rate": [(2, 1.0), (3, 2.0), (4, 4.0)]}


def test_files_are_in_the_order_in_which_they_were_made(tmp_path):
    """TensorBoard goes by their names; a clock may be behind that of an earlier computer."""
    earlier = tmp_path / "events.out.tfevents.4000000000.computer.7.v2"
    earlier.touch()
    EventWriter(str(tmp_path)).close()
    EventWriter(str(tmp_path)).close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == earlier.name and [name[20:30] for name in names[1:]] == ["4000000001", "4000000002"]


def test_a_file_grows_by_the_same_for_each_step(tmp_path):
    sizes = []
    for steps in (1000, 2000, 3000):
        file = EventWriter(str(tmp_path / str(steps)))
        file.write(range(10**6, 10**6 + steps), {"step/loss": [0.5] * steps, "step/accuracy": [0.25] * steps})
        file.close()
        (path,) = (tmp_path / str(steps)).iterdir()
        sizes.append(path.stat().st_size)
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] < 120 * 1000
