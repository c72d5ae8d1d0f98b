"""TensorBoard's files, read back."""

import keras
import numpy as np
import pytest

from gradloop import loops
from tests.loops.tensorboard_log.small_runs import X, Y, scalars_in, small_data, small_model, small_step

pytestmark = pytest.mark.numbers

RATES = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9)


def _losses(steps, rate=0.1):
    """Each step's loss and metric by a plain Keras loop over the same batches."""
    model = small_model()
    model.compile(keras.optimizers.SGD(rate), "mse")
    losses, errors = [], []
    for step in range(steps):
        part = slice(5 * (step % 5), 5 * (step % 5) + 5)
        errors.append(np.abs(model.predict_on_batch(X[part]) - Y[part]).mean())
        model.reset_metrics()  # before 3.13, Keras returned the mean since the last reset
        losses.append(float(model.train_on_batch(X[part], Y[part])))
    return losses, errors


def test_every_step_and_epoch(tmp_path):
    history = loops.train(
        small_step(), small_data(), epochs=3, validation=small_data(), callbacks=[loops.TensorBoard(tmp_path)]
    )
    train, validation = scalars_in(tmp_path / "train"), scalars_in(tmp_path / "validation")
    train |= scalars_in(tmp_path / "steps")
    losses, errors = _losses(15)
    assert [step for step, _ in train["step/loss"]] == list(range(1, 16))
    np.testing.assert_allclose([value for _, value in train["step/loss"]], losses, rtol=1e-5)
    np.testing.assert_allclose([value for _, value in train["step/mae"]], errors, rtol=1e-5)
    for tags, prefix in ((train, ""), (validation, "val_")):
        for name in ("loss", "mae"):
            steps, values = zip(*tags[f"epoch/{name}"])
            assert steps == (1, 2, 3)
            np.testing.assert_allclose(values, history.history[prefix + name], rtol=1e-6)
    watched = {
        *("rate/all", "grad_norm/all", "weight_norm/all", "update_ratio/all", "clipped/all", "skipped/all"),
        *("speed/steps_per_s", "speed/examples_per_s", "speed/waiting_for_data"),
    }
    own = {"step/loss", "step/mae", "epoch/loss", "epoch/mae", "epoch/learning_rate"}
    assert set(train) == own | watched
    assert {step for tag in watched for step, _ in train[tag]} == {10}
    assert set(validation) == {"epoch/loss", "epoch/mae"}


@pytest.mark.parametrize("every", [2, 4, 100])
def test_some_steps(tmp_path, every):
    board = loops.TensorBoard(str(tmp_path), every_steps=every)
    loops.train(small_step(), small_data(), epochs=2, callbacks=[board])
    folder = tmp_path / "steps"
    tags = scalars_in(folder) if folder.exists() else {}
    losses, _ = _losses(10)
    expected = [(step, losses[step - 1]) for step in range(every, 11, every)]
    steps = tags.get("step/loss", [])
    assert [step for step, _ in steps] == [step for step, _ in expected]
    np.testing.assert_allclose([v for _, v in steps], [v for _, v in expected], rtol=1e-5)
    assert len(scalars_in(tmp_path / "train")["epoch/loss"]) == 2


@pytest.mark.parametrize("rate", [0.05, RATES], ids=["number", "schedule"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_learning_rate(tmp_path, rate, scaled):
    optimizer = keras.optimizers.SGD(rate)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    step = loops.TrainStep(small_model(), "mse", optimizer)
    loops.train(step, small_data(), epochs=2, callbacks=[loops.TensorBoard(tmp_path)])
    rates = [value for _, value in scalars_in(tmp_path / "train")["epoch/learning_rate"]]
    expected = [0.05, 0.05] if rate == 0.05 else [float(RATES(5)), float(RATES(10))]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)
def test_several_optimizers_have_no_rate(tmp_path):
    inner = keras.optimizers.SGD()
    step = loops.TrainStep(small_model(), "mse", keras.optimizers.MultiOptimizer(lambda variable: inner))
    loops.train(step, small_data(), epochs=1, callbacks=[loops.TensorBoard(tmp_path, watch_every=5)])
    assert list(scalars_in(tmp_path / "train")) == ["epoch/loss"]
    assert [number for number, _ in scalars_in(tmp_path / "steps")["grad_norm/all"]] == [5]


def test_logs_that_are_no_numbers_are_left_out_and_said_once(tmp_path):
    adds = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(note="a", best=None))
    callbacks = [adds, loops.TensorBoard(tmp_path, watch=None, hparams={"rate": 1})]
    with pytest.warns(
        UserWarning, match="epoch 1 hold values that are not numbers, .*: 'best': None, 'note': 'a'"
    ) as told:
        loops.train(small_step(), small_data(), epochs=2, callbacks=callbacks)
    assert len(told) == 1
    assert sorted(scalars_in(tmp_path / "train")) == ["epoch/learning_rate", "epoch/loss", "epoch/mae"]


def test_a_rate_that_a_callback_turns(tmp_path):
    turn = keras.callbacks.LearningRateScheduler(lambda epoch: [0.2, 0.02][epoch])
    loops.train(small_step(), small_data(), epochs=2, callbacks=[turn, loops.TensorBoard(tmp_path)])
    rates = [value for _, value in scalars_in(tmp_path / "train")["epoch/learning_rate"]]
    np.testing.assert_allclose(rates, [0.2, 0.02], rtol=1e-6)


@pytest.mark.parametrize("same", [False, True])
def test_two_calls_in_a_row(tmp_path, same):
    step, board = small_step(), loops.TensorBoard(tmp_path)
    for _ in range(2):
        loops.train(step, small_data(), epochs=1, callbacks=[board])
        board = board if same else loops.TensorBoard(tmp_path)
    points = sorted(scalars_in(tmp_path / "steps")["step/loss"])
    assert [number for number, _ in points] == list(range(1, 11))
    np.testing.assert_allclose([value for _, value in points], _losses(10)[0], rtol=1e-5)


def test_one_step_a_call(tmp_path):
    each = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    board = loops.TensorBoard(tmp_path)
    loops.train(small_step(), small_data(), epochs=2, callbacks=[board, each])
    points = scalars_in(tmp_path / "steps")["step/loss"]
    assert [number for number, _ in points] == list(range(1, 11))
    np.testing.assert_allclose([value for _, value in points], _losses(10)[0], rtol=1e-5)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, loops.NonFiniteError])
def test_what_came_before_an_error_is_written(tmp_path, error):
    x, steps, board = X.copy(), 5, loops.TensorBoard(tmp_path)
    callbacks = [board]
    if error is loops.NonFiniteError:
        x[17], steps = np.nan, 3  # in the fourth batch
    else:

        def fail(epoch, logs):
            raise error("on purpose")

        callbacks.insert(0, keras.callbacks.LambdaCallback(on_epoch_end=fail))
    data = loops.Batches(x, Y, 5, shuffle=False)
    try:
        loops.train(small_step(), data, epochs=2, callbacks=callbacks)
    except (ZeroDivisionError, loops.NonFiniteError):
        pass
    points = scalars_in(tmp_path / "steps")["step/loss"]
    assert [number for number, _ in points] == list(range(1, steps + 1))
    np.testing.assert_allclose([value for _, value in points], _losses(steps)[0], rtol=1e-5)
