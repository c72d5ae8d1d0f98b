"""State in files, by name, and whole again."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import optim
from gradloop.optim import Group, GroupedOptimizer, KernelDecay
from tests.optim.optimizer.saved import FILES, OPTIMIZERS, fit, made, net, state
from tests.values import assert_same

K = keras.optimizers
L = keras.layers


@pytest.mark.parametrize("name", ["momentum", "adam", "nadam", "adafactor", "lamb"])
def test_keras_file(name, tmp_path):
    model, optimizer = made(name)
    fit(model)
    optimizer.learning_rate = 0.025
    optimizer.rescale("body", 0.5)
    optimizer.freeze("head")
    fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is GroupedOptimizer
    assert str(again.optimizer.plan) == str(optimizer.plan)
    assert again.optimizer.learning_rates == pytest.approx({"body": 0.0125, "head": 0.025})
    assert_same(state(again.optimizer), state(optimizer))
    for each in (again, model):
        each.optimizer.unfreeze("head")
    for one, other in zip(fit(again), fit(model)):
        np.testing.assert_array_equal(one, other)


def test_keras_file_of_groups_with_everything(tmp_path):
    groups = {
        "bias": Group(
            optim.kind("bias"), learning_rate=optim.OneCycle(0.1, total_steps=20), weight_decay=0.0
        ),
        "body": Group("body/kernel", optimizer=K.Lion(0.01), lr_scale=0.5, weight_decay=KernelDecay(0.1)),
        "head": Group("head/kernel", learning_rate=0.03),
    }
    model, optimizer = made(K.AdamW(K.schedules.CosineDecay(0.1, 20), global_clipnorm=0.5), groups)
    optimizer.set_learning_rate("head", 0.02)
    fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert str(again.optimizer.plan) == str(optimizer.plan)
    assert again.optimizer.learning_rates == optimizer.learning_rates
    for one, other in zip(fit(again, 2), fit(model, 2)):
        np.testing.assert_array_equal(one, other)


@FILES
@pytest.mark.parametrize("name", ["adam", "nadam"])
def test_state_file(name, files, tmp_path):
    save, load = files(tmp_path)
    model, optimizer = made(name)
    fit(model, 2)
    optimizer.learning_rate = 0.025
    save(model)
    other, loaded = made(name, model=net(seed=5))
    load(other)
    assert_same(state(loaded), state(optimizer))
    for one, two in zip(fit(other, 2), fit(model, 2)):
        np.testing.assert_array_equal(one, two)


def test_a_schedule_that_was_set_later_is_saved(tmp_path):
    model, optimizer = made("sgd")
    optimizer.learning_rate = K.schedules.CosineDecay(0.5, 10)
    fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert again.learning_rates == optimizer.learning_rates
    assert again.learning_rates["head"] == pytest.approx(0.25 * (1 + np.cos(np.pi / 10)))


def test_the_config_is_read_only():
    cosine = K.schedules.CosineDecay(0.1, 10)
    groups = {"body": Group("body", optimizer=K.Lion(cosine)), "head": Group("head", learning_rate=cosine)}
    _, optimizer = made(K.SGD(cosine, use_ema=True), groups)
    config = optimizer.get_config()
    for _ in range(2):
        assert GroupedOptimizer.from_config(config).get_config() == config
    assert config["optimizer"]["config"]["use_ema"]


def test_only_names_in_a_checkpoint(tmp_path):
    model, optimizer = made(
        K.AdamW(use_ema=True), {"body": "body", "head": Group("head", optimizer=K.Nadam())}
    )
    fit(model)
    path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "ck"))
    prefix, suffix = "optimizer/_tracked_state/state/", "/.ATTRIBUTES/VARIABLE_VALUE"
    keys = [key for key, _ in tf.train.list_variables(path)]
    named = [key for key in keys if key.startswith(prefix)]
    found = {key[len(prefix) : -len(suffix)].replace(".S", "/") for key in named}
    assert found == set(optimizer.grouped_update.state)
    others = {key.split("/.A")[0] for key in keys if key not in named}
    own = {"optimizer/_iterations", "optimizer/_learning_rate", "optimizer/_tracked_state/numbers"}
    assert others <= {*own, "save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH"}


def saved_h5(optimizer, path, groups=None):
    """A model that was trained with one group frozen, in an `.h5` file."""
    model, optimizer = made(optimizer, groups)
    # An object: what is compiled by name Keras does not find again in an `.h5` file.
    model.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    optimizer.freeze(next(iter(optimizer.plan.groups)))
    fit(model, 2)
    optimizer.rescale("head", 2.0)
    optimizer.learning_rate = 0.025
    model.save(path)
    return model


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "nadam"])
def test_h5_file(name, tmp_path):
    model = saved_h5(name, tmp_path / "model.h5")
    again = keras.models.load_model(tmp_path / "model.h5")
    assert int(again.optimizer.iterations.numpy()) == int(model.optimizer.iterations.numpy()) > 0
    assert float(again.optimizer.learning_rate.numpy()) == pytest.approx(0.025)
    again.optimizer.build(again.trainable_variables)
    assert str(again.optimizer.plan) == str(model.optimizer.plan)
    assert again.optimizer.learning_rates == pytest.approx({"body": 0.0025, "head": 0.05})
    assert_same(state(again.optimizer), state(model.optimizer))
    updates = again.optimizer.grouped_update.counts.by_name()
    assert all(count == 0 for variable, count in updates.items() if variable.startswith("body"))
    assert name in ("sgd", "momentum") or updates["head/kernel"] > 0
    again.run_eagerly = True
    for each in (again, model):
        each.optimizer.unfreeze("body")
    for one, other in zip(fit(again, 2), fit(model, 2)):
        np.testing.assert_array_equal(one, other)


def test_rate_set_between_h5_file_and_first_step(tmp_path):
    model = saved_h5("adam", tmp_path / "model.h5")
    again = keras.models.load_model(tmp_path / "model.h5")
    again.run_eagerly = True
    for each in (again, model):
        each.optimizer.learning_rate = 0.01
    for one, other in zip(fit(again, 2), fit(model, 2)):
        np.testing.assert_array_equal(one, other)


def test_h5_file_of_groups_that_share_an_optimizer(tmp_path):
    """They are updated together; from the file comes one optimizer for each, and another order of updates."""
    shared = K.Adam(0.05)
    groups = {
        "body": Group(optim.kind("bias"), optimizer=shared),
        "head": Group(optim.kind("kernel"), optimizer=shared),
    }
    model = saved_h5(K.SGD(0.05), tmp_path / "model.h5", groups)
    again = keras.models.load_model(tmp_path / "model.h5")
    again.optimizer.build(again.trainable_variables)
    assert len(again.optimizer.grouped_update.updaters) != len(model.optimizer.grouped_update.updaters)
    assert_same(state(again.optimizer), state(model.optimizer))


def test_h5_file_saved_again_before_it_is_used(tmp_path):
    model = saved_h5("nadam", tmp_path / "model.h5")
    again = keras.models.load_model(tmp_path / "model.h5")
    again.save(tmp_path / "again.h5")
    for save, path in ((again.save, "again.keras"), (again.save_weights, "again.weights.h5")):
        with pytest.raises(ValueError, match=r"from an `.h5` file, .* `model.optimizer.build\(model.train"):
            save(tmp_path / path)
    last = keras.models.load_model(tmp_path / "again.h5")
    last.optimizer.build(last.trainable_variables)
    last.save(tmp_path / "last.keras")
    for one in (last, keras.models.load_model(tmp_path / "last.keras")):
        assert_same(state(one.optimizer), state(model.optimizer))


def test_h5_file_without_what_is_within_a_loss_scale(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model, _ = made("adam")
    fit(model, 2)
    model.save(tmp_path / "model.keras")
    kept = keras.models.load_model(tmp_path / "model.keras").optimizer.inner_optimizer
    assert_same(state(kept), state(model.optimizer.inner_optimizer))
    saved_h5("adam", tmp_path / "model.h5")
    again = keras.models.load_model(tmp_path / "model.h5").optimizer.inner_optimizer
    with pytest.warns(UserWarning, match="has read no state for optimizer .* moments start anew. `.keras`"):
        again.build(keras.models.load_model(tmp_path / "model.h5").trainable_variables)
    assert not any(np.any(v.numpy()) for v in again.grouped_update.state.values())


@pytest.mark.parametrize("ours", [True, False])
def test_h5_file_of_what_keras_gives_equal_names(ours, tmp_path):
    if ours:
        model, _ = made("adafactor")
    else:
        model = net()
        model.compile(OPTIMIZERS["adafactor"](), "mse", run_eagerly=True)
    fit(model)
    with pytest.raises(ValueError, match="name already exists"):
        model.save(tmp_path / "model.h5")


def test_set_weights():
    model, optimizer = made("adam")
    fit(model, 3)
    values = [variable.numpy() for variable in optimizer.variables]
    _, other = made("adam")
    before = state(other)
    with pytest.raises(optim.StateError, match=r"`weights` holds \d+ arrays for \d+ variables: it is of"):
        other.set_weights(values[:-1])
    place = next(i for i, value in enumerate(values) if value.shape == (4, 5))
    match = r"`weights` has shape \(2, 10\) for 'body/kernel/\w+', whose shape is \(4, 5\)"
    with pytest.raises(optim.StateError, match=match):
        other.set_weights([*values[:place], values[place].reshape(2, 10), *values[place + 1 :]])
    assert_same(state(other), before)
    other.set_weights(values)
    assert_same(state(other), state(optimizer))
