"""A call with other settings on a checkpoint: what wins, and that it is told."""

import contextlib
import json
import warnings

import keras
import numpy as np
import pytest

from gradloop import loops, optim
from gradloop.loops.checkpoint.layer_settings import layer_settings
from gradloop.loops.checkpoint.saved_step import SavedStep
from gradloop.loops.checkpoint.settings import settings_of
from gradloop.loops.checkpoint.tensor_file import TensorFile
from gradloop.optim.naming.stable_names import tree_of

K = keras.optimizers


def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3, name="body"), keras.layers.Dense(2, name="head")]
    return keras.Sequential([keras.Input((4,)), *layers])


def without_decay(*names):
    optimizer = K.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer


def resumed(folder, optimizer=None, told=None, callbacks=(), **options):
    """Trains one epoch more than the folder holds, and returns the step."""
    step = loops.TrainStep(model(), options.pop("loss", "mse"), optimizer or K.SGD(0.125), **options)
    data = loops.Batches(np.ones((4, 4)), np.zeros((4, 2)), 2)
    checkpoint = loops.Checkpoint(folder, verbose=0)
    epochs = 1 + (0 if checkpoint.newest is None else int(checkpoint.newest.rpartition("-")[2]))
    with contextlib.nullcontext() if told is None else pytest.warns(UserWarning, match=told):
        loops.train(step, data, epochs=epochs, checkpoint=checkpoint, callbacks=callbacks)
    return step


def test_the_rate_is_the_checkpoints_and_each_call_with_another_is_told(tmp_path):
    resumed(tmp_path)
    for _ in range(2):
        step = resumed(tmp_path, K.SGD(0.5), told="learning_rate is 0.125 as there, not 0.5. .To change")
        assert float(step.optimizer.learning_rate.numpy()) == 0.125
    resumed(tmp_path)


def test_a_rate_that_the_run_has_changed_is_no_difference(tmp_path):
    resumed(tmp_path, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.0625)])
    step = resumed(tmp_path)
    assert float(step.optimizer.learning_rate.numpy()) == 0.0625
    resumed(tmp_path, K.SGD(0.25), told="learning_rate is 0.0625 as there, not 0.25")


@pytest.mark.parametrize(
    "before, after, told",
    [
        (K.SGD(0.1), K.SGD(0.1, weight_decay=0.5), "weight_decay is 0.5 from now on, and was None there"),
        (K.SGD(0.1, momentum=0.9), K.SGD(0.1, momentum=0.5), "momentum is 0.5 from now on, and was 0.9"),
        (
            K.SGD(0.1, use_ema=True),
            K.SGD(0.1, use_ema=True, ema_momentum=0.5),
            "ema_momentum is 0.5 from now on, and was 0.99",
        ),
        (
            K.SGD(K.schedules.CosineDecay(0.1, 9)),
            K.SGD(K.schedules.CosineDecay(0.2, 9)),
            "learning_rate is .*0.2.* from now on, and was .*0.1",
        ),
        (
            K.SGD(0.1, weight_decay=0.5),
            without_decay("bias", "head"),
            r"exclude_from_weight_decay is .'body/bias', 'head/kernel', 'head/bias'. from now on, .* \[\]",
        ),
        (
            K.LossScaleOptimizer(K.SGD(0.1)),
            K.LossScaleOptimizer(K.SGD(0.1), dynamic_growth_steps=9),
            "dynamic_growth_steps is 9 from now on, and was 2000",
        ),
        (
            K.LossScaleOptimizer(K.SGD(0.1)),
            K.LossScaleOptimizer(K.SGD(0.1), initial_scale=4.0),
            "initial_scale is 32768 as there, not 4",
        ),
    ],
    ids=["weight decay", "momentum", "EMA", "schedule", "exclusions", "growth", "scale"],
)
def test_settings_of_the_optimizer_are_the_calls(tmp_path, before, after, told):
    resumed(tmp_path, before)
    resumed(tmp_path, after, told=told)


def test_another_optimizer_is_refused_also_where_its_state_has_the_same_names(tmp_path):
    resumed(tmp_path, K.Adam())
    with pytest.raises(
        ValueError, match="`optimizer` is AdamW, and the checkpoint .* made with Adam: make it"
    ):
        resumed(tmp_path, K.AdamW())


