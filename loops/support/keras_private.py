"""Private names of Keras, and patches of its objects: in `loops` they are here alone.

Tests check each of them on every version.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.random.seed_generator import make_default_seed

from ...optim.common.types import Tensors
from ...optim.naming.model_tree import ModelTree
from ...optim.naming.stable_names import tree_of
from ...optim.updates.weight_copies import WeightCopies
from .method_hooks import Hooks, Method


def knows_variable(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether a built optimizer has state for `variable`.

    Otherwise Keras says so by an error from `apply`, in the middle of a step.
    """
    try:
        optimizer._check_variables_are_known([variable])
    except ValueError:
        return False
    return True


def built_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The variables that a built optimizer was built over, in order."""
    return list(optimizer._trainable_variables)


def excludes_variables(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether `exclude_from_weight_decay` of the optimizer was given variables or names."""
    names = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
    return any(bool(vars(optimizer).get(name)) for name in names)


def weight_copies(optimizer: keras.optimizers.Optimizer) -> list[WeightCopies]:
    """The copies of weights that an optimizer, or those in a `MultiOptimizer`, made when they were built."""
    optimizers = getattr(optimizer, "optimizers", [optimizer])
    return [WeightCopies(each, built_variables(each)) for each in optimizers if each.built]


def random_seed() -> int | None:
    """The last seed that `keras.utils.set_random_seed` was given; None if it was not called."""
    return get_global_attribute("global_random_seed")


def keras_mask(predictions: Tensors) -> tf.Tensor | None:
    """The mask that Keras attached to a model's output, which its losses apply; None for none."""
    return getattr(predictions, "_keras_mask", None)


def loss_arguments(loss: keras.losses.Loss) -> dict[str, object]:
    """The arguments of the function that a loss wraps; some (`Huber`) leave them out of their config."""
    return dict(getattr(loss, "_fn_kwargs", {}))


def wrapped_function(metric: keras.metrics.MeanMetricWrapper) -> Callable[[Tensors, Tensors], Tensors]:
    """The function of (targets, predictions) that a metric averages."""
    return functools.update_wrapper(functools.partial(metric._fn, **metric._fn_kwargs), metric._fn)


def with_keras_mask(value: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Attaches a Keras mask to a tensor, if there is one, since operations drop it; returns the tensor."""
    if mask is not None:
        value._keras_mask = mask
    return value


def better_mode(metric: object) -> str | None:
    """Whether the "min" or the "max" of a Keras metric, or of the name of one, is better; None if unknown."""
    if isinstance(metric, str):
        try:
            metric = keras.metrics.get({"acc": "accuracy"}.get(metric.lower(), metric))
        except (ValueError, TypeError):  # none, or one that needs arguments
            return None
    return {"up": "max", "down": "min"}.get(getattr(metric, "_direction", ""))


def has_late_variables(metric: keras.metrics.Metric) -> bool:
    """Whether a metric still has to make variables, which it does at its first update."""
    late = not metric.variables or not getattr(metric, "_built", True)
    return late or any(map(has_late_variables, metric._metrics))


def layer_metrics(model: keras.Model, tree: ModelTree | None = None) -> list[keras.metrics.Metric]:
    """The metrics that are attributes of a model or its layers, without those that `compile` made.

    Args:
        tree: the model's, if the caller has it already; None to walk the model.
    """
    layers = [model, *(node.layer for node in (tree or tree_of(model)).nodes)]
    return list({id(metric): metric for layer in layers for metric in layer._metrics}.values())


def compile_config(model: keras.Model) -> object:
    """The arguments of the last `model.compile` as Keras keeps them, a new object each time; None before."""
    return getattr(model, "_compile_config", None)


def is_symbolic() -> bool:
    """Whether Keras calls a layer only to learn the shapes of its outputs."""
    return get_global_attribute("symbolic_scope") is not None


def is_inference() -> bool:
    """Whether a layer is being called, without `training=True` of any call around it."""
    context = get_global_attribute("current_call_ctx")
    return context is not None and not getattr(context, "training", None)


def take_initial_epoch(model: keras.Model) -> int:
    """The epoch from which `BackupAndRestore` resumes, which it sets on the model; 0 without one."""
    epoch = getattr(model, "_initial_epoch", None)
    if epoch is not None:
        model._initial_epoch = None
    return epoch or 0


@contextlib.contextmanager
def undivided_losses() -> Iterator[None]:
    """Traces the body with Keras' losses as they are on one device: not divided by the number of replicas.

    This patches the function of Keras that divides, as there is no option. In a Keras without that function
    it raises, since the numbers would be wrong otherwise.
    """
    from keras.src.losses import loss as module

    divide = module.scale_loss_for_distribution
    module.scale_loss_for_distribution = lambda value: value
    try:
        yield
    finally:
        module.scale_loss_for_distribution = divide


@contextlib.contextmanager
def transform_seeds(change: Callable[[tf.Tensor], tf.Tensor]) -> Iterator[None]:
    """Runs the body with `change` applied to each seed, (2,), that any `SeedGenerator` gives.

    It patches the class, so it does not matter where a layer keeps its generators.
    """

    def changed(draw: Method) -> Method:
        return lambda generator, ordered=True: change(tf.convert_to_tensor(draw(generator, ordered=ordered)))

    with Hooks(lambda: [(keras.random.SeedGenerator, "next", changed)]).installed():
        yield


_GLOBAL_SEEDS = "global_seed_generator"


def global_seed_generator() -> keras.random.SeedGenerator | None:
    """The generator of `keras.random` without a seed, on this thread; None before the first draw."""
    return get_global_attribute(_GLOBAL_SEEDS)


def default_seed() -> int:
    """The seed of a generator that is made without one, drawn from Python's `random`."""
    return int(make_default_seed())


def set_global_seed_generator(generator: keras.random.SeedGenerator | None) -> None:
    """Sets the generator of `keras.random` without a seed, on this thread."""
    set_global_attribute(_GLOBAL_SEEDS, generator)


@contextlib.contextmanager
def preserve_global_seed_generator() -> Iterator[None]:
    """Restores the generator of `keras.random` without a seed after the body, or that there is none."""
    generator = global_seed_generator()
    state = None if generator is None else generator.state.numpy()
    try:
        yield
    finally:
        if generator is not None:
            generator.state.assign(state)
        else:
            set_global_seed_generator(None)
