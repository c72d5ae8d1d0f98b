"""A run on two replicas with pictures and graph: `on_replicas.py FOLDER mirrored:cpu:2`, or `multiworker`."""

import sys
from pathlib import Path

from gradloop import loops

strategy = loops.strategy(sys.argv[2])  # before anything that makes a tensor

import numpy as np  # noqa: E402

from gradloop.loops.tensorboard_log.confusion import confusion_picture  # noqa: E402
from tests.loops.tensorboard_log.conftest import Digits, events_in, picture_of, values_in  # noqa: E402
from tests.programs import leave_together  # noqa: E402

folder, digits = Path(sys.argv[1]) / "logs", Digits()
with strategy.scope():
    step = digits.step()
board = loops.TensorBoard(folder, images=2, hparams={"rate": 0.1})
history = loops.train(step, digits.data(), epochs=2, callbacks=[board]).history

if loops.is_chief():
    values = values_in(folder / "train", "images/confusion")["images/confusion"]
    assert [number for number, _ in values] == [1, 2]
    predicted = np.asarray(step.model(digits.x, training=False)).argmax(-1)
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (digits.y, predicted), 1)
    np.testing.assert_array_equal(picture_of(values[-1][1]), confusion_picture(counts))
    assert "training data" in values[0][1].metadata.summary_description

    graphs = [event.graph_def for event in events_in(folder / "train") if event.graph_def]
    assert len(graphs) == 1 and b"variables/conv/kernel" in graphs[0]
    if sys.argv[2].startswith("mirrored"):
        assert b"variables/conv/kernel/replica_1" in graphs[0] and b"replica_1/" in graphs[0]
print(history["loss"][-1])
if sys.argv[2] == "multiworker":
    leave_together(Path(sys.argv[1]), strategy.cluster_resolver.task_id, 2)
