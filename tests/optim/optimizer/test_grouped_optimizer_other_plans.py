"""State in files, by name: for other groups than before, refused where it does not fit, taken in part."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import optim
from gradloop.optim import Group, GroupedOptimizer, StateError, partition
from tests.optim.optimizer.saved import FILES, OPTIMIZERS, X, fit, made, net, state, through_checkpoint
from tests.values import assert_same

pytestmark = pytest.mark.numbers

K = keras.optimizers
L = keras.layers

# -- other groups than before ------------------------------------------------------------------------------


@FILES
@pytest.mark.parametrize("name", ["adam", "adafactor"])
def test_trained_the_head_goes_on_with_everything(name, files, tmp_path):
    """Groups in another order and cut otherwise; the head's moments are where they were."""
    save, load = files(tmp_path)
    model, optimizer = made(name, {"head": "head"}, rest="freeze")
    fit(model, 2)
    save(model)
    groups = {"body": Group("body", lr_scale=0.1), "head": Group("head", weight_decay=0.0)}
    other, loaded = made(name, groups, model=net(seed=5))
    load(other)
    before, after = state(optimizer), state(loaded)
    assert_same(before, after)
    assert after.get("head/kernel/updates", 1) > 0 == after.get("body/kernel/updates", 0)
    fit(other, 2)
    # The head goes on as it would have; the body as a fresh optimizer over it would.
    optimizer.unfreeze("rest")
    optimizer.rescale("rest", 0.1)
    fit(model, 2)
    for one, two in zip(model.weights, other.weights):
        np.testing.assert_allclose(one, two, rtol=1e-6)


@FILES
def test_another_partition(files, tmp_path):
    save, load = files(tmp_path)
    model, optimizer = made("adam")
    fit(model)
    save(model)
    groups = {
        "one": Group("head/bias", frozen=True),
        "two": Group(optim.kind("kernel"), weight_decay=0.1),
        "three": "body/bias",
    }
    other, loaded = made("adam", groups, model=net(seed=5))
    load(other)
    assert_same(state(loaded), state(optimizer))


class Pair(keras.Model):
    """Its layers are made in one of two orders."""

    def __init__(self, flipped=False):
        super().__init__()
        for name in ("second", "first") if flipped else ("first", "second"):
            setattr(self, name, L.Dense(4))

    def call(self, inputs):
        return self.second(self.first(inputs))


@pytest.mark.parametrize(
    "name, checkpoint",
    [
        *(("momentum", True), ("nadam", False), ("adafactor", True)),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("momentum", False), ("nadam", True), ("adafactor", False))
        ),
    ],
)
def test_another_order_of_variables(name, checkpoint, tmp_path):
    """Where every shape is the same, nothing but the name tells moments apart."""
    pairs = []
    for flipped in (False, True):
        model = Pair(flipped)
        model(X)
        optimizer = GroupedOptimizer(OPTIMIZERS[name](), partition(model, {"all": "*"}))
        model.compile(optimizer, "mse", run_eagerly=True)
        pairs.append(model)
    one, other = pairs
    one.fit(X, X, batch_size=8, verbose=0)
    # The optimizer alone: Keras' own files mistake the layers of such a model for each other.
    if checkpoint:
        path = tf.train.Checkpoint(optimizer=one.optimizer).save(str(tmp_path / "ck"))
        tf.train.Checkpoint(optimizer=other.optimizer).restore(path).assert_consumed()
    else:
        store = {}
        one.optimizer.save_own_variables(store)
        other.optimizer.load_own_variables(store)
    assert [v.shape for v in one.trainable_variables] == [v.shape for v in other.trainable_variables]
    assert list(one.optimizer.plan.order) != list(other.optimizer.plan.order)
    assert_same(state(one.optimizer), state(other.optimizer))


# -- refused -----------------------------------------------------------------------------------------------


def refused(load, model):
    """The message with which loading fails, and a check that nothing of the optimizer changed."""
    before = state(model.optimizer)
    with pytest.raises(ValueError) as caught:
        load(model)
    assert_same(state(model.optimizer), before)
    return str(caught.value)


