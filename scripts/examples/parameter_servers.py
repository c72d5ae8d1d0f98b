#!/usr/bin/env python3
"""A loop on parameter servers: workers learn tables of what users like, asynchronously, each at its own pace.

Users and films have vectors; a rating is their product (matrix factorisation, Koren et al. 2009,
doi:10.1109/MC.2009.263). The tables lie on the parameter servers, workers take batches from the chief,
fetch the rows that they need and send updates of those back. The ratings are made up: a known product and
noise of 0.3, below which no root mean square error can come on the ratings held out. With seed 0, ten
epochs bring it to 0.320, by two workers and one parameter server, and on one device.
"""

import argparse
import time
from pathlib import Path

EXAMPLES = """examples, by scripts/launch.py, which starts the tasks of a cluster on this machine:
  launch.py --workers 2 --parameter-servers 1 scripts/examples/parameter_servers.py
On a cluster, start it on each machine with TF_CONFIG, as TensorFlow reads it.
"""


def options() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=form)
    add = parser.add_argument
    numbers = {"users": 500, "films": 300, "ratings": 60_000, "epochs": 10, "batch-size": 256, "seed": 0}
    for name, default in numbers.items():
        add(f"--{name}", type=type(default), default=default, help=f"default: {default}")
    add("--learning-rate", type=float, default=0.01, help="default: 0.01")
    add("--strategy", default="parameter_server", help="default: parameter_server; `one` needs no cluster")
    add("--log-dir", type=Path, help="default: runs/parameter-servers-TIME")
    return parser.parse_args()


def main() -> None:
    args = options()
    log_dir = args.log_dir or Path("runs") / time.strftime("parameter-servers-%Y%m%d-%H%M%S")
    import keras  # after the options: --help answers at once
    import numpy as np
    from keras import layers
    from tqdm import trange

    from gradloop import loops

    # Workers and parameter servers stay in this call until the chief is done: the chief alone goes on.
    strategy = loops.strategy(args.strategy)
    keras.utils.set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    user, film = rng.integers(args.users, size=args.ratings), rng.integers(args.films, size=args.ratings)
    likes, has = rng.normal(size=(args.users, 4)), rng.normal(size=(args.films, 4))
    pairs = np.stack([user, film], axis=1).astype("int32")
    ratings = ((likes[user] * has[film]).sum(axis=1) / 2 + rng.normal(0, 0.3, args.ratings)).astype("float32")
    held_out = args.ratings // 10
    test = loops.Batches(pairs[:held_out], ratings[:held_out, None], args.batch_size, shuffle=False)
    data = loops.Batches(pairs[held_out:], ratings[held_out:, None], args.batch_size, seed=args.seed)

    with strategy.scope():  # what is made here lies on the parameter servers
        pair = keras.Input((2,), dtype="int32")
        tables = layers.Embedding(args.users, 4, name="users"), layers.Embedding(args.films, 4, name="films")
        model = keras.Model(pair, layers.Dot(axes=1)([table(pair[:, i]) for i, table in enumerate(tables)]))
        step = loops.TrainStep(model, "mean_squared_error", keras.optimizers.Adam(args.learning_rate))
        evaluation = loops.EvalStep(model, "mean_squared_error")

    with loops.TensorBoard(log_dir) as board:
        for epoch in (bar := trange(1, args.epochs + 1, unit="epoch")):
            # Many steps a call are shared out between the workers. No update is lost when one of them dies,
            # but which weights an update starts from is a matter of time: two runs differ.
            losses = step.run(iter(data), len(data))["loss"]
            error = loops.evaluate(evaluation, test)["loss"] ** 0.5
            board.write(epoch, {"training_error": np.mean(losses) ** 0.5, "test_error": error})
            bar.set_postfix(test_error=f"{error:.4f}")
    model.save(log_dir / "tables.keras")
    print(f"\nRoot mean square error of {held_out:,} ratings held out: {error:.4f}")
    print(f"TensorBoard  tensorboard --logdir {log_dir}")
    print(f"Tables       {log_dir}/tables.keras")


if __name__ == "__main__":
    main()
