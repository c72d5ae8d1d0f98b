"""`TrainStep` follows the plan of a `GroupedOptimizer`."""

import keras
import numpy as np
import pytest

from gradloop import loops, optim

pytestmark = pytest.mark.numbers

L = keras.layers


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(8, activation="tanh", name="body1"),
            L.BatchNormalization(name="norm"),
            L.Dense(8, activation="tanh", name="body2"),
            L.Dropout(0.2),
            L.Dense(3, name="head"),
        ]
    )


GROUPS = {
    "body": optim.Group("body*", lr_scale=0.1),
    "norm": optim.Group(L.BatchNormalization, frozen=True),
    "head": optim.Group("head", learning_rate=0.02),
}


def grouped(model, base=None, **changes):
    groups = {name: changes.get(name, group) for name, group in GROUPS.items()}
    return optim.GroupedOptimizer(base or keras.optimizers.Adam(0.01), optim.partition(model, groups))


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(64, 6)).astype("float32"), rng.normal(size=(64, 3)).astype("float32")
    return loops.Batches(x, y, 16, seed=3)


def weights(model):
    return {name: v.numpy() for name, v in optim.named_variables(model).items()}


def moved(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_plan_decides_what_trains(data):
    model = network()
    step = loops.TrainStep(model, "mse", grouped(model))
    before = weights(model)
    step.run(iter(data), 4)
    assert moved(before, weights(model)) == {
        f"{layer}/{kind}" for layer in ("body1", "body2", "head") for kind in ("kernel", "bias")
    }  # neither gamma and beta nor the statistics of the norm, which ran in inference mode


def test_freezing_acts_at_once_with_one_trace_and_keeps_state(data):
    model = network()
    optimizer = grouped(model)
    step = loops.TrainStep(model, "mse", optimizer)
    step.run(iter(data), 4)
    traces, before, state = step.traces, weights(model), step.state()
    moments = {name: state[f"optimizer/{name}/momentum"].numpy() for name in optimizer.plan.members["body"]}
    optimizer.freeze("body")
    step.run(iter(data), 4)
    assert step.traces == traces + 1
    assert moved(before, weights(model)) == {"head/kernel", "head/bias"}
    for name, moment in moments.items():
        np.testing.assert_array_equal(state[f"optimizer/{name}/momentum"].numpy(), moment)
    optimizer.unfreeze("body")
    optimizer.rescale("body", 0.5)
    step.run(iter(data), 4)
    optimizer.freeze("body")
    step.run(iter(data), 4)
    assert step.traces == traces + 1


@pytest.mark.parametrize("name", ["Adam", "Lion"])
def test_equals_keras_optimizers_over_the_parts(name, data):
    model, reference = network(), network()
    made = getattr(keras.optimizers, name)
    step = loops.TrainStep(model, "mse", grouped(model, made(0.01)))
    step.run(iter(data), 4)
    # By hand: one Keras optimizer a group, the norm and dropout as the plan has them.
    body, head = made(0.001), made(0.02)
    parts = {body: optim.select(reference, "body*"), head: optim.select(reference, "head")}
    twin = loops.TrainStep(reference, "mse", "sgd", variables=[v for part in parts.values() for v in part])
    import tensorflow as tf

    norm = reference.get_layer("norm")
    norm.trainable = False
    for x, y in data.iterator(0, 0):
        with tf.GradientTape() as tape:
            loss = twin.loss_and_metrics((x, y), training=True)[0]
        variables = [v for part in parts.values() for v in part]
        found = dict(zip(map(id, variables), tape.gradient(loss, [v.value for v in variables])))
        for optimizer, part in parts.items():
            optimizer.apply([found[id(v)] for v in part], part)
    for ours, theirs in zip(model.weights, reference.weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_choice_and_plan_together(data):
    model = network()
    optimizer = grouped(model)
    step = loops.TrainStep(model, "mse", optimizer, variables=["body2", "norm"])
    assert [v.path.split("/")[-2] for v in step.variables] == ["body2", "body2"]
    optimizer.freeze("body")
    with pytest.raises(ValueError, match="all that this step trains is frozen: unfreeze a group"):
        step.run(iter(data), 1)
    optimizer.unfreeze("norm")
    assert [v.path.split("/")[-2] for v in step.variables] == ["norm", "norm"]


def test_plan_of_another_model_is_refused(data):
    step = loops.TrainStep(network(), "mse", grouped(network()))
    with pytest.raises(ValueError, match="is frozen|built without"):
        step.run(iter(data), 1)


def test_state_rewinds_exactly(data):
    model = network()
    step = loops.TrainStep(model, "mse", grouped(model), accumulate=2)
    step.run(iter(data), 3)
    saved = {name: v.numpy() for name, v in step.state().items()}
    first = step.run(data.iterator(1, 0), 4)["loss"], weights(model)
    for name, variable in step.state().items():
        variable.assign(saved[name])
    second = step.run(data.iterator(1, 0), 4)["loss"], weights(model)
    np.testing.assert_array_equal(first[0], second[0])
    assert not moved(first[1], second[1])


def test_freezing_drops_gradients_that_wait(data):
    model = network()
    optimizer = grouped(model)
    step = loops.TrainStep(model, "mse", optimizer, accumulate=2)
    step.run(iter(data), 1)
    optimizer.freeze("body")
    before = weights(model)
    step.run(iter(data), 1)
    assert not moved(before, weights(model))
    assert int(optimizer.iterations.numpy()) == 0


def test_mixed_precision_follows_the_plan(data):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network()
        optimizer = grouped(model)
        step = loops.TrainStep(model, "mse", optimizer)
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer.freeze("body")
    before = weights(model)
    step.run(iter(data), 4)
    assert moved(before, weights(model)) == {"head/kernel", "head/bias"}
    assert int(optimizer.iterations.numpy()) == 4
