"""The state of a step: an exact rewind, under names that do not depend on the process."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 6)).astype("float32")
Y = RANDOM.integers(0, 2, size=(24, 1))


class Block(keras.layers.Layer):
    """Has a seed generator, a metric and a layer of its own."""

    def __init__(self):
        super().__init__()
        self.drop = keras.layers.Dropout(0.3)
        self.dense = keras.layers.Dense(5)
        self.noise = keras.random.SeedGenerator(3)
        self.size = keras.metrics.Mean(name="size")

    def call(self, x, training=False):
        x = self.dense(self.drop(x, training=training))
        self.size.update_state(keras.ops.abs(x))
        return x + 0.1 * keras.random.normal(keras.ops.shape(x), dtype=x.dtype, seed=self.noise)


def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            Block(),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1, "sigmoid", dtype="float32", name="head"),
        ]
    )


def make_step(optimizer=None, **options):
    metrics = ["accuracy", keras.metrics.AUC(num_thresholds=20, name="auc")]
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    return loops.TrainStep(make_model(), "binary_crossentropy", optimizer, metrics=metrics, **options)


def snapshot(step):
    return numbers(step.state())


def rewind(step, values):
    for name, variable in step.state().items():
        variable.assign(values[name])


def assert_equal(one, other):
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def numbers(values):
    return {name: value.numpy() for name, value in values.items()}


def single_steps(step):
    return [numbers(step(X[n : n + 8], Y[n : n + 8])) for n in (0, 8, 16)]


def many_steps(step):
    return [step.run(loops.Batches(X, Y, 8).iterator(), 3)]


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "averages": lambda: keras.optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=2),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 9)),
}


@pytest.mark.parametrize("run", [single_steps, many_steps])
@pytest.mark.parametrize(
    "optimizer, policy, accumulate",
    [
        ("adam", "mixed_float16", 2),
        ("momentum", "float32", 1),
        ("nadam", "mixed_float16", 1),
        ("averages", "mixed_float16", 1),
        ("ftrl", "float32", 2),
        ("schedule", "mixed_bfloat16", 1),
    ],
)
def test_an_exact_rewind(optimizer, policy, accumulate, run):
    keras.config.set_dtype_policy(policy)
    step = make_step(OPTIMIZERS[optimizer](), accumulate=accumulate, clip_norm=1.0)
    for _ in range(2):  # from a step that was never run, and from the middle of an update
        before = snapshot(step)
        losses = run(step)
        after = snapshot(step)
        assert any(not np.array_equal(before[name], after[name]) for name in before)
        rewind(step, before)
        assert_equal(snapshot(step), before)
        for once, again in zip(losses, run(step), strict=True):
            assert_equal(once, again)
        assert_equal(snapshot(step), after)


def test_a_rewind_over_an_overflow():
    keras.config.set_dtype_policy("mixed_float16")
    step = make_step()
    x = X.copy()
    x[9] = np.inf
    before = snapshot(step)
    step.run(loops.Batches(x, Y, 8, shuffle=False).iterator(), 3)
    assert float(step.state()["optimizer/dynamic_scale"]) == before["optimizer/dynamic_scale"] / 2
    rewind(step, before)
    assert_equal(snapshot(step), before)


def names(step):
    """The names that a step has in a process where Keras has counted on."""
    return list(step.state())


def test_names_do_not_depend_on_the_process():
    first = make_step(accumulate=2)
    assert (
        names(make_step(accumulate=2))
        == names(first)
        == [
            "block/dense/kernel",
            "block/dense/bias",
            "norm/gamma",
            "norm/beta",
            "norm/moving_mean",
            "norm/moving_variance",
            "head/kernel",
            "head/bias",
            "block/seed_generator_state",
            "block/drop/seed_generator_state",
            "dropout/seed_generator_state",
            "metrics/auc/true_positives",
            "metrics/auc/false_positives",
            "metrics/auc/true_negatives",
            "metrics/auc/false_negatives",
            "metrics/size/total",
            "metrics/size/count",
            "batches_done",
            "optimizer/iteration",
            "optimizer/learning_rate",
            *(
                f"optimizer/{name}/{slot}"
                for name in optim.named_variables(first.model)
                if "moving" not in name
                for slot in ("momentum", "velocity")
            ),
            *(f"accumulated/{name}" for name in optim.named_variables(first.model) if "moving" not in name),
            "accumulated/calls",
            "accumulated/total_weight",
        ]
    )


def test_names_of_the_loss_scale_and_of_nadam():
    keras.config.set_dtype_policy("mixed_float16")
    scaled = names(make_step(keras.optimizers.Nadam()))
    keras.config.set_dtype_policy("float32")
    plain = names(make_step(keras.optimizers.Nadam()))
    assert scaled == [*plain, "optimizer/step_counter", "optimizer/dynamic_scale"]
    assert "optimizer/u_product" in plain and not any("variable" in name for name in plain)


def test_an_exact_rewind_of_groups():
    model = make_model()
    plan = optim.partition(
        model, {"head": optim.Group("head", lr_scale=0.1), "rest": optim.Group(~optim.name("head"))}
    )
    optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(0.01), plan)
    step = loops.TrainStep(model, "binary_crossentropy", optimizer, accumulate=2)
    many_steps(step)  # half of an update waits
    before = snapshot(step)
    losses, after = many_steps(step), snapshot(step)
    rewind(step, before)
    for once, again in zip(losses, many_steps(step), strict=True):
        assert_equal(once, again)
    assert_equal(snapshot(step), after)
    assert not any("variable" in name for name in after)


def test_an_optimizer_that_names_its_state():
    class Counting(keras.optimizers.SGD):
        def build(self, variables):
            super().build(variables)
            self.counts = tf.Variable([0, 0])

        def named_state(self):
            return {f"head/speed_{n}": v for n, v in enumerate(self.momentums)} | {"counts": self.counts}

    optimizer = Counting(0.1, momentum=0.5)
    step = loops.TrainStep(make_model(), "mse", optimizer, variables="head")
    optimizer.build(step.variables)
    assert [name for name in names(step) if name.startswith("optimizer")] == [
        "optimizer/iteration",
        "optimizer/learning_rate",
        "optimizer/head/speed_0",
        "optimizer/head/speed_1",
        "optimizer/counts",
    ]


def test_all_are_variables_of_their_names():
    step = make_step()
    state = step.state()
    for name, variable in optim.named_variables(step.model).items():
        assert state[name] is variable
    assert {id(v) for v in step.optimizer.variables} <= {id(v) for v in state.values()}
    assert {id(v) for v in step.model.variables} <= {id(v) for v in state.values()}
    assert step.optimizer.built, "slots must be there to be saved"


def test_slots_of_layers_of_one_name():
    """Keras gives the slots of both layers the same name."""

    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.left, self.right = keras.layers.Dense(2, name="same"), keras.layers.Dense(2, name="same")

        def call(self, x):
            return self.left(x) + self.right(x)

    model = Twins()
    model(X)
    step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1, momentum=0.9), variables="right/kernel")
    step(X, np.zeros((24, 2), "float32"))
    moved = [name for name, value in snapshot(step).items() if "momentum" in name and np.any(value)]
    assert moved == ["optimizer/right/kernel/momentum"]


COUNTERS = ["accumulated/calls", "accumulated/total_weight"]


def test_accumulated_gradients_are_those_of_what_trains_now():
    step = make_step(accumulate=2, variables="head")
    assert [n for n in names(step) if "accumulated" in n] == [
        "accumulated/head/kernel",
        "accumulated/head/bias",
        *COUNTERS,
    ]
    step(X, Y)
    assert np.any(step.state()["accumulated/head/kernel"].numpy())
    assert int(step.state()["accumulated/calls"]) == 1
    step.train_only("head/bias")
    assert [n for n in names(step) if "accumulated" in n] == ["accumulated/head/bias", *COUNTERS]


def test_a_name_that_is_taken():
    class Own(keras.Model):
        def build(self, shape):
            self.scale = self.add_weight(name="batches_done")

        def call(self, x):
            return x * self.scale

    model = Own()
    model(X)
    step = loops.EvalStep(model, "mse")
    assert names(step) == ["batches_done", "batches_done_1"]
    assert step.state()["batches_done"] is model.scale


def test_an_evaluation_has_the_model_and_its_metrics():
    metric = keras.metrics.AUC(num_thresholds=20, name="auc")
    step = loops.EvalStep(make_model(), "binary_crossentropy", [metric])
    assert not any(name.startswith(("optimizer", "accumulated")) for name in names(step))
    before = snapshot(step)
    once, counter = numbers(step(X, Y)), "metrics/auc/true_positives"
    assert not np.array_equal(snapshot(step)[counter], before[counter])
    rewind(step, before)
    assert_equal(numbers(step(X, Y)), once)


def test_metrics_of_compile_are_not_among_them():
    step = make_step()
    expected = names(step)
    step.model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    step.model.evaluate(X, Y, verbose=0)
    assert names(step) == expected


def test_an_optimizer_of_a_wider_model():
    model = make_model()
    head = keras.Sequential([keras.Input((6,)), model.layers[0]])
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    step = loops.TrainStep(head, "mse", optimizer)
    slots = [name for name in names(step) if name.endswith("momentum")]
    assert len(slots) == len(set(slots)) == 6
    assert "optimizer/block/dense/kernel/momentum" in slots
    assert isinstance(step.state()["batches_done"], tf.Variable)