@FILES
def test_another_optimizer(files, tmp_path):
    save, load = files(tmp_path)
    model, _ = made("momentum")
    fit(model)
    save(model)
    message = refused(load, made(K.Adam(0.05))[0])
    assert (
        "of another model or another plan: 4 missing from it (body/kernel/velocity, body/bias/vel" in message
    )
    assert "The optimizer is as it was" in message
    save(made(K.Adam(0.05))[0])
    assert "4 not in this plan (" in refused(load, model)


def test_another_shape_in_a_checkpoint(tmp_path):
    save, load = through_checkpoint(tmp_path)
    model, _ = made("momentum")
    fit(model)
    save(model)
    message = refused(load, made("momentum", model=net(outputs=2))[0])
    assert (
        "2 of another shape (head/kernel/momentum (5, 3) for (5, 2), head/bias/momentum (3,) for" in message
    )


def test_a_checkpoint_raises_our_error(tmp_path):
    save, load = through_checkpoint(tmp_path)
    model, _ = made("momentum")
    save(model)
    with pytest.raises(StateError, match="4 not in this plan"):
        load(made("sgd")[0])


@FILES
def test_groups_that_have_had_other_numbers_of_updates(files, tmp_path):
    """Nadam counts for all of its group."""
    save, load = files(tmp_path)
    model, optimizer = made(K.Adamax(0.05))
    fit(model)
    optimizer.freeze("body")
    fit(model)
    save(model)
    other, loaded = made(K.Adamax(0.05), {"all": "*"})
    message = refused(load, other)
    assert "the variables of group 'all' have had [1, 2] updates, and its optimizer counts for all" in message
    with loaded.partial_load():
        load(other)
    assert set(loaded.grouped_update.counts.by_name().values()) == {2}
    np.testing.assert_array_equal(loaded.grouped_update.state["body/kernel/momentum"], optimizer.variables[2])


@FILES
def test_nadam_has_a_product_in_common_to_a_group(files, tmp_path):
    save, load = files(tmp_path)
    model, _ = made("nadam")
    fit(model)
    save(model)
    assert "1 not in this plan (head/bias/shared)" in refused(load, made("nadam", {"all": "*"})[0])


def test_a_file_of_another_model(tmp_path):
    model, _ = made("adam")
    config = model.optimizer.get_config()
    with pytest.raises(ValueError, match="`variables` are not those of the optimizer's plan: 4 were saved"):
        GroupedOptimizer.from_config(config).build(net(width=6).trainable_variables)


# -- what fits ---------------------------------------------------------------------------------------------


@FILES
def test_partial_load_takes_what_fits(files, tmp_path):
    save, load = files(tmp_path)
    model, optimizer = made(K.RMSprop(0.05))
    fit(model, 2)
    save(model)
    other, loaded = made(K.Adam(0.05))
    with loaded.partial_load():
        load(other)
    for name, variable in loaded.grouped_update.state.items():
        expected = (
            optimizer.grouped_update.state[name] if name.endswith("velocity") else np.zeros(variable.shape)
        )
        np.testing.assert_array_equal(variable, expected)
    # Without its momentum, a variable's bias correction starts anew.
    assert set(loaded.grouped_update.counts.by_name().values()) == {0}
    assert "missing from it" in refused(load, made(K.Adam(0.05))[0])  # only within the context


def test_partial_load_for_another_number_of_classes(tmp_path):
    """The head's moments start anew, with their bias correction; the body's go on."""
    model, optimizer = made(K.Adam(0.05))
    fit(model, 2)
    model.save_weights(tmp_path / "w.weights.h5")
    other, loaded = made(K.Adam(0.05), model=net(outputs=2))
    with loaded.partial_load(), pytest.warns(UserWarning, match="1 objects could not be loaded.*name=head"):
        other.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
    assert loaded.grouped_update.counts.by_name() == {
        "body/kernel": 2,
        "body/bias": 2,
        "head/kernel": 0,
        "head/bias": 0,
    }
    name = "body/kernel/velocity"
    np.testing.assert_array_equal(loaded.grouped_update.state[name], optimizer.grouped_update.state[name])
    assert not loaded.grouped_update.state["head/kernel/velocity"].numpy().any()
