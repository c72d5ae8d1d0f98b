"""TrainStep beside Keras' `train_on_batch` and a loop written by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.step import _supports_jit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = RNG.integers(0, 3, size=64)
W = RNG.uniform(0.1, 2.0, size=64).astype("float32")


def dense_model(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "tanh", kernel_regularizer="l2", name="hidden"),
            keras.layers.Dense(3, name="head"),
        ]
    )


def norm_model(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, use_bias=False, name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(),
            keras.layers.Dense(3, name="head"),
        ]
    )


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batches(size=16):
    for start in range(0, 1000):
        first = start * size % len(X)
        yield X[first : first + size], Y[first : first + size], W[first : first + size]


def assert_same(a, b, tolerance=1e-6):
    for left, right in zip(a.weights, b.weights, strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), rtol=tolerance, atol=tolerance)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-3),
    "adagrad": lambda: keras.optimizers.Adagrad(1e-2),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "adamw": lambda: keras.optimizers.AdamW(1e-3, weight_decay=1e-2),
    "adam with schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(1e-2, 15)
    ),
    "lion": lambda: keras.optimizers.Lion(1e-3),
    "ema": lambda: keras.optimizers.Adam(1e-3, use_ema=True, ema_overwrite_frequency=7),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_weights_as_train_on_batch(name, weighted):
    ours, theirs = norm_model(), norm_model()
    step = loops.TrainStep(ours, crossentropy(), OPTIMIZERS[name]())
    theirs.compile(OPTIMIZERS[name](), crossentropy())
    for _, (x, y, w) in zip(range(20), batches(), strict=False):
        weight = w if weighted else None
        loss = step(x, y, weight)["loss"]
        theirs.reset_metrics()
        expected = theirs.train_on_batch(x, y, sample_weight=weight, return_dict=True)["loss"]
        np.testing.assert_allclose(float(loss), expected, rtol=1e-5)
    assert_same(ours, theirs)


def test_same_weights_as_a_loop_written_by_hand():
    ours, theirs = dense_model(), dense_model()
    step = loops.TrainStep(ours, crossentropy(), keras.optimizers.SGD(0.1), clip_norm=0.5)
    loss_function, clipped = crossentropy(), 0
    for _, (x, y, _) in zip(range(20), batches(), strict=False):
        step(x, y)
        with tf.GradientTape() as tape:
            loss = loss_function(y, theirs(x, training=True)) + tf.add_n(theirs.losses)
        values = [v.value for v in theirs.trainable_variables]
        gradients, norm = tf.clip_by_global_norm(tape.gradient(loss, values), 0.5)
        clipped += float(norm) > 0.5
        for value, gradient in zip(values, gradients, strict=True):
            value.assign_sub(0.1 * gradient)
    assert 0 < clipped < 20
    assert_same(ours, theirs)


def test_chosen_variables_alone_move():
    model = dense_model()
    before = {name: v.numpy() for name, v in optim.named_variables(model).items()}
    step = loops.TrainStep(model, crossentropy(), "adam", variables="head")
    for _, (x, y, _) in zip(range(3), batches(), strict=False):
        step(x, y)
    for name, variable in optim.named_variables(model).items():
        assert np.array_equal(variable.numpy(), before[name]) == name.startswith("hidden")


def test_a_subset_trains_like_keras_with_the_rest_frozen():
    ours, theirs = norm_model(), norm_model()
    step = loops.TrainStep(ours, crossentropy(), keras.optimizers.Adam(1e-2), variables="head")
    for layer in theirs.layers:
        layer.trainable = layer.name == "head"
    theirs.compile(keras.optimizers.Adam(1e-2), crossentropy())
    for _, (x, y, _) in zip(range(20), batches(), strict=False):
        step(x, y)
        theirs.train_on_batch(x, y)
    assert_same(ours, theirs)


def test_backward_pass_stops_where_the_chosen_variables_end():
    def backward_matmuls(variables):
        model = dense_model()
        step = loops.TrainStep(model, crossentropy(), "sgd", variables=variables)
        step(X[:4], Y[:4])
        (((_, function),),) = step._loop()._tracer._functions.values()
        return sum(op.type == "MatMul" for op in function.graph.get_operations())

    # Two products forward. Backward the head's kernel; for all, also the signal and the other kernel.
    assert backward_matmuls("head") == 3
    assert backward_matmuls(None) == 5


def test_train_only_keeps_optimizer_state_and_traces_once():
    model = dense_model()
    step = loops.TrainStep(model, crossentropy(), keras.optimizers.Adam(1e-2))
    source = batches()

    def run(count):
        for _ in range(count):
            x, y, _ = next(source)
            step(x, y)

    run(3)
    assert step.traces == 1
    state = {v.path: v.numpy() for v in step.optimizer.variables}
    step.train_only("head")
    hidden = model.get_layer("hidden").kernel.numpy()
    run(2)
    assert step.traces == 2
    for variable in step.optimizer.variables:
        if "hidden" in variable.path:
            np.testing.assert_array_equal(variable.numpy(), state[variable.path])
    np.testing.assert_array_equal(model.get_layer("hidden").kernel.numpy(), hidden)
    step.train_only("*")
    run(2)
    step.train_only("head")
    run(1)
    assert step.traces == 2, "a choice seen before must not trace again"
    assert not np.array_equal(model.get_layer("hidden").kernel.numpy(), hidden)


def test_train_only_equals_keras_toggling_with_one_optimizer():
    ours, theirs = dense_model(), dense_model()
    step = loops.TrainStep(ours, crossentropy(), keras.optimizers.Adam(1e-2))
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(theirs.trainable_variables)
    loss_function = crossentropy()
    for count, (x, y, _) in zip(range(9), batches(), strict=False):
        head_only = 3 <= count < 6
        step.train_only("head" if head_only else "*")
        step(x, y)
        with tf.GradientTape() as tape:
            loss = loss_function(y, theirs(x, training=True)) + tf.add_n(theirs.losses)
        variables = [v for v in theirs.trainable_variables if not head_only or "head" in v.path]
        optimizer.apply(tape.gradient(loss, variables), variables)
    assert_same(ours, theirs)


def test_one_trace_for_short_batches_and_changing_rates():
    step = loops.TrainStep(dense_model(), crossentropy(), keras.optimizers.SGD(0.1))
    for size in (16, 7, 1, 16):
        step.optimizer.learning_rate = 0.1 / size
        step(X[:size], Y[:size])
    assert step.traces == 1
    data = loops.Batches(X, Y, 24)
    for _ in range(3):
        step.run(iter(data), 2)
        step.run(iter(data), 3)
    assert step.traces == 2


def test_learning_rate_set_between_steps_acts():
    model = dense_model()
    step = loops.TrainStep(model, crossentropy(), keras.optimizers.SGD(0.1))
    step(X[:8], Y[:8])
    step.optimizer.learning_rate = 0.0
    before = model.get_weights()
    step(X[:8], Y[:8])
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_run_equals_single_steps_over_arrays_and_datasets():
    models = [norm_model() for _ in range(3)]
    steps = [
        loops.TrainStep(m, crossentropy(), keras.optimizers.Adam(1e-2), metrics=["accuracy"])
        for m in models
    ]
    data = loops.Batches(X, Y, 24, shuffle=False)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(24)
    singles = [steps[0](x, y) for _ in range(4) for x, y in data]
    runs = [steps[1].run(iter(data), 3) for _ in range(4)]
    streams = [steps[2].run(iter(dataset), 3) for _ in range(4)]
    for name in ("loss", "accuracy"):
        expected = [float(values[name]) for values in singles]
        for many in (runs, streams):
            got = np.concatenate([values[name] for values in many])
            np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert_same(models[0], models[1])
    assert_same(models[0], models[2])


def test_same_seed_same_numbers_with_dropout():
    def weights():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(3)]
        )
        step = loops.TrainStep(model, crossentropy(), "sgd")
        step.run(iter(loops.Batches(X, Y, 8, seed=5)), 8)
        return model.get_weights()

    for left, right in zip(weights(), weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_dict_of_inputs():
    keras.utils.set_random_seed(0)
    a, b = keras.Input((2,), name="a"), keras.Input((4,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(joined))
    step = loops.TrainStep(model, crossentropy(), "sgd", metrics=["accuracy"])
    inputs = {"a": X[:, :2], "b": X[:, 2:]}
    first = step(inputs, Y)["loss"]
    step.run(iter(loops.Batches(inputs, Y, 16)), 4)
    assert float(step(inputs, Y)["loss"]) < float(first)


def test_a_tuple_of_inputs():
    keras.utils.set_random_seed(0)
    a, b = keras.Input((2,)), keras.Input((4,))
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model([a, b], keras.layers.Dense(3, name="last")(joined))
    whole = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="last")])
    whole.set_weights(model.get_weights())
    inputs = (X[:, :2], X[:, 2:])
    for each, x in ((model, inputs), (whole, X)):
        step = loops.TrainStep(each, crossentropy(), "sgd")
        step(x, Y)
        step.run(iter(loops.Batches(x, Y, 16)), 4)
    for left, right in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has none")
def test_an_optimizer_of_several_trains_all_or_is_refused():
    model = dense_model()
    optimizer = keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD(0.1))
    step = loops.TrainStep(model, crossentropy(), optimizer)
    step(X, Y)
    before = model.get_weights()
    step.train_only("head")
    with pytest.raises(ValueError, match="`optimizer` is a MultiOptimizer, .* use `optim.GroupedOptimizer`"):
        step(X, Y)
    for left, right in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)
    step.train_only("*")
    step(X, Y)  # nothing is lost


def test_loss_function_of_model_and_batch():
    ours, theirs = dense_model(), dense_model()

    def loss(model, batch):
        x, y, weight = batch
        predictions = model(x, training=True)
        return crossentropy()(y, predictions, weight), predictions

    step = loops.TrainStep(ours, loss, keras.optimizers.SGD(0.1), metrics=["accuracy"])
    theirs.compile(keras.optimizers.SGD(0.1), crossentropy())
    for _, (x, y, w) in zip(range(20), batches(), strict=False):
        values = step(x, y, w)
        theirs.train_on_batch(x, y, sample_weight=w)
    assert set(values) == {"loss", "accuracy"}
    assert_same(ours, theirs)


def test_xla_gives_the_same_numbers():
    ours, theirs = norm_model(), norm_model()
    compiled = loops.TrainStep(ours, crossentropy(), keras.optimizers.SGD(0.1), jit_compile=True)
    plain = loops.TrainStep(theirs, crossentropy(), keras.optimizers.SGD(0.1), jit_compile=False)
    for _, (x, y, _) in zip(range(20), batches(), strict=False):
        compiled(x, y)
        plain(x, y)
    assert_same(ours, theirs, 1e-5)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_layer_that_xla_cannot_compile_is_found_at_any_depth(depth):
    class Host(keras.layers.Layer):
        def __init__(self, inner=None):
            super().__init__()
            self.inner = [keras.layers.Dense(3)] if inner is None else [inner]
            self.supports_jit = inner is not None

        def call(self, x):
            return self.inner[0](x)

    host = Host()
    for _ in range(depth):
        host = Host(host)
    for layer, expected in ((host, False), (keras.layers.Dense(3), True)):
        model = keras.Sequential([keras.Input((6,)), keras.Sequential([layer])])
        assert _supports_jit(model) == expected
        assert _supports_jit(keras.Sequential([keras.Input((6,)), model])) == expected


def test_accumulating_equals_the_large_batch():
    ours, theirs = dense_model(), dense_model()
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
    step = loops.TrainStep(ours, crossentropy(), keras.optimizers.SGD(rate), accumulate=4, clip_norm=0.5)
    large = loops.TrainStep(theirs, crossentropy(), keras.optimizers.SGD(rate), clip_norm=0.5)
    for _ in range(5):
        for start in range(0, 64, 16):
            step(X[start : start + 16], Y[start : start + 16])
        large(X, Y)
    assert int(step.optimizer.iterations) == 5, "schedules count updates, not batches"
    assert_same(ours, theirs, 1e-5)


def test_changing_the_choice_drops_what_was_accumulated():
    ours, theirs = dense_model(), dense_model()
    step = loops.TrainStep(ours, crossentropy(), keras.optimizers.SGD(0.1), accumulate=2)
    other = loops.TrainStep(theirs, crossentropy(), keras.optimizers.SGD(0.1), accumulate=2)
    step(X[:8], Y[:8])  # half of an update that never comes
    step.train_only("head")
    step.train_only("*")
    for part in (slice(8, 16), slice(16, 24)):
        step(X[part], Y[part])
        other(X[part], Y[part])
    assert int(step.optimizer.iterations) == 1
    assert_same(ours, theirs)


def test_bfloat16_and_float16_train():
    for policy in ("mixed_bfloat16", "mixed_float16"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6,), dtype="float32"),
                keras.layers.Dense(8, "relu", dtype=policy),
                keras.layers.Dense(3, dtype="float32"),
            ]
        )
        model.dtype_policy = keras.DTypePolicy(policy)
        step = loops.TrainStep(model, crossentropy(), keras.optimizers.Adam(1e-2))
        scaled = isinstance(step.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (policy == "mixed_float16")
        first = float(step(X, Y)["loss"])
        for _ in range(30):
            last = float(step(X, Y)["loss"])
        assert last < 0.8 * first
        assert all(v.dtype == "float32" for v in model.trainable_variables)


def test_constructor_changes_nothing():
    model, optimizer = norm_model(), keras.optimizers.Adam()
    weights = model.get_weights()
    loops.TrainStep(model, crossentropy(), optimizer, variables="head")
    assert not optimizer.built
    assert all(layer.trainable for layer in model.layers)
    for left, right in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_layers_keep_their_trainable_flags():
    model = norm_model()
    norm = model.get_layer("norm")
    norm.gamma.trainable = False
    step = loops.TrainStep(model, crossentropy(), "sgd", variables="head")
    step(X, Y)
    assert norm.trainable and norm.beta.trainable and not norm.gamma.trainable
    assert not norm.moving_mean.trainable


def test_bad_arguments_raise_at_the_door():
    model = dense_model()
    with pytest.raises(TypeError, match="`model` must be a keras.Model, not 'lenet'"):
        loops.TrainStep("lenet", "mse", "sgd")
    with pytest.raises(optim.NotBuiltError, match="built"):
        loops.TrainStep(keras.Sequential([keras.layers.Dense(2)]), "mse", "sgd")
    with pytest.raises(ValueError, match="`optimizer` 'adamm' is no Keras optimizer. Did you mean 'adam'"):
        loops.TrainStep(model, "mse", "adamm")
    with pytest.raises(ValueError, match="'qqq' is no Keras optimizer. Pass one, or a name such as"):
        loops.TrainStep(model, "mse", "qqq")
    with pytest.raises(TypeError, match="`optimizer` must be a Keras optimizer or its name, not 0.1"):
        loops.TrainStep(model, "mse", 0.1)
    with pytest.raises(TypeError, match=r"not <class .*Adam'>: call it, `Adam\(\)`"):
        loops.TrainStep(model, "mse", keras.optimizers.Adam)
    with pytest.raises(ValueError, match="`jit_compile` must be True, False or 'auto', not 'yes'"):
        loops.TrainStep(model, "mse", "sgd", jit_compile="yes")
    with pytest.raises(ValueError, match="`clip_norm` must be a positive number"):
        loops.TrainStep(model, "mse", "sgd", clip_norm=-1.0)
    with pytest.raises(optim.SelectionError, match="haed"):
        loops.TrainStep(model, "mse", "sgd", variables="haed")
    with pytest.raises(ValueError, match="not a trainable variable of the model"):
        loops.TrainStep(model, "mse", "sgd", variables=dense_model().trainable_variables)
    model.trainable = False
    with pytest.raises(ValueError, match="`model` has no trainable variables"):
        loops.TrainStep(model, "mse", "sgd")


def test_a_variable_without_gradient_is_named():
    model = dense_model()

    def loss(model, batch):
        return tf.reduce_mean(model.get_layer("hidden")(batch[0]) ** 2)

    step = loops.TrainStep(model, loss, "sgd")
    with pytest.raises(ValueError, match="no gradient for 'head/kernel', 'head/bias'"):
        step(X, Y)


def test_an_optimizer_built_without_a_variable_is_refused():
    model = dense_model()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.get_layer("head").trainable_variables)
    step = loops.TrainStep(model, crossentropy(), optimizer)
    with pytest.raises(ValueError, match="`optimizer` was built without 'hidden/kernel'"):
        step(X, Y)
