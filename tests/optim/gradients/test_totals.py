"""Values of variables, assigned as they were read. On several replicas: `own_loop_on_replicas.py`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.gradients.totals import assign_values


def test_each_kind_of_variable_gets_its_value():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        metric = keras.metrics.Sum(dtype="int64")
    variables = [tf.Variable([1, 2]), keras.Variable(3.0), metric.variables[0]]
    values = [np.array([5, 6], "int32"), np.array(7, "float32"), np.array(2**40 + 1)]
    for given in (values, [tf.constant(value + 1) for value in values]):
        assign_values(zip(variables, given))
        for variable, value in zip(variables, given):
            np.testing.assert_array_equal(variable.numpy(), value)
    with pytest.raises(ValueError, match="[Ss]hape"):
        assign_values([(variables[0], tf.constant([1, 2, 3]))])
    variables[0].assign_add([1, 1])
    np.testing.assert_array_equal(given[0], [6, 7], "a tensor stays what it is")
