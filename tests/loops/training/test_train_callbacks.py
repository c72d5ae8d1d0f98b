"""train with Keras' callbacks, as `model.fit` treats them."""

import keras
import numpy as np
import pytest

from gradloop import loops

pytestmark = pytest.mark.numbers


class Hooks(keras.callbacks.Callback):
    """Writes down every hook that is called; with batch hooks or without."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train begin")

    def on_train_end(self, logs=None):
        self.calls.append("train end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch begin {epoch}")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"epoch end {epoch} {sorted(logs)}")

    def on_test_begin(self, logs=None):
        self.calls.append("test begin")

    def on_test_end(self, logs=None):
        self.calls.append(f"test end {sorted(logs)}")


class BatchHooks(Hooks):
    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(f"begin {batch}")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(f"end {batch} {sorted(logs)}")

    def on_test_batch_begin(self, batch, logs=None):
        self.calls.append(f"test begin {batch}")

    def on_test_batch_end(self, batch, logs=None):
        self.calls.append(f"test end {batch} {sorted(logs)}")


@pytest.mark.parametrize("hooks", [Hooks, pytest.param(BatchHooks, marks=pytest.mark.release)])
def test_hooks_are_called_as_fit_calls_them(problem, hooks):
    """Where only reading the data tells how long an epoch is; for others see `test_every_keras_callback`."""
    ours, theirs = hooks(), hooks()
    reference, validation = problem.model(), (problem.x[:7], problem.y[:7])
    reference.compile("adam", problem.loss, metrics=["accuracy"])
    fit = {"validation_data": validation, "validation_batch_size": 5, "verbose": 0}
    reference.fit(problem.dataset(), shuffle=False, epochs=2, callbacks=[theirs], **fit)
    data = {"validation": problem.data(*validation), "callbacks": [ours]}
    loops.train(problem.step(), problem.generated(), epochs=2, **data)
    assert ours.calls == theirs.calls


def test_callbacks_see_the_run(problem):
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.update(self.params, optimizer=self.model.optimizer, stop=self.model.stop_training)

    step = problem.step()
    history = loops.train(step, problem.data(), epochs=2, callbacks=(Look(),))
    assert seen["epochs"] == 2 and seen["steps"] == 5 and seen["stop"] is False
    assert seen["optimizer"] is step.optimizer
    assert step.model.optimizer is step.optimizer  # of which `model.save` keeps the state
    assert step.model.history is history
    other = keras.callbacks.History()
    assert loops.train(step, problem.generated(), epochs=1, callbacks=[Look(), other]) is other
    assert seen["steps"] is None


def test_a_compiled_model_keeps_its_optimizer(problem):
    step = problem.step()
    step.model.compile("sgd", "mse")
    own = step.model.optimizer
    loops.train(step, problem.data(), epochs=1)
    assert step.model.optimizer is own


def test_a_callback_that_cannot_begin(problem, tmp_path):
    (tmp_path / "file").write_text("")
    callbacks = [
        loops.TensorBoard(tmp_path / "file" / "logs"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    step = problem.step()
    before = step.model.get_weights()
    with pytest.raises(ValueError, match="`log_dir` .* cannot be written"):
        loops.train(step, problem.data(), epochs=1, callbacks=callbacks)
    for weight, old in zip(step.model.get_weights(), before):
        np.testing.assert_array_equal(weight, old)
    assert not hasattr(step.model, "optimizer")
