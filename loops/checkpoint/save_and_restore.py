"""What of a `Checkpoint` a loop of one's own uses: `save`, `restore`, `newest`, `best`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

import tensorflow as tf

from ...optim.common.messages import short_repr
from ..data.batches import Batches, BatchIterator, check_iterator
from ..data.position import position_of
from ..step.train_step import TrainStep
from ..support.keras_private import better_mode
from .metadata import Metadata
from .resumed_data import resumed_iterator
from .retention import Keep
from .saved_objects import saved_of
from .store import CheckpointStore, assign


class SaveAndRestore:
    """Saves a step or a dict of objects in a folder, and restores it: a `Checkpoint`, which has settings."""

    folder: str
    keep: Keep
    # That of checkpoints from a pickle of an earlier version.
    on_damaged: Literal["previous", "raise"] = "previous"

    def save(
        self,
        step: TrainStep | dict[str, Any],
        iterator: BatchIterator | tf.data.Iterator | None = None,
        *,
        metrics: Mapping[str, float] | None = None,
        background: bool = False,
    ) -> str | None:
        """Writes a checkpoint, and removes what `keep` does not keep.

        Args:
            step: whose state to save; or, in a loop without one, a dict of what it has: `Update`s, Keras
                models, layers, optimizers, metrics and seed generators, variables, `tf.random.Generator`s,
                numbers, text, NumPy arrays, lists and dicts of such values (see `docs/own_loops.md`).
            iterator: `iter(data)` of a `Batches` or a `tf.data.Dataset`, whose position is saved too; that of
                a dataset with all that it has shuffled or read ahead. None to save no position.
            metrics: what is known of the model by now, such as `{"val_loss": 0.3}`: for `loops.Best`, and to
                be told with the checkpoint. None for nothing.
            background: False to return when the checkpoint is complete. True to return when the values are
                copied: a thread writes them while the loop continues, as in `train`. The next `save` or
                `restore` waits for the thread, and raises its error; so end the loop with a `save` without
                `background`. `newest`, `best` and the end of the program wait, too.

        Returns:
            The folder of the checkpoint; None for a worker that leaves writing to another.

        Raises:
            TypeError: `step` is neither, or the dict holds what cannot be saved.
            ValueError: `iterator` is none, or TensorFlow cannot save its position; in a dict, an empty key or
                one with a slash, or an object whose variables are not made yet; a call within a
                `tf.function`; a `loops.Best` in `keep` of
                what `metrics` lack, here and before (a warning where there are none, as they may come
                later); another process writes to the folder.
            OSError: it cannot be written; those from before are as they were.

        Example:
            >>> import tempfile, keras, numpy as np
            >>> from gradloop import loops
            >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
            >>> step = loops.TrainStep(model, "mse", "adam")
            >>> data = loops.Batches(np.ones((12, 3)), np.zeros((12, 2)), batch_size=4)
            >>> checkpoint = loops.Checkpoint(tempfile.mkdtemp())
            >>> iterator = checkpoint.restore(step, data)  # nothing there yet: the data's beginning
            >>> _ = step.run(iterator, 2)
            >>> _ = checkpoint.save(step, iterator)
            >>> again = checkpoint.restore(step, data)
            >>> again.epoch, again.position
            (0, 2)
        """
        saved = saved_of(step)
        if iterator is not None:
            check_iterator(iterator)
        position = None if iterator is None else position_of(iterator)
        metadata: Metadata = {"data": position, **_note_of_metrics(metrics)}
        return self._store.save(
            saved, metadata, iterator=iterator, needs_iterator=True, background=background
        )

    @overload
    def restore(self, step: TrainStep | dict[str, Any], data: Batches) -> BatchIterator: ...

    @overload
    def restore(
        self, step: TrainStep | dict[str, Any], data: tf.data.Dataset | None = None
    ) -> tf.data.Iterator | None: ...

    def restore(
        self, step: TrainStep | dict[str, Any], data: Batches | tf.data.Dataset | None = None
    ) -> BatchIterator | tf.data.Iterator | None:
        """Restores a step or a dict from the newest checkpoint; changes nothing if there is none.

        Args:
            step: made as the one that was saved. The objects of a dict are restored in place; its numbers,
                text and the like are replaced in the dict.
            data: the `Batches` or `tf.data.Dataset` that was being read; None to restore no position.

        Returns:
            An iterator of `data` that continues where `save` was called or, after a run of `train`, with the
            batch that the run would have read next; without a checkpoint `iter(data)`, without `data` None.
            The next `iter(data)` of a `Batches` is the epoch after it, and a dataset is shuffled as it would
            have been.

        Raises:
            TypeError: `step` or `data` is neither of these.
            ValueError: the checkpoint is of another model, optimizer, step, dict or data, or of a newer
                version; it is damaged, and so are all before it, or `on_damaged="raise"`. Nothing was changed
                then.

        Example:
            >>> import tempfile, keras, tensorflow as tf
            >>> from gradloop import loops
            >>> weight = keras.Variable(2.0)
            >>> update = loops.Update(keras.optimizers.SGD(0.5), [weight])
            >>> seeds = keras.random.SeedGenerator(1)
            >>> state = {"update": update, "weight": weight, "seeds": seeds, "best": 0.0}
            >>> checkpoint = loops.Checkpoint(tempfile.mkdtemp())
            >>> checkpoint.restore(state)  # nothing there yet
            >>> _ = update([tf.constant(1.0)])
            >>> state["best"] = 0.93
            >>> _ = checkpoint.save(state)
            >>> _ = weight.assign(0.0), state.update(best=0.1)
            >>> checkpoint.restore(state)
            >>> float(weight), state["best"]
            (1.5, 0.93)
        """
        saved = saved_of(step)
        if data is not None and not isinstance(data, (Batches, tf.data.Dataset)):
            raise TypeError(f"`data` must be a `loops.Batches` or a `tf.data.Dataset`, not {data!r}.")
        file = self._store.load(saved)
        iterator = None if data is None else resumed_iterator(data, file)
        if file is not None:
            saved.warn_of_differences(file)
            assign(saved, file)
        if isinstance(data, Batches) and isinstance(iterator, BatchIterator):
            data.epoch = iterator.epoch + 1  # as `iter(data)` leaves it
        return iterator

    @property
    def newest(self) -> str | None:
        """The folder of the newest checkpoint; None if there is none.

        Of those whose files are there in their sizes, and which this process has not found to be damaged.
        `python -m gradloop.loops.checkpoint FOLDER --verify` reads all of their bytes.
        """
        return self._store.newest

    @property
    def best(self) -> str | None:
        """The folder of the best checkpoint, by the metric of the first `loops.Best` in `keep`.

        Of those whose files are there in their sizes; None if there is none. ValueError without a `Best`, or
        if its metric was not logged.
        """
        return self._store.best

    @property
    def _store(self) -> CheckpointStore:
        # No attribute: a `Checkpoint` may come from a pickle, and `keep` may be set.
        return store_of(self, owner=self)


def store_of(checkpoint: SaveAndRestore, owner: SaveAndRestore | None = None) -> CheckpointStore:
    """The store of the checkpoints that a `Checkpoint` describes; see there for the `owner`."""
    return CheckpointStore(checkpoint.folder, checkpoint.keep, checkpoint.on_damaged, owner)


def _note_of_metrics(metrics: Mapping[str, float] | None) -> Metadata:
    """What the metadata says of metrics that a loop of one's own gives; TypeError for what are none."""
    if metrics is None:
        return {}
    try:
        found = {name: float(value) for name, value in metrics.items()}
        if not all(isinstance(name, str) and not isinstance(metrics[name], str) for name in found):
            raise TypeError
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise TypeError(
            f'`metrics` must map names to numbers, as in {{"val_loss": 0.3}}, not {short_repr(metrics)}.'
        ) from None
    modes = {name: better_mode(name.removeprefix("val_")) for name in found}
    return {"metrics": found, "modes": {name: mode for name, mode in modes.items() if mode}}
