"""Which strategy the parts of a step belong to, and whether they belong to the same one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from ...optim import GroupedOptimizer
from ...optim.gradients.replicas import in_replica


def strategy_of(variables: Sequence[keras.Variable], what: str) -> tf.distribute.Strategy | None:
    """Returns the strategy in whose scope variables, the argument `what`, were made; None for none.

    Raises:
        ValueError: they were made in different scopes, or outside of the scope that is entered now.
    """
    found = {id(strategy): strategy for strategy in map(_strategy, variables)}
    if len(found) > 1:
        without = [v.path for v in variables if _strategy(v) is None]
        raise ValueError(
            f"`{what}` was made partly inside and partly outside of a strategy's scope"
            f"{f' ({without[0]!r} is outside)' if without else ''}: make all of it inside, "
            "`with strategy.scope(): ...`."
        )
    strategy = next(iter(found.values()), None)
    if strategy is None and tf.distribute.has_strategy() and replicas_of(tf.distribute.get_strategy()) > 1:
        raise ValueError(
            f"`{what}` was made outside of the scope of the {_name(tf.distribute.get_strategy())} that it is "
            "used in, so its replicas would not share it: make it inside, `with strategy.scope(): ...`."
        )
    return strategy


def strategies_of(variables: Iterable[keras.Variable | tf.Variable]) -> list[tf.distribute.Strategy]:
    """The strategies in whose scopes some of these variables were made, each once."""
    found = {id(strategy): strategy for strategy in map(_strategy, variables)}
    return [strategy for strategy in found.values() if strategy is not None]


def check_scope(what: str, variable: keras.Variable, strategy: tf.distribute.Strategy | None) -> None:
    """Raises ValueError if a variable of `what` was made in another scope than that of `strategy`."""
    found = _strategy(variable)
    if found is strategy or strategy is None and replicas_of(found) == 1:
        return
    if strategy is None:
        raise ValueError(
            f"`{what}` was made inside the scope of a {_name(found)}, the model outside of it: make the "
            "model inside too, `with strategy.scope(): model = ...`."
        )
    raise ValueError(
        f"`{what}` was made outside of the scope of the model's {_name(strategy)}: make it inside, "
        f"`with strategy.scope(): {what} = ...`."
    )


def check_on_replicas(optimizer: keras.optimizers.Optimizer, strategy: tf.distribute.Strategy | None) -> None:
    """Raises ValueError for settings with which Keras fails in a TensorFlow function on several replicas."""
    if replicas_of(strategy) == 1:
        return
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            f"`optimizer` has `gradient_accumulation_steps={optimizer.gradient_accumulation_steps}`, which "
            "fails in a TensorFlow function on several replicas (Keras does it eagerly alone): use "
            "`accumulate=...` of `Update` or `TrainStep`."
        )
    if isinstance(optimizer, GroupedOptimizer):  # which averages by itself
        return
    if optimizer.use_ema and optimizer.ema_overwrite_frequency:
        raise ValueError(
            f"`optimizer` has `ema_overwrite_frequency={optimizer.ema_overwrite_frequency}`, which fails in "
            "a TensorFlow function on several replicas (Keras does it eagerly alone): wrap it in "
            "`optim.GroupedOptimizer`, or leave it out."
        )


def check_in_replica(what: str, strategy: tf.distribute.Strategy | None) -> None:
    """Raises ValueError if `what` is called where its strategy does not run its replicas."""
    if strategy is not None and not (in_replica() and tf.distribute.get_strategy() is strategy):
        raise ValueError(
            f"`{what}` was called outside of the replicas of its {_name(strategy)}: call it in a function "
            "under `@loops.replicated`, or one that `strategy.run` runs."
        )


def is_asynchronous(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether the workers of a strategy run their steps independently of each other."""
    return isinstance(strategy, tf.distribute.ParameterServerStrategy)


def has_other_workers(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether some of a strategy's replicas are in other processes."""
    if strategy is None or is_asynchronous(strategy):
        return False
    return len(strategy.extended.worker_devices) < strategy.num_replicas_in_sync


def replicas_of(strategy: tf.distribute.Strategy | None) -> int:
    """How many replicas work in step: 1 for no strategy."""
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def scope_of(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager[object]:
    """Returns the scope of a strategy, or no context for none."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _strategy(variable: keras.Variable | tf.Variable) -> tf.distribute.Strategy | None:
    variable = variable.value if isinstance(variable, keras.Variable) else variable
    # TensorFlow's plain variables have no such attribute, and those on parameter servers neither.
    strategy = getattr(variable, "distribute_strategy", None)
    if strategy is not None or "/job:ps" not in (variable.device or ""):
        return strategy
    if not is_asynchronous(tf.distribute.get_strategy()):
        raise ValueError(
            f"{variable.name!r} is on a parameter server, and this was called outside of its strategy's "
            "scope: call it inside, `with strategy.scope(): ...`."
        )
    return tf.distribute.get_strategy()


def _name(strategy: tf.distribute.Strategy) -> str:
    return f"{type(strategy).__name__} of {strategy.num_replicas_in_sync} replicas"
