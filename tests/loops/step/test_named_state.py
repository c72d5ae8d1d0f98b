"""The state of a step: under names that do not depend on the process."""

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, optim
from tests.loops.step.stateful import X, Y, make_model, make_step
from tests.values import numbers


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
    moved = [name for name, value in numbers(step.state()).items() if "momentum" in name and np.any(value)]
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
