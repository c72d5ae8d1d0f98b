"""Models with a `train_step` and the like of their own: not left out in silence."""

import keras
import numpy as np
import pytest

from gradloop import loops

X, Y = np.ones((4, 3), "float32"), np.zeros((4, 2), "float32")


def model_with(name):
    def own(self, *args, **kwargs):
        return getattr(keras.Model, name)(self, *args, **kwargs)

    kind = type("Theirs", (keras.Model,), {name: own})
    inputs = keras.Input((3,))
    return kind(inputs, keras.layers.Dense(2)(inputs))


def loss(model, batch, training=True):
    predictions = model(batch[0], training=training)
    return loops.mean_loss((predictions - batch[1]) ** 2), predictions


@pytest.mark.parametrize(
    "name, train, evaluate",
    [
        ("train_step", True, False),
        ("test_step", False, True),
        ("compute_loss", True, True),
        ("compute_metrics", True, True),
        ("make_train_function", True, False),
        ("make_test_function", False, True),
    ],
)
def test_a_method_that_would_be_left_out_is_refused(name, train, evaluate):
    model = model_with(name)
    steps = [(train, lambda loss: loops.TrainStep(model, loss, "sgd"))]
    steps.append((evaluate, lambda loss: loops.EvalStep(model, loss)))
    for refuses, make in steps:
        make(loss)  # takes the method's place
        if not refuses:
            make("mse")
            continue
        with pytest.raises(ValueError, match=f"is a Theirs with its own `{name}`.*'mse'.*as `loss`, a f"):
            make("mse")
        with pytest.raises(ValueError, match="'mean_squared_error' it would be left out"):
            make(keras.losses.MeanSquaredError())


def test_a_method_of_the_object_is_one_of_its_own():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loops.TrainStep(model, "mse", "sgd")
    model.train_step = lambda data: {}
    with pytest.raises(ValueError, match="is a Sequential with its own `train_step`"):
        loops.TrainStep(model, "mse", "sgd")


def test_a_model_that_was_compiled_and_fitted_is_as_any():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    loops.TrainStep(model, "mse", model.optimizer)(X, Y)
    loops.EvalStep(model, "mse")(X, Y)
