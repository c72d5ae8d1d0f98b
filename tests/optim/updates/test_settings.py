"""Changes of an optimizer's attributes are seen, whatever they hold; an update changes none."""

import keras
import numpy as np
import pytest

from gradloop.optim.updates.settings import Settings

K = keras.optimizers


@pytest.mark.parametrize(
    "change",
    [
        lambda o: setattr(o, "weight_decay", 0.5),
        lambda o: setattr(o, "of_ones_own", np.ones(2)),
        lambda o: setattr(o, "array", np.zeros(2)),
        lambda o: setattr(o, "learning_rate", K.schedules.CosineDecay(0.1, 10)),
        lambda o: o.exclude_from_weight_decay(var_names=["bias"]),
    ],
)
def test_a_change_is_seen_once(change):
    optimizer, weight = K.AdamW(0.1), keras.Variable([1.0])
    optimizer.array = np.zeros(2)
    optimizer.build([weight])
    settings = Settings([K.SGD(), optimizer])
    assert settings.changed() and not settings.changed()
    optimizer.apply([keras.ops.ones(1)], [weight])
    optimizer.learning_rate = 0.5  # a variable, which every function reads
    assert not settings.changed()
    change(optimizer)
    assert settings.changed() and not settings.changed()