def test_settings_of_the_step_are_the_calls_but_for_what_trains(tmp_path):
    resumed(tmp_path, clip_norm=1.0)
    step = resumed(
        tmp_path,
        clip_norm=np.float32(0.5),
        on_nonfinite="skip",
        loss="mae",
        variables="head",
        carry=True,
        told="carry is True .*; clip_norm is 0.5 from now on, and was 1 there; loss is MeanAbsoluteError.* "
        "from now on, and was MeanSquaredError.reduction='sum_over_batch_size'.*; on_nonfinite is 'skip' .*; "
        "variables is .*body.* as there, not .*head",
    )
    assert len(step.variables) == 4


def test_a_layer_that_was_frozen_is_told_even_if_it_has_nothing_to_train(tmp_path):
    def made(frozen):
        norm = keras.layers.BatchNormalization(center=False, scale=False, name="norm", trainable=not frozen)
        network = keras.Sequential([keras.Input((4,)), norm, keras.layers.Dense(2)])
        return loops.TrainStep(network, "mse", "sgd")

    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save(made(frozen=True))
    with pytest.warns(UserWarning, match=r"frozen_layers is \[\] from now on, and was .'norm'. there"):
        checkpoint.restore(made(frozen=False))


def network(rate=0.5, dtype=None, activation="relu", penalty=None, **options):
    layers = [
        keras.Input((4,), dtype="float32"),
        keras.layers.Dense(3, activation, kernel_regularizer=penalty, dtype=dtype, name="body", **options),
        keras.layers.Dropout(rate, name="drop"),
        keras.layers.Dense(2, name="head"),
    ]
    return loops.TrainStep(keras.Sequential(layers), "mse", "sgd")


@pytest.mark.parametrize(
    "after, told",
    [
        ({"rate": 0.25}, "layers/drop/rate is 0.25 from now on, and was 0.5 there"),
        ({"activation": "tanh"}, "layers/body/activation is 'tanh' from now on, and was 'relu'"),
        ({"penalty": "l2"}, "layers/body/kernel_regularizer is L2.l2=0.01. from now on, and was None"),
        (
            {"dtype": "mixed_bfloat16"},
            "layers/body/dtype_policy is 'mixed_bfloat16' from now on, and was None there",
        ),
    ],
)
def test_what_no_weight_shows_of_layers_is_told(tmp_path, after, told):
    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save(network())
    checkpoint.restore(network(kernel_initializer="zeros"))
    with pytest.warns(UserWarning, match=told):
        checkpoint.restore(network(**after))


def test_tuples_numbers_of_numpy_and_long_settings_of_layers_count():
    def made(strides, rate, edges):
        image = keras.layers.Conv2D(2, 3, strides=strides, name="image")
        layers = [
            keras.layers.Discretization(edges, name="bins"),
            keras.layers.GaussianNoise(rate, name="noise"),
        ]
        return layer_settings(tree_of(keras.Sequential([keras.Input((8, 8, 1)), *layers, image])))

    one = made((1, 1), np.float32(0.5), [0.0, 1.0])
    other = made((2, 2), np.float32(0.25), [float(number) for number in range(99)])
    assert (one["image/strides"], other["image/strides"]) == ([1, 1], [2, 2])
    assert (one["noise/stddev"], other["noise/stddev"]) == (0.5, 0.25)
    assert one["bins/bin_boundaries"] == [0, 1] and "checksum" in other["bins/bin_boundaries"]
    assert one == json.loads(json.dumps(one))


def test_another_dtype_policy_is_one_difference(tmp_path):
    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save(network())
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.warns(
            UserWarning, match="settings: layers/dtype_policy is 'mixed_bfloat16' [^;]* there. "
        ):
            checkpoint.restore(network())
    finally:
        keras.config.set_dtype_policy("float32")


def test_many_differences_are_counted_and_those_of_layers_are_not_told_of_an_older_version(tmp_path):
    step = network()
    loops.Checkpoint(tmp_path / "many").save(step)
    made = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4, "tanh") for _ in range(3))])
    settings = settings_of(loops.TrainStep(made, "mse", "sgd"))
    older = {name: value for name, value in settings_of(step).items() if not name.startswith("layers/")}
    for written, told in ((settings, "; and [0-9]+ more. .To change"), (older, None)):
        file = TensorFile(f"{loops.Checkpoint(tmp_path / 'many').newest}/state")
        file.metadata["settings"] = written
        with warnings.catch_warnings() if told is None else pytest.warns(UserWarning, match=told):
            warnings.simplefilter("error" if told is None else "always")
            SavedStep(step).warn_of_differences(file)


