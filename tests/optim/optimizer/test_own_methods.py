"""Methods of a user's own optimizer: each is called as Keras calls it, or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.optim import Group
from tests.optim.optimizer.test_followed_settings import grouped, network


class Louder(keras.optimizers.SGD):
    """Multiplies the loss, as an optimizer may that scales it in its own way."""

    def scale_loss(self, loss):
        return 8 * loss


def test_a_way_to_scale_the_loss_is_that_of_the_wrapped_optimizer_alone():
    assert grouped(network()[0], Louder(0.1)).scale_loss(0.5) == 4.0
    with pytest.raises(ValueError, match="of a group is a Louder with a `scale_loss` of its own: there is"):
        Group("*", optimizer=Louder(0.1))


class Normalised(keras.optimizers.SGD):
    """Divides by the norm of all gradients that it is given, in a method that Keras calls first."""

    def apply(self, grads, trainable_variables=None):
        norm = tf.linalg.global_norm(grads)
        return super().apply([gradient / norm for gradient in grads], trainable_variables)


def test_a_method_of_the_users_own_is_called_for_each_group():
    model, variables = network()
    optimizer = grouped(model, Normalised(1.0))
    optimizer.apply([tf.fill((2, 2), 3.0), tf.fill((2, 2), 5.0)])
    for variable in variables:
        np.testing.assert_allclose(variable, np.full((2, 2), 0.5))


@pytest.mark.parametrize("setting", [{"global_clipnorm": 1.0}, {"loss_scale_factor": 8.0}])
def test_limits_that_would_act_before_a_method_of_the_users_own_are_refused(setting):
    """In Keras they act within it."""
    model, _ = network()
    optimizer = grouped(model, Normalised(1.0, **setting))
    with pytest.raises(
        ValueError, match="`optimizer` Normalised has a method `apply` of its own, and .*leave"
    ):
        optimizer.apply([tf.ones((2, 2)), tf.ones((2, 2))])


class Ending(keras.optimizers.Lion):
    def finalize_variable_values(self, var_list):
        for variable in var_list:
            variable.assign(tf.fill(variable.shape, 7.0))


def test_an_end_of_the_users_own_is_asked_for():
    model, variables = network()
    optimizer = grouped(model, Ending(1.0))
    step = loops.TrainStep(model, "mse", optimizer)
    zeros = np.zeros((2, 2), "float32")
    loops.train(step, loops.Batches(zeros, zeros, 2), epochs=1)
    for variable in variables:
        np.testing.assert_array_equal(variable, np.full((2, 2), 7.0))
