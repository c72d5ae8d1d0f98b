"""A run on two replicas with pictures and graph: `two_replicas.py FOLDER`."""

import sys
from pathlib import Path

import numpy as np

from gradloop import loops
from gradloop.loops.tensorboard_log.confusion import confusion_picture
from tests.loops.tensorboard_log.conftest import Digits, events_in, picture_of, values_in

folder, digits = Path(sys.argv[1]), Digits()
with loops.strategy("mirrored:cpu:2").scope():
    step = digits.step()
board = loops.TensorBoard(folder, images=2)
loops.train(step, digits.data(), epochs=1, callbacks=[board])

[(_, value)] = values_in(folder / "train", "images/confusion")["images/confusion"]
predicted = np.asarray(step.model(digits.x, training=False)).argmax(-1)
counts = np.zeros((3, 3), int)
np.add.at(counts, (digits.y, predicted), 1)
np.testing.assert_array_equal(picture_of(value), confusion_picture(counts))
assert "training data" in value.metadata.summary_description

graphs = [event.graph_def for event in events_in(folder / "train") if event.graph_def]
text = b"".join(graphs)
assert len(graphs) == 1 and b"variables/conv/kernel/replica_1" in text and b"replica_1/" in text