@pytest.mark.skipif(not hasattr(K, "MultiOptimizer"), reason="this Keras has no MultiOptimizer")
def test_what_keras_calls_optimizers_in_others_is_no_difference(tmp_path):
    def step(rate):
        inner = K.OptimizerMap(default_optimizer=K.SGD(0.1))
        inner[".*body.*"] = K.Adam(rate)
        return loops.TrainStep(model(), "mse", K.MultiOptimizer(inner))

    loops.Checkpoint(tmp_path).save(step(0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loops.Checkpoint(tmp_path).restore(step(0.5))
    with pytest.warns(UserWarning, match="optimizer_map is OptimizerMap"):
        loops.Checkpoint(tmp_path).restore(step(0.25))


def test_a_loss_is_known_by_its_settings(tmp_path):
    resumed(tmp_path, loss="huber")
    resumed(tmp_path, loss=keras.losses.Huber())
    resumed(
        tmp_path, loss=keras.losses.Huber(2.0), told="loss is Huber.*delta=2.* from now on, and was .*delta=1"
    )


def grouped(where="body", **settings):
    made = model()
    plan = optim.partition(made, {"low": optim.Group(where, **settings)}, rest="train")
    return loops.TrainStep(made, "mse", optim.GroupedOptimizer(K.SGD(0.125), plan))


def test_groups(tmp_path):
    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save(grouped(lr_scale=0.5))
    step = grouped(lr_scale=0.25)
    with pytest.warns(UserWarning, match="groups/low/lr_scale is 0.5 as there, not 0.25"):
        checkpoint.restore(step)
    assert step.inner_optimizer.plan.groups["low"].lr_scale == 0.5


def decays(rate):
    return K.schedules.ExponentialDecay(0.1, 5, rate)


@pytest.mark.parametrize(
    "before, after, told",
    [
        ({}, {"weight_decay": 0.5}, "low/weight_decay is 0.5 from now on, and was None"),
        (
            {"weight_decay": 0.5},
            {"weight_decay": optim.KernelDecay(0.5)},
            "low/weight_decay is {'kernels': 0.5} from now on, and was 0.5",
        ),
        (
            {"learning_rate": decays(0.5)},
            {"learning_rate": decays(0.25)},
            "low/learning_rate is ExponentialDecay.*decay_rate=0.25.* from now on",
        ),
        (
            {"learning_rate": 0.5},
            {"learning_rate": decays(0.5)},
            "low/learning_rate is ExponentialDecay.* from now on, and was 0.5",
        ),
        (
            {"optimizer": K.SGD(0.25)},
            {"optimizer": K.SGD(0.5)},
            "low/optimizer is SGD.learning_rate=0.5.* from now on, and was SGD.learning_rate=0.25",
        ),
        (
            {},
            {"where": "body/kernel"},
            "low/variables is .'body/kernel'. from now on, and was .'body/kernel', 'b",
        ),
    ],
    ids=["decay", "kernels", "schedule", "number", "optimizer", "members"],
)
def test_what_a_checkpoint_does_not_hold_of_groups_is_the_calls(tmp_path, before, after, told):
    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save(grouped(**before))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint.restore(grouped(**before))
    with pytest.warns(UserWarning, match=f"groups/{told}"):
        checkpoint.restore(grouped(**after))


def test_an_optimizer_without_a_config_and_old_checkpoints_are_told_nothing(tmp_path, monkeypatch):
    class Own(K.SGD):
        def get_config(self):
            raise NotImplementedError

    step = loops.TrainStep(model(), "mse", Own(0.1))
    assert settings_of(step)["optimizer"] == "Own"
    monkeypatch.setattr("gradloop.loops.checkpoint.saved_step.made_with", lambda *given: None)
    loops.Checkpoint(tmp_path).save(step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loops.Checkpoint(tmp_path).restore(loops.TrainStep(model(), "mse", K.SGD(0.5)))
