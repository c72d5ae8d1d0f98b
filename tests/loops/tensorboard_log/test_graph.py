"""The graph of the step, as TensorBoard reads it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from gradloop import loops
from gradloop.loops.tensorboard_log.graph import graph_of_step


def _graph(folder):
    reader = event_accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return reader.Graph()


def _check(graph):
    """Every input is there, no name twice; returns the nodes by name."""
    nodes = {node.name: node for node in graph.node}
    assert len(nodes) == len(graph.node)
    assert {name.lstrip("^").partition(":")[0] for node in graph.node for name in node.input} <= nodes.keys()
    return nodes


def test_the_step_that_was_traced(logged):
    nodes = _check(_graph(logged.folder / "train"))
    assert logged.step.traces == 1  # none more for the graph
    assert {
        "variables/conv/kernel",
        "variables/head/bias",
        "variables/optimizer/learning_rate",
    } <= nodes.keys()
    convolution = next(node for node in nodes.values() if node.op == "Conv2D")
    assert "/conv" in convolution.name and list(convolution.input)[0] == "while/GatherV2"
    assert any(name.startswith("gradient_tape/") for name in nodes)
    assert any(name.startswith("update/") for name in nodes)
    assert [
        tuple(dim.size for dim in shape.dim) for shape in convolution.attr["_output_shapes"].list.shape
    ] == [(-1, 6, 6, 4)]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(3)
        self.table = tf.constant(np.random.rand(5, 1000), tf.float32)

    def call(self, x):
        return self.first(x) + tf.reduce_sum(self.table)


@pytest.mark.parametrize("source", ["dataset", "batches", "hooks"])
def test_a_subclassed_model_without_its_large_constants(tmp_path, source):
    model = Subclassed()
    model(tf.zeros((1, 2)))
    x, y = np.ones((4, 2), "float32"), np.ones((4, 3), "float32")
    data = loops.Batches(x, y, 2)
    if source == "dataset":
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    each = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    callbacks = [loops.TensorBoard(tmp_path), *([each] if source == "hooks" else [])]
    step = loops.TrainStep(model, "mse", "sgd")
    loops.train(step, data, epochs=1, callbacks=callbacks)
    graph = _graph(tmp_path / "train")
    nodes = _check(graph)
    assert step.traces == 1 and "variables/first/kernel" in nodes and graph.ByteSize() < 100_000


def test_large_constants_keep_their_shape():
    table = np.random.rand(300, 7)

    @tf.function
    def function(x):
        return x * tf.constant(table) + tf.constant([1.0, 2.0] * 3 + [3.0], tf.float64)

    traced = function.get_concrete_function(tf.TensorSpec([300, 7], tf.float64))
    graph = graph_of_step(traced, {})
    found = {
        node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if node.op == "Const"
    }
    large, small = sorted(found.values(), key=lambda one: -one.size)
    assert large.shape == (300, 7) and not large.any() and small.tolist() == [1.0, 2.0] * 3 + [3.0]


def test_no_graph(tmp_path, digits):
    board = loops.TensorBoard(tmp_path / "off", graph=False)
    loops.train(digits.step(), digits.data(), epochs=1, callbacks=[board])
    with pytest.raises(ValueError, match="no graph"):
        _graph(tmp_path / "off" / "train")
    tf.config.run_functions_eagerly(True)
    try:
        board = loops.TensorBoard(tmp_path / "eager")
        loops.train(digits.step(), digits.data(), epochs=1, callbacks=[board])
    finally:
        tf.config.run_functions_eagerly(False)
    with pytest.raises(ValueError, match="no graph"):
        _graph(tmp_path / "eager" / "train")


@pytest.mark.long  # `test_large_constants_keep_their_shape` says what makes it small
def test_resnet50_is_small(tmp_path):
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=2)
    step = loops.TrainStep(model, "sparse_categorical_crossentropy", "adam")
    step(np.zeros((2, 32, 32, 3), "float32"), np.zeros(2, "int32"))
    graph = graph_of_step(step.traced, {})
    assert len(graph.node) > 5000 and graph.ByteSize() < 10_000_000
