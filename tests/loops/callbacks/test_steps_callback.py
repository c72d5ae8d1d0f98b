"""What a callback of many steps hears, and from which batch a run counts."""

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.callbacks.steps_callback import batches_trained


def test_it_does_nothing_by_itself():
    callback = loops.StepsCallback()
    assert callback.on_train_steps_end(1, {"loss": np.zeros(2)}) is None
    assert callback.steps_allowed(3) is None and callback.train_step is None


@pytest.mark.parametrize("accumulate", [1, 2])
def test_batches_are_counted_as_training_does(accumulate):
    x, y = np.ones((6, 2), "float32"), np.ones((6, 2), "float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1), accumulate=accumulate)
    assert batches_trained(step) == 0
    for _ in range(3):
        step(x, y)
    assert batches_trained(step) == 3
    other = loops.TrainStep(model, "mse", step.optimizer, accumulate=accumulate)
    assert batches_trained(other) == 3 // accumulate * accumulate

    class Count(loops.StepsCallback):
        def on_epoch_begin(self, epoch, logs=None):
            self.seen = int(self.train_step.batches_done.numpy())

    expected, count = batches_trained(other), Count()
    loops.train(other, loops.Batches(x, y, 3), epochs=1, callbacks=[count])
    assert count.seen == expected


class Told(loops.StepsCallback):
    def __init__(self):
        super().__init__()
        self.hooks = []

    def set_data(self, data, validation):
        self.hooks.append((data, validation, self.train_step is None))

    def on_train_begin(self, logs=None):
        self.hooks.append("begin")

    def on_train_end(self, logs=None):
        self.hooks.append("end")

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise ZeroDivisionError("broken")


class Failed(Told):
    def on_train_failed(self, logs=None):
        self.hooks.append("failed")


@pytest.mark.parametrize(("kind", "ending"), [(Told, "end"), (Failed, "failed")])
def test_it_is_told_of_data_and_of_failure(tiny, kind, ending):
    data, validation, callback = tiny.data(), tiny.data(6), kind()
    loops.train(tiny.step(), data, epochs=1, callbacks=[callback])
    with pytest.raises(ZeroDivisionError):
        loops.train(tiny.step(), data, epochs=2, validation=validation, callbacks=[callback])
    first, *middle, last = callback.hooks
    assert first == (data, None, True) and last == ending
    assert middle == ["begin", "end", (data, validation, False), "begin"]
