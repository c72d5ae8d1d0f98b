"""strategy: one device by name."""

import pytest
import tensorflow as tf

from gradloop import loops


@pytest.mark.parametrize("spec", ["auto", "one"])
def test_names_of_one_device(spec):
    found = loops.strategy(spec)
    assert isinstance(found, tf.distribute.Strategy)
    assert found.num_replicas_in_sync == 1
    with found.scope():
        assert float(tf.Variable(1.0) + 1) == 2.0


def test_the_default_is_auto():
    assert loops.strategy() is loops.strategy("auto")


def test_a_strategy_of_one_replica_is_returned():
    given = tf.distribute.OneDeviceStrategy("/cpu:0")
    assert loops.strategy(given) is given


@pytest.mark.parametrize(
    "spec, match",
    [
        ("on", "`spec` 'on' is no strategy of this release, .* Did you mean 'one'?"),
        ("Auto", "Did you mean 'auto'?"),
        ("mirrored", "`spec` 'mirrored' is no strategy of this release, which has 'auto', 'one'"),
        (None, "`spec` None is no strategy"),
        (["one", "two"], "is no strategy"),
    ],
)
def test_unknown_names(spec, match):
    with pytest.raises(ValueError, match=match):
        loops.strategy(spec)


class TwoReplicas(tf.distribute.OneDeviceStrategy):
    @property
    def num_replicas_in_sync(self):
        return 2


def test_several_replicas():
    given = TwoReplicas("/cpu:0")
    with pytest.raises(ValueError, match="`spec` has 2 replicas; this release trains on one device"):
        loops.strategy(given)
    with given.scope(), pytest.raises(ValueError, match="'one' outside of any strategy's scope"):
        loops.strategy("one")
