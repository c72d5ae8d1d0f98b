"""Coming from optimizers by layer: both columns."""

import keras

from gradloop import loops, optim


def keras_groups(model, x, y):
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            default_optimizer=keras.optimizers.Adam(
                0.01
            ),
            optimizer_map={
                ".*hidden.*": keras.optimizers.SGD(
                    0.1
                )
            },
        )
    )
    model.compile(
        optimizer, "sparse_categorical_crossentropy"
    )
    model.fit(
        x, y, batch_size=16, shuffle=False, verbose=0
    )


def gradloop_groups(model, x, y):
    plan = optim.partition(
        model,
        {
            "slow": optim.Group(
                "hidden",
                optimizer=keras.optimizers.SGD(0.1),
            ),
            "head": "head",
        },
    )
    optimizer = optim.GroupedOptimizer(
        keras.optimizers.Adam(0.01), plan
    )
    model.compile(
        optimizer, "sparse_categorical_crossentropy"
    )
    model.fit(
        x, y, batch_size=16, shuffle=False, verbose=0
    )


def gradloop_rates(model, x, y):
    plan = optim.partition(
        model,
        {
            "slow": optim.Group(
                "hidden", lr_scale=0.1
            ),
            "head": model.get_layer("head"),
        },
    )
    optimizer = optim.GroupedOptimizer(
        keras.optimizers.Adam(0.01), plan
    )
    step = loops.TrainStep(
        model,
        "sparse_categorical_crossentropy",
        optimizer,
    )
    loops.train(
        step, loops.Batches(x, y, 16), epochs=1
    )
    optimizer.learning_rate = 0.001  # both follow
    rates = optimizer.learning_rates
    assert abs(rates["slow"] - 0.0001) < 1e-9
    assert abs(rates["head"] - 0.001) < 1e-9
