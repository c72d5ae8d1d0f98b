"""A dataset that resumes at each of its batches, against the passes that TensorFlow gives by itself."""

import json
from itertools import chain, islice, repeat

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.data.position import write_iterator
from gradloop.loops.device.steps_per_call import StepsPerCall
from gradloop.loops.training.epoch_reader import EpochReader
from tests.loops.training.test_epoch_reader import FakeStep

D = tf.data.Dataset


def shuffled(count=12, size=12, first=0, seed=1, **options):
    return D.range(first, first + count).shuffle(size, seed=seed, **options)


def files_and_examples(**options):
    """As those of which the files are shuffled, and then the examples."""
    files = D.range(4).shuffle(4, seed=5)
    examples = files.interleave(lambda one: D.range(3 * one, 3 * one + 3), cycle_length=2, **options)
    return examples.shuffle(5, seed=1)


def drawn(rerandomize):
    parts = [shuffled(6, 6), shuffled(6, 6, first=6, seed=2)]
    return D.sample_from_datasets(parts, [0.5, 0.5], seed=3, rerandomize_each_iteration=rerandomize)


def of_another(inner):
    return D.range(4).flat_map(lambda _: inner)


def noisy(x):
    return 100 * x + tf.random.uniform([], 0, 99, tf.int64, seed=4)


def augmented():
    """By a layer and a generator, of which each has a variable that goes on from pass to pass."""
    layer = keras.layers.RandomBrightness(0.5, value_range=(0.0, 12.0), seed=3)
    generator = tf.random.Generator.from_seed(1)

    def map_to(x):
        image = tf.cast(x, tf.float32) + tf.zeros([2, 2, 3])
        return layer(image, training=True)[0, 0, 0] + generator.uniform([])

    return shuffled().map(map_to).batch(3).prefetch(2)


def generated():
    return D.from_generator(lambda: iter(range(12)), output_signature=tf.TensorSpec([], tf.int64))


MAKE = {
    "plain": lambda: shuffled().batch(3),
    "prefetched": lambda: shuffled(11, 5).batch(3).prefetch(2),
    "the same each pass": lambda: shuffled(reshuffle_each_iteration=False).batch(3),
    "repeated": lambda: shuffled(5, 5).repeat(3).batch(4).prefetch(1),
    "endless": lambda: shuffled(6, 6).repeat().batch(3).prefetch(2),
    "files": lambda: files_and_examples().batch(3),
    "files, parallel": lambda: files_and_examples(num_parallel_calls=2).batch(3).prefetch(tf.data.AUTOTUNE),
    "files, endless": lambda: files_and_examples().repeat().batch(3).prefetch(2),
    "a pair": lambda: D.zip((shuffled(9, 9), shuffled(seed=2))).batch(3).map(lambda x, y: 100 * x + y),
    "two in a row": lambda: shuffled(6, 6).concatenate(shuffled(6, 6, 6, 2)).batch(3),
    "in a function": lambda: D.range(4).flat_map(lambda one: shuffled(3).map(lambda x: 9 * one + x)).batch(3),
    "of another": lambda: of_another(shuffled(3, 3)).batch(2),
    "batches": lambda: D.range(12).batch(2).shuffle(6, seed=1).unbatch().batch(3).shuffle(2, seed=2),
    "a cache before": lambda: D.range(12).cache().shuffle(12, seed=1).batch(3),
    "a cache between": lambda: shuffled().cache().shuffle(12, seed=2).batch(3),
    "random numbers": lambda: shuffled().map(noisy).batch(3),
    "augmented": augmented,
    "generated": lambda: generated().shuffle(12, seed=1).batch(3),
    "drawn": lambda: drawn(False).batch(3),
    "drawn anew": lambda: drawn(True).batch(3),
    "of unknown length": lambda: shuffled(14, 5).filter(lambda x: x % 7 != 3).batch(3),
    "a part": lambda: shuffled().skip(1).take(9).batch(3),
}  # fmt: skip
ALWAYS = [("plain", None), ("files", 7), ("repeated", 5), ("two in a row", None), ("a cache between", None),
          ("augmented", 3), ("in a function", None), ("drawn anew", None)]  # fmt: skip
OTHERS = [(kind, steps) for kind in MAKE for steps in (None, 3, 7) if steps or "endless" not in kind]
BATCHES = 13  # of three passes and one batch, for most
PLACES = 2, 3, 4, 7, 12  # of which the third and the last are the ends of passes


def in_tensorflow(make):
    """The batches of one pass after another."""
    data = make()
    passes = chain.from_iterable(repeat(data))
    return [batch.numpy().tolist() for batch in islice(passes, BATCHES)]


