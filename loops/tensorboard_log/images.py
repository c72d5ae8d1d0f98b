"""Pictures for the tab Images: examples, the worst mistakes, the confusion matrix, first-layer filters."""

from __future__ import annotations

import keras

from ...optim.common.types import Array
from ...optim.naming.stable_names import tree_of
from ..data.batches import Batches
from ..data.without_side_effects import without_side_effects
from ..distribute.scope import scope_of
from .content import Board, Content
from .evaluation import Evaluation, evaluate_examples, examples_picture, matrix_picture
from .event_writer import EventWriter
from .examples import Predictor, check_images
from .pictures import Scale, filters_picture, png
from .values import Value, image_value

MAX_BATCHES = 100


class Images(Content):
    """`images/examples`, `images/worst`, `images/confusion` and `images/filters`, after each epoch.

    They show the first `MAX_BATCHES` batches of the validation data, in the run `validation`, or without it
    of the training data, in `train`; the same batches each time. The run does not change: neither its
    position in the data, nor random numbers, nor the state of layers and metrics. `count` examples are drawn,
    and the `count` with the largest loss.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def on_train_begin(self, board: Board) -> None:
        name, data = ("data", board.data) if board.validation is None else ("validation", board.validation)
        self._run = "train" if name == "data" else "validation"
        board.train_step.loss_and_metrics.check_evaluates()
        self._batches = without_side_effects(data, name)
        check_images(next(iter(self._batches)) if isinstance(data, Batches) else data.element_spec, name)
        self._predictor = Predictor(board.train_step.loss_and_metrics, name)
        self._scale: Scale | None = None

    def on_epoch_end(self, board: Board, epoch: int, logs: dict[str, float]) -> None:
        step = board.train_step
        with scope_of(step.strategy):
            examples = self._predictor.read(self._batches, MAX_BATCHES)
            evaluation = evaluate_examples(examples, self._count, _outputs_logit(step.loss, step.model))
        if evaluation.first is not None and self._scale is None:
            self._scale = Scale.of(evaluation.first.images)  # the same each time, so that pictures compare
        scale, kernel = self._scale, _first_kernel(step.model)

        def write(file: EventWriter) -> None:  # in the background thread, as drawing is slow
            file.write_values(epoch, _values(evaluation, scale, kernel, self._run))

        board.files.submit(self._run, epoch, write)


def _values(
    evaluation: Evaluation, scale: Scale | None, kernel: tuple[str, Array] | None, run: str
) -> list[Value]:
    of = f"of the {'training' if run == 'train' else 'validation'} data"
    caption = "Under each: true class > predicted class, if another, and its share. Green is right, red "
    caption += "wrong."
    values = []
    if evaluation.first is not None and scale is not None:
        picture = examples_picture(evaluation.first, scale, evaluation.logits)
        values.append(_value("examples", picture, f"The first {of}. {caption} {scale.description}"))
        if evaluation.worst is not None:
            picture = examples_picture(evaluation.worst, scale, evaluation.logits)
            words = f"Those with the largest loss, of {evaluation.read} {of}. {caption}"
            values.append(_value("worst", picture, words))
    if evaluation.counts is not None:
        picture, words = matrix_picture(evaluation.counts)
        values.append(_value("confusion", picture, f"{words} Of {evaluation.read} {of}."))
    if kernel is not None:
        name, numbers = kernel
        words = f"The kernel of `{name}`, {numbers.shape}: grey is 0, the largest weight is black or white."
        values.append(_value("filters", filters_picture(numbers), words))
    return values


def _value(name: str, picture: Array, description: str) -> Value:
    height, width, _ = picture.shape
    return image_value(f"images/{name}", [png(picture)], width, height, description)


def _first_kernel(model: keras.Model) -> tuple[str, Array] | None:
    """Name and kernel of the model's first convolution, (height, width, inputs, filters)."""
    for node in tree_of(model).nodes:
        if isinstance(node.layer, keras.layers.Conv2D) and hasattr(node.layer, "kernel"):  # else it never ran
            return node.path, keras.ops.convert_to_numpy(node.layer.kernel)
    return None


def _outputs_logit(loss: object, model: keras.Model) -> bool:
    """Whether a single output is a logit: the loss has `from_logits`, and the model ends in no sigmoid."""
    activation = getattr(model.layers[-1], "activation", None) if model.layers else None
    return bool(getattr(loss, "from_logits", False)) and activation is not keras.activations.sigmoid
