"""Keras' private parts that `loops` reads are still where it reads them."""

import keras
import numpy as np
import pytest

from gradloop.loops.support.keras_private import built_variables, knows_variable, take_initial_epoch

pytestmark = pytest.mark.versions


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lion", "ftrl", "nadam"])
def test_knows_variable(name):
    known, unknown = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = keras.optimizers.get(name)
    optimizer.build([known])
    assert knows_variable(optimizer, known)
    assert not knows_variable(optimizer, unknown)


@pytest.mark.parametrize("name", ["sgd", "adam", "ftrl"])
def test_built_variables(name):
    variables = [keras.Variable([1.0]), keras.Variable([2.0])]
    optimizer = keras.optimizers.get(name)
    optimizer.build(variables)
    assert [id(v) for v in built_variables(optimizer)] == [id(v) for v in variables]


def test_backup_and_restore_leaves_its_epoch_where_it_is_read(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert take_initial_epoch(model) == 0

    def fail(epoch, logs):
        if epoch == 2:
            raise OSError

    x = np.ones((4, 1))
    failing = keras.callbacks.LambdaCallback(on_epoch_begin=fail)
    callbacks = [keras.callbacks.BackupAndRestore(tmp_path), failing]
    with pytest.raises(OSError):
        model.fit(x, x, epochs=3, verbose=0, callbacks=callbacks)
    again = keras.callbacks.BackupAndRestore(tmp_path)
    again.set_model(model)
    again.on_train_begin()
    assert take_initial_epoch(model) == 2
    assert take_initial_epoch(model) == 0