class Run:
    """Reads batches as `train` does, and says after each how to resume there."""

    def __init__(self, make, steps, folder=None):
        self._reader = EpochReader(D.zip((make(),)), steps, keep=folder is not None)
        self._folder = folder
        self._step, self._epoch, self._done = FakeStep(), 0, 0
        self.seen = self._step.seen

    def resume(self, saved):
        position, self._epoch, self._done, file = json.loads(saved)
        self._reader.source.resume(position, self._done, "folder", file)
        return self

    def read(self, batches):
        """The first batches, and what would be saved after each."""
        saved = []
        for epoch in range(self._epoch, self._epoch + batches + 1):
            done = self._done if epoch == self._epoch else 0
            for _ in self._reader.epoch(epoch, self._step, StepsPerCall(1), done=done):
                done += 1
                if self._folder is not None:
                    saved.append(self.saved(epoch, done, str(len(saved))))
                if len(self.seen) == batches:
                    return self.seen, saved
        raise AssertionError("it never ends")

    def saved(self, epoch, done, name):
        """What a checkpoint would hold of a place in an epoch."""
        epoch, done = (epoch + 1, 0) if done == self._reader.steps else (epoch, done)
        position, iterator = self._reader.source.position(done), self._reader.source.iterator_to_save(done)
        file = str(self._folder / name)
        if iterator is None or write_iterator(file, iterator, position):
            file = None
        return json.dumps([position, epoch, done, file])


@pytest.mark.parametrize(
    "kind, steps, places",
    [
        *((*one, PLACES) for one in ALWAYS),
        *(pytest.param(*one, range(1, BATCHES), marks=pytest.mark.release) for one in OTHERS),
    ],
)
def test_places_resume_with_the_batches_that_were_left(tmp_path, kind, steps, places):
    make = MAKE[kind]
    expected = in_tensorflow(make)
    seen, saved = Run(make, steps, tmp_path).read(BATCHES)
    assert seen == expected
    for read in places:
        resumed, _ = Run(make, steps).resume(saved[read - 1]).read(BATCHES - read)
        assert resumed == expected[read:], read


def test_data_that_were_read_before_go_on_too(tmp_path):
    """As those of a run that goes back to a checkpoint, or to its beginning."""
    data, expected = MAKE["files"](), in_tensorflow(MAKE["files"])
    run = Run(lambda: data, 7, tmp_path)
    beginning = run.saved(0, 0, "beginning")
    _, saved = run.read(BATCHES)
    resumed, _ = Run(lambda: data, 7).resume(saved[5]).read(BATCHES - 6)
    assert resumed == expected[6:]
    resumed, _ = Run(lambda: data, 7).resume(beginning).read(BATCHES)
    assert resumed == expected


def test_a_checkpoint_of_an_older_version_resumes_as_it_did(tmp_path):
    """By passes, of which each draws seeds as it begins: right but for a shuffle that has no example left."""
    make = MAKE["plain"]
    seen, saved = Run(make, 7, tmp_path).read(BATCHES)
    for read in (2, 7, 8):
        position, *rest = json.loads(saved[read - 1])
        older = {name: value for name, value in position.items() if not name.startswith("seeds")}
        resumed, _ = Run(make, 7).resume(json.dumps([older, *rest])).read(BATCHES - read)
        assert resumed == seen[read:], read


@pytest.mark.parametrize("kind", ["plain", pytest.param("files", marks=pytest.mark.release)])
def test_a_loop_of_ones_own_resumes(tmp_path, kind):
    expected, state = in_tensorflow(MAKE[kind]), {"batches": 0}
    for left in PLACES:
        checkpoint = loops.Checkpoint(tmp_path / str(left))
        data, read = MAKE[kind](), []
        iterator = checkpoint.restore(state, data)
        while len(read) < BATCHES:
            if len(read) == left:
                checkpoint.save(state, iterator)
                data = MAKE[kind]()
                iterator = checkpoint.restore(state, data)
            batch = next(iterator, None)
            if batch is None:
                iterator = iter(data)
            else:
                read.append(batch.numpy().tolist())
        assert read == expected, left


def test_validation_is_shuffled_on(tmp_path):
    def order_after(epochs, folder):
        x = np.arange(8.0)[:, None]
        validation = D.from_tensor_slices((x, x)).shuffle(8, seed=1).batch(4)
        step = loops.TrainStep(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), "mse", "sgd")
        checkpoint = loops.Checkpoint(tmp_path / folder, verbose=0)
        loops.train(step, loops.Batches(x, x, 8), epochs=epochs, validation=validation, checkpoint=checkpoint)
        return [batch.numpy().tolist() for batch, _ in validation]

    order_after(2, "cut")
    assert order_after(3, "cut") == order_after(3, "straight")
