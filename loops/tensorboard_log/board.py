"""`TensorBoard`: what TensorBoard shows of a run."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping
from typing import Any

from ...optim import FilterLike
from ...optim.common.arguments import true_or_false, whole_number
from ...optim.common.types import Array, Json
from ..callbacks.steps_callback import StepsCallback
from ..data.batches import Data
from ..distribute.cluster import is_chief
from ..step.watch import Measured, Watch
from ..support.errors import call_each
from . import arguments
from .arguments import HParam
from .content import Content
from .graph import Graph
from .hyperparameters import HyperParameters
from .images import Images
from .layout import Layout
from .log_writer import LogWriter
from .measured import MeasuredValues
from .profile import Profile
from .scalars import Scalars, numeric_logs
from .speed import Speed
from .texts import Texts


class TensorBoard(LogWriter, StepsCallback):
    """Writes what TensorBoard shows of a run of `train`, or of a loop of one's own (see `write`).

    A thread writes the files while training goes on; they are complete when training ends. Three runs appear
    under `log_dir`. `steps` has, by number of the step, from 1:

        step/NAME                       each step's own loss, metrics, and what it gave to `loops.record`
        rate/GROUP                      the learning rate of a group of the optimizer's plan
        grad_norm/GROUP, grad_norm/all  norm of the gradients: of all replicas, not scaled, not clipped
        clipped/all                     1 if the gradients were clipped, else 0
        weight_norm/GROUP               norm of the weights before the step
        update_ratio/GROUP              norm of the change of the weights, divided by `weight_norm`
        skipped/all                     share of steps skipped since the last watched step
        loss_scale/all                  where the optimizer has one
        activation_mean/LAYER           mean of the outputs of a layer; activation_std/LAYER: their deviation
        dead_units/LAYER                share of its units whose output is 0 for every example
        speed/steps_per_s               of the steps since the last watched one of this epoch
        speed/examples_per_s            the same in examples, of all replicas
        speed/waiting_for_data          share of this step's time spent waiting for its batch, 0 to 1; too low
                                        where a batch takes less than a millisecond, as data is read ahead
                                        in the pause before a call
        memory/GPU:0_peak               peak memory in use so far, in bytes, for each GPU
        weights/NAME, gradients/NAME    histograms of a variable and of its gradient

    All but the first are of watched steps alone. An optimizer without a plan is one group, `all`; a frozen
    group writes no points. `train` and `validation` have, by number of the epoch, from 1:

        epoch/NAME                      means over the epoch, and in `train` its `learning_rate`
        images/NAME                     pictures, if asked for
        run/NAME                        texts: command line, versions, settings, plan, variables

    and `train` has the graph and the charts of Custom Scalars: all groups of a quantity in one.

    Steps have their own run because TensorBoard follows only one growing file in each run.

    **A run that resumes** goes on in the same folder. Events of its first step and later ones that are
    already there are removed, so each step is shown once. A new run, which begins at step 1 in a folder with
    logs (such as with `resume=False`), replaces the earlier one, with a warning; the earlier files stay,
    renamed.

    **One run at a time** may write to a folder. A lock, which ends with its process, refuses a run of another
    process, or of another computer if the file system has locks. There are no locks on `gs://` and similar,
    and on Windows: there, the events of two runs in one folder are mixed.

    Args:
        log_dir: folder of the logs, on any file system that TensorFlow writes to; created when training
            begins.
        every_steps: writes `step/NAME` of the steps whose number is a multiple of it.
        watch: for what norms and rates are measured: "groups", "variables" (a tag for each variable, by its
            name), a filter of the variables as `optim.select` takes it, or None for nothing.
        watch_every: the steps whose number is a multiple of it are watched; others cost nothing. A watched
            step is a call of its own, which costs some milliseconds: for shorter steps, use a larger number.
        histograms: a filter of the variables for histograms; None for none.
        histograms_every: as `watch_every`, for these.
        activations: a filter of the layers whose outputs are measured; None for none.
        images: how many examples to draw after each epoch, with true and predicted class; as many of those
            with the largest loss, the confusion matrix and the filters of the first convolution are drawn,
            too. The examples are the first 100 batches of the validation data or, without it, of the training
            data (of a `Batches`, in the order of its first epoch). They are evaluated once more for this,
            which changes nothing in the run. Values of 0 to 1, 0 to 255 or -1 to 1 are drawn as they are,
            others stretched, each channel from its lowest to its highest value. 0 for none.
        graph: whether to write the traced graph of the step, without its large constants.
        profile: numbers of the first and the last step to profile; each of these runs in a call of its own.
            None for none. To see it, `pip install tensorboard-plugin-profile`.
        hparams: hyperparameters, names to numbers, strings and bools, by which runs compare in the tab
            HParams, with the logs of the last epoch; written into a run `hparams`. None for none.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an empty `log_dir`, a number below 1; when training begins, a `log_dir` that
            cannot be written, or that another run writes to, and `images` with inputs that are not images.
        RuntimeError: another profiler is running when `profile` begins.
        SelectionError: when training begins, a filter that matches nothing.

    Example:
        >>> import os, tempfile, keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> data, folder = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), 4), tempfile.mkdtemp()
        >>> board = loops.TensorBoard(folder)
        >>> step = loops.TrainStep(model, "mse", "sgd")
        >>> _ = loops.train(step, data, epochs=2, validation=data, callbacks=[board])
        >>> sorted(os.listdir(folder))
        ['steps', 'train', 'validation']
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        every_steps: int = 1,
        *,
        watch: str | FilterLike | None = "groups",
        watch_every: int = 10,
        histograms: FilterLike | None = None,
        histograms_every: int = 1000,
        activations: FilterLike | None = None,
        images: int = 0,
        graph: bool = True,
        profile: tuple[int, int] | None = None,
        hparams: Mapping[str, HParam] | None = None,
    ) -> None:
        super().__init__(arguments.folder("log_dir", log_dir))
        every_steps = whole_number("every_steps", every_steps, at_least=1)
        self._watch = Watch(
            arguments.filter_or_none("watch", watch, words='"groups", "variables", '),
            whole_number("watch_every", watch_every, at_least=1),
            arguments.filter_or_none("histograms", histograms),
            whole_number("histograms_every", histograms_every, at_least=1),
            arguments.filter_or_none("activations", activations),
        )
        images = whole_number("images", images, at_least=0)
        graph = true_or_false("graph", graph)
        steps = arguments.step_range("profile", profile)
        hparams = arguments.hyperparameters("hparams", hparams)
        self._contents: list[Content] = [
            Scalars(every_steps),
            MeasuredValues(),
            Speed(),
            Texts(),
            Layout(),
            *([Graph()] if graph else []),
            *([Images(images)] if images else []),
            *([HyperParameters(hparams)] if hparams else []),
            *([Profile(*steps)] if steps else []),
        ]
        self.data: Data | None = None
        self.validation: Data | None = None
        self.failed = False
        self._in_session = self._warned_of_logs = False

    def watch(self) -> Watch | None:
        watch = self._watch
        nothing = watch.variables is None and watch.histograms is None and watch.activations is None
        return None if nothing else watch

    def steps_allowed(self, done: int) -> int | None:
        limits = [content.steps_allowed(done) for content in self._contents]
        return min((limit for limit in limits if limit is not None), default=None)

    def set_data(self, data: Data, validation: Data | None) -> None:
        self.data, self.validation = data, validation

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.failed = False
        if not is_chief():
            return
        self._open()
        try:
            self.files.buffer()
            self._call_contents("on_train_begin")
        except BaseException as error:
            call_each([self.files.close], error)
            raise

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.files.is_open and not self._in_session:
            if self.train_step is None:
                self.close()
                raise ValueError(
                    "`TensorBoard` writes what a `loops.TrainStep` does, and has none: pass it to "
                    "`loops.train`. With `keras.Model.fit`, use `keras.callbacks.TensorBoard`; in your own "
                    "loop, call `write`."
                )
            self._in_session = True
            step = int(self.train_step.batches_done.numpy()) + 1
            if step == 1 and self.files.has_earlier_logs:
                warnings.warn(
                    f"`log_dir` {self.log_dir!r} holds the logs of an earlier run: TensorBoard shows this "
                    'one\'s in their place, and their files have "earlier" in their names now. To see both, '
                    "choose another folder.",
                    stacklevel=2,
                )
            first = {"steps": step, "train": epoch + 1, "validation": epoch + 1}
            self.files.resumes = self.files.resumes and step > 1
            self.files.start_session(first, replaces=step == 1 and self.files.has_earlier_logs)
            self._call_contents("on_session_begin", step, epoch + 1)

    def on_train_steps_end(self, first: int, values: dict[str, Array]) -> None:
        self._call_contents("on_steps", first, values)

    def on_measured(self, number: int, measured: Measured) -> None:
        self._call_contents("on_measured", number, measured)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        numbers = numeric_logs(logs or {}, "" if self._warned_of_logs else f"epoch {epoch + 1}")
        self._warned_of_logs = self._warned_of_logs or len(numbers) < len(logs or {})
        self._call_contents("on_epoch_end", epoch + 1, numbers)
        self.files.flush(wait=False)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        contents, self._in_session = self._contents if self._in_session else [], False
        endings = [functools.partial(content.on_train_end, self, logs or {}) for content in contents]
        call_each([*endings, self.files.close])

    def on_train_failed(self, logs: dict[str, float] | None = None) -> None:
        self.failed = True
        self.on_train_end(logs)

    def state(self) -> Json:
        """Called when a checkpoint is written: flushes the logs of the steps that the checkpoint holds.

        Otherwise a run that is killed afterwards and resumes from the checkpoint would lack these logs.
        """
        self.files.flush(wait=True)
        return {}

    def set_state(self, state: Json) -> None:
        """Called when a run resumes, with what `state` returned."""
        self.files.resumes = True

    def _call_contents(self, hook: str, *values: Any) -> None:
        if self.files.is_open:
            for content in self._contents:
                getattr(content, hook)(self, *values)
