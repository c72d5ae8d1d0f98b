"""`TensorBoard.write` in loops of one's own, read back by TensorBoard."""

import gc
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from tests.loops.tensorboard_log.loaders import LOADERS, by_python

DOCS = Path(__file__).parents[3] / "docs" / "own_loops.md"

pytestmark = pytest.mark.numbers


def test_numbers_of_every_kind(tmp_path):
    with loops.TensorBoard(tmp_path) as board:
        assert not (tmp_path / "steps").exists()
        board.write(0, {"number": 3, "tensor": tf.constant(0.5), "variable": tf.Variable(1.5), "yes": True})
        board.write(1, {"number": np.float16(0.25), "large": 2**70, "tensor": tf.constant(2.5, tf.bfloat16)})
        board.write(2, {"number": np.array([7.0, 8.0]), "tensor": tf.constant([9, 10])})
        board.write(4, {})
    assert by_python(tmp_path)["steps"] == {
        "number": [(0, 3.0), (1, 0.25), (2, 7.0), (3, 8.0)],
        "tensor": [(0, 0.5), (1, 2.5), (2, 9.0), (3, 10.0)],
        "variable": [(0, 1.5)],
        "yes": [(0, 1.0)],
        "large": [(1, 2.0**70)],
    }


@pytest.mark.parametrize("load", LOADERS)
def test_after_a_close_a_session_begins(tmp_path, load):
    board = loops.TensorBoard(tmp_path)
    for steps in (range(1, 6), range(3, 5)):
        with board:
            for step in steps:
                board.write(step, {"a": step + 0.5 * min(steps)})
    assert load(tmp_path)["steps"] == {"a": [(1, 1.5), (2, 2.5), (3, 4.5), (4, 5.5)]}


def test_a_number_that_is_only_traced_is_refused(tmp_path):
    with loops.TensorBoard(tmp_path) as board:

        @tf.function(autograph=False)
        def step(value):
            board.write(1, {"loss": value})

        with pytest.raises(
            TypeError, match="`values` must .* got 'loss' in a TensorFlow function.*: return it"
        ):
            step(tf.constant(1.0))


def test_a_board_that_nobody_closes_is_complete_when_it_is_gone(tmp_path):
    board = loops.TensorBoard(tmp_path)
    board.write(1, {"loss": 0.5})
    del board
    gc.collect()
    assert by_python(tmp_path)["steps"] == {"loss": [(1, 0.5)]}
    with loops.TensorBoard(tmp_path) as board:  # and the folder is free
        board.write(2, {"loss": 0.25})


def test_an_error_on_the_way_closes_the_files(tmp_path):
    with pytest.raises(ZeroDivisionError), loops.TensorBoard(tmp_path) as board:
        board.write(1, {"loss": 0.5})
        raise ZeroDivisionError
    assert by_python(tmp_path)["steps"] == {"loss": [(1, 0.5)]}


def test_the_example_of_the_guide(tmp_path):
    """It runs as it stands there, and writes what a loop by hand computes."""
    section = DOCS.read_text().partition("\n## TensorBoard\n")[2]
    (code,) = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], flags=re.DOTALL)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, 3)), random.normal(size=(6, 1))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
    weights, bias = model.layers[0].kernel.numpy(), model.layers[0].bias.numpy()
    given = {"tf": tf, "model": model, "optimizer": keras.optimizers.SGD(0.1), "log_dir": tmp_path}
    exec(code, {**given, "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(2), "first": 1})
    losses = []
    for part in (slice(0, 2), slice(2, 4), slice(4, 6)):
        error = x[part] @ weights + bias - y[part]
        losses.append(np.square(error).mean())
        gradients = [x[part].T @ error, error.sum(0)]
        norm = np.sqrt(sum(np.square(gradient).sum() for gradient in gradients))
        weights, bias = (v - 0.1 * g / max(norm, 1.0) for v, g in zip((weights, bias), gradients))
    tags = by_python(tmp_path)["steps"]
    assert [step for step, _ in tags["step/loss"]] == [1, 2, 3]
    np.testing.assert_allclose([loss for _, loss in tags["step/loss"]], losses, rtol=1e-6)
    assert tags["rate/all"] == [(step, np.float32(0.1).item()) for step in (1, 2, 3)]
