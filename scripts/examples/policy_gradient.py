#!/usr/bin/env python3
"""Reinforcement learning by policy gradient: REINFORCE with a learned baseline balances a pole.

The cart and the pole are a few lines of TensorFlow, so whole episodes of all carts run inside the step.
Nothing is a Keras loss here: the loss weighs the log-probability of each action by how much better than
expected the rest of its episode was (Williams 1992, doi:10.1007/BF00992696). With seeds 0 to 2 on a CPU,
the last of 100 updates sees the poles stand for 199.5 to 200 of 200 moments, after some ten seconds.
"""

import argparse
import math
import time
from pathlib import Path

MOMENTS = 200  # that an episode may last, 0.02 s each
EXAMPLES = """examples:
  policy_gradient.py                              64 carts at a time
  policy_gradient.py --strategy mirrored:cpu:2    32 on each of two replicas, the same numbers
"""


def options() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=form)
    add = parser.add_argument
    for name, default in {"updates": 100, "episodes": 64, "learning-rate": 0.01, "seed": 0}.items():
        add(f"--{name}", type=type(default), default=default, help=f"default: {default}")
    add("--strategy", default="auto", help="as `loops.strategy` takes it (default: auto)")
    add("--log-dir", type=Path, help="default: runs/policy-gradient-TIME")
    return parser.parse_args()


def main() -> None:
    args = options()
    log_dir = args.log_dir or Path("runs") / time.strftime("policy-gradient-%Y%m%d-%H%M%S")
    import keras  # after the options: --help answers at once
    import tensorflow as tf
    from keras import layers
    from tqdm import trange

    from gradloop import loops

    strategy = loops.strategy(args.strategy)  # first: devices are made before anything runs on them
    keras.utils.set_random_seed(args.seed)

    def moved(state: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """The carts [n, 4] a moment later: place, speed, angle, turning speed (Barto et al. 1983)."""
        x, speed, angle, turning = tf.unstack(state, axis=1)
        force = 20.0 * tf.cast(action, tf.float32) - 10.0  # newton, to the left or to the right
        swing = (force + 0.05 * turning**2 * tf.sin(angle)) / 1.1
        bend = (9.8 * tf.sin(angle) - swing * tf.cos(angle)) / (
            0.5 * (4 / 3 - 0.1 * tf.cos(angle) ** 2 / 1.1)
        )
        push = swing - 0.05 * bend * tf.cos(angle) / 1.1
        return state + 0.02 * tf.stack([speed, push, turning, bend], axis=1)

    def stands(state: tf.Tensor) -> tf.Tensor:
        return (tf.abs(state[:, 0]) < 2.4) & (tf.abs(state[:, 2]) < math.radians(12))

    def episodes(start: tf.Tensor, luck: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Plays from states [n, 4] with noise [n, MOMENTS, 2]: states, actions, and which moments count."""

        def moment(before: tuple[tf.Tensor, ...], noise: tf.Tensor) -> tuple[tf.Tensor, ...]:
            state, stood = before[0], before[3]
            # The largest of logits with Gumbel noise is a draw from their softmax.
            action = tf.argmax(policy(state[:, None])[:, 0] - tf.math.log(-tf.math.log(noise)), axis=1)
            return moved(state, action), state, action, stood & stands(state)

        first = start, start, tf.zeros(len(start), tf.int64), stands(start)
        _, states, actions, counts = tf.scan(moment, tf.transpose(luck, (1, 0, 2)), first)
        return tf.transpose(states, (1, 0, 2)), tf.transpose(actions), tf.transpose(counts)

    with strategy.scope():
        policy, expected = (
            keras.Sequential(
                [keras.Input((None, 4)), layers.Dense(32, "tanh"), layers.Dense(outputs)], name=name
            )
            for name, outputs in {"policy": 2, "expected": 1}.items()
        )
        adams = [keras.optimizers.Adam(args.learning_rate) for _ in range(2)]
        update_policy = loops.Update(adams[0], policy.trainable_variables)
        update_expected = loops.Update(adams[1], expected.trainable_variables)

        @loops.replicated  # each replica plays a part of the episodes
        def step(start: tf.Tensor, luck: tf.Tensor) -> dict[str, tf.Tensor]:
            states, actions, counts = episodes(start, luck)
            # One point for each moment that the pole stands, worth 1 % less for each moment that it is away.
            points = tf.transpose(tf.cast(counts, tf.float32))
            returns = tf.scan(
                lambda later, point: point + 0.99 * later, points, 0.0 * points[0], reverse=True
            )
            earned = tf.transpose(returns) / 100.0
            with tf.GradientTape() as tape:
                baseline = expected(states)[..., 0]
                # Moments after the fall are masked; on all replicas, the mean is over the moments that count.
                expected_loss = loops.mean_loss((earned - baseline) ** 2, mask=counts)
            update_expected(tape.gradient(expected_loss, update_expected.variables))
            with tf.GradientTape() as tape:
                surprise = tf.nn.sparse_softmax_cross_entropy_with_logits(actions, policy(states))
                policy_loss = loops.mean_loss(surprise * (earned - baseline), mask=counts)
            update_policy(tape.gradient(policy_loss, update_policy.variables))
            lasted = tf.reduce_sum(tf.cast(counts, tf.float32), axis=1)
            return {"expected_loss": expected_loss, "lasted": loops.mean_loss(lasted)}

    with loops.TensorBoard(log_dir) as board:
        for number in (bar := trange(1, args.updates + 1, unit="update")):
            # Seeded by the number, and drawn for all episodes: the same on any number of replicas.
            start = tf.random.stateless_uniform((args.episodes, 4), (args.seed, 2 * number), -0.05, 0.05)
            luck = tf.random.stateless_uniform((args.episodes, MOMENTS, 2), (args.seed, 2 * number + 1), 1e-6)
            logs = step(start, luck)
            board.write(number, logs)
            bar.set_postfix({name: f"{float(value):.3g}" for name, value in logs.items()}, refresh=False)
    policy.save(log_dir / "policy.keras")
    print(f"\nThe last {args.episodes} episodes lasted {float(logs['lasted']):.1f} of {MOMENTS} moments")
    print(f"TensorBoard  tensorboard --logdir {log_dir}")
    print(f"Policy       {log_dir}/policy.keras")


if __name__ == "__main__":
    main()
