"""`strategy` makes the logical devices that its name asks for."""

import tensorflow as tf

from gradloop import loops

two = loops.strategy("mirrored:cpu:2")
assert two.num_replicas_in_sync == 2
assert loops.strategy("mirrored:cpu:2") is two
assert loops.strategy("one").num_replicas_in_sync == 1
for spec in ("mirrored:cpu:4", "multiworker"):
    try:
        loops.strategy(spec)
    except ValueError as error:
        assert "this process has the strategy 'mirrored:cpu:2' already" in str(error), error
    else:
        raise AssertionError(spec)
own = tf.distribute.MirroredStrategy(["/cpu:0"])
assert loops.strategy(own) is own
with two.scope():
    assert loops.strategy("auto") is two
    try:
        loops.strategy("one")
    except ValueError as error:
        assert "inside the scope of a strategy of 2 replicas" in str(error)
    else:
        raise AssertionError("one")
