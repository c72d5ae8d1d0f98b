"""Values of variables, assigned as they were read. On several replicas: `own_loop_on_replicas.py`."""

import keras
import numpy as np
import tensorflow as tf

from gradloop.optim.gradients.totals import assign_values


def test_each_kind_of_variable_gets_its_value():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        metric = keras.metrics.Sum(dtype="int64")
    variables = [tf.Variable([1, 2]), keras.Variable(3.0), metric.variables[0]]
    values = [np.array([5, 6], "int32"), np.array(7, "float32"), np.array(2**40 + 1)]
    assign_values(zip(variables, values))
    for variable, value in zip(variables, values):
        np.testing.assert_array_equal(variable.numpy(), value)
