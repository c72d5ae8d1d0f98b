"""TensorFlow's private names and error texts that `loops` relies on are still as it expects them."""

import contextlib
import inspect
import logging

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute import mirrored_run
from tensorflow.python.eager import context

from gradloop.loops.support import tensorflow_private

pytestmark = pytest.mark.versions


def add_one():
    return float(tf.function(lambda x: x + 1.0)(1.0))


def test_tensorflow_offers_one_thread():
    with tensorflow_private.single_threaded():
        assert context.context().function_call_options.executor_type == "SINGLE_THREADED_EXECUTOR"
        assert add_one() == 2.0


def test_where_it_does_not_the_default_runs(monkeypatch):
    monkeypatch.delattr(context, "function_executor_type")
    with tensorflow_private.single_threaded():
        assert add_one() == 2.0


def caught(function):
    with pytest.raises(tf.errors.OpError) as error:
        function()
    return error.value


def test_a_missing_batch_is_told_from_other_errors():
    iterator = iter(tf.data.Dataset.range(0))
    error = caught(tf.function(lambda: iterator.get_next_as_optional().get_value()))
    assert tensorflow_private.is_missing_batch(error)
    assert not tensorflow_private.is_missing_batch(caught(lambda: tf.debugging.check_numerics(np.nan, "x")))


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_out_of_range(label):
    def loss(labels):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=tf.zeros([1, 2]))

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("on a GPU the loss is NaN")
    error = caught(lambda: loss([label]))
    assert tensorflow_private.label_out_of_range(error) == str(label)
    assert tensorflow_private.label_out_of_range(ValueError("another")) is None


def test_why_an_iterator_is_not_saved(tmp_path):
    data = tf.data.Dataset.from_generator(lambda: range(3), output_signature=tf.TensorSpec([], tf.int64))
    saved = tf.train.Checkpoint(iterator=iter(data))
    reason = tensorflow_private.iterator_not_saved(caught(lambda: saved.write(str(tmp_path / "iterator"))))
    assert reason is not None and "stateful" in reason and "{{" not in reason and "[Op:" not in reason
    assert (
        tensorflow_private.iterator_not_saved(tf.errors.FailedPreconditionError(None, None, "full")) is None
    )


def test_whether_a_function_reads_a_variable():
    one, other, told = tf.Variable(1.0), tf.Variable(2.0), []
    inner = tf.function(lambda: one * 2.0)

    def body(step):
        inner()
        told.append([tensorflow_private.reads_variable(variable) for variable in (one, other)])
        return step + 1

    tf.function(lambda: tf.while_loop(lambda step: step < 2, body, [0]))()
    assert told == [[True, False]]
    assert tensorflow_private.reads_variable(other)  # nobody knows outside of a function


def test_the_length_of_an_iterators_dataset():
    data = tf.data.Dataset.range(3)
    lengths = [
        tensorflow_private.length_of(iter(d)) for d in (data, data.repeat(), data.filter(lambda _: True))
    ]
    assert lengths == [3, None, None]


def test_operations_wait_for_others_made_later():
    with tf.Graph().as_default():
        batch = tf.constant([1.0])
        doubled = batch * 2.0
        after = tf.no_op()
        tensorflow_private.run_before([after], [batch])
        assert doubled.op.control_inputs == [after]
        tensorflow_private.run_before([], [batch])


def test_replicas_outside_of_a_function_are_not_advised():
    advice = "eagerly has significant"
    assert advice in inspect.getsource(mirrored_run)  # which says it five times in a process
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    tf.get_logger().addHandler(handler)
    try:
        for quiet in (True, False):
            with tensorflow_private.eager_replicas() if quiet else contextlib.nullcontext():
                tf.get_logger().warning(f"Using MirroredStrategy {advice}")
                tf.get_logger().warning("other")
    finally:
        tf.get_logger().removeHandler(handler)
    assert told == ["other", f"Using MirroredStrategy {advice}", "other"]


def test_conditions_of_tensors_are_converted_where_the_caller_is_not():
    def step(x):
        if x > 0:
            x = x * 2.0
        return x

    converted = tensorflow_private.with_autograph(step)
    assert float(tf.function(lambda x: converted(x), autograph=False)(tf.constant(3.0))) == 6.0


def test_what_is_not_to_be_converted_keeps_its_name_and_sees_tensors():
    @tensorflow_private.without_autograph
    def told(x):
        """Says whether it is a tensor."""
        return tf.constant(tf.is_tensor(x))

    assert told.__name__ == "told" and told.__doc__
    assert bool(tf.function(lambda x: told(x))(1.0 + tf.constant(1.0)))


def test_a_dataset_of_none_says_so():
    specs = tf.data.Dataset.from_tensor_slices((([1], None), [2])).batch(1).element_spec
    is_none = [tensorflow_private.is_spec_of_none(spec) for spec in tf.nest.flatten(specs)]
    assert is_none == [False, True, False]
    assert not tensorflow_private.is_spec_of_none(None)


def test_what_is_traced_for_what():
    ragged = tf.ragged.constant([[1], [2, 3]])
    assert tensorflow_private.spec_of(tf.ones([2])) == tf.TensorSpec([2], tf.float32)
    assert tensorflow_private.spec_of(ragged) == tf.RaggedTensorSpec.from_value(ragged)
    assert [tensorflow_private.spec_of(value) for value in (tf.Variable(1.0), 1.0, None, "a")] == [None] * 4


def test_variables_of_a_graph_that_never_runs_are_there():
    before = tf.Variable(1.0)
    with tensorflow_private.scratch_graph():
        made = tf.Variable(lambda: tf.constant(2.0))
        before.assign(5.0)
        made.assign(6.0)
    assert [float(before), float(made)] == [1.0, 2.0]


def test_errors_about_summaries(tmp_path):
    def write():
        tf.summary.scalar("a", 1.0)
        return tf.constant(1.0)

    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        with pytest.raises(ValueError) as without_step:
            tf.function(write)()
        tf.summary.experimental.set_step(tf.Variable(1, dtype=tf.int64))
        try:
            under_xla = caught(tf.function(write, jit_compile=True))
        finally:
            tf.summary.experimental.set_step(None)
    found = [
        (tensorflow_private.lacks_summary_step(error), tensorflow_private.is_summary_for_xla(error))
        for error in (without_step.value, under_xla)
    ]
    assert found == [(True, False), (False, True)]


def test_summaries_are_seen_in_functions_with_and_without_a_writer(tmp_path):
    @tf.function
    def write():
        tf.summary.scalar("a", 1.0, step=1)

    def loop(body):
        return tf.while_loop(lambda i: i < 2, body, [0])

    def writing(i):
        write()
        return i + 1

    for writer in (None, tf.summary.create_file_writer(str(tmp_path))):
        with contextlib.nullcontext() if writer is None else writer.as_default():
            assert tensorflow_private.default_summary_writer() is writer
            with tf.summary.record_if(False):
                assert tensorflow_private.default_summary_writer() is None
            for body, calls in ((writing, True), (lambda i: i + 1, False)):
                traced = tf.function(loop).get_concrete_function(body)
                assert tensorflow_private.calls_summary(traced) == calls


def test_a_traced_function_takes_arguments_without_a_look_at_them(monkeypatch):
    total = tf.Variable(0.0)

    def add(data, iterator):
        total.assign_add(data["a"][0] + data["b"][1] * next(iterator))
        return {"b": data["b"][1], "a": total.read_value()}

    data = {"b": (None, tf.constant(3.0)), "a": (tf.constant(1.0), None)}
    iterator = iter(tf.data.Dataset.from_tensors(2.0).repeat())
    specs = tf.nest.map_structure(lambda leaf: leaf if leaf is None else tf.TensorSpec([]), data)
    traced = tf.function(add, autograph=False).get_concrete_function(
        specs, tf.data.IteratorSpec(tf.TensorSpec([]))
    )
    monkeypatch.setattr(type(traced), "__call__", lambda *_: pytest.fail("it looked"))
    found = tensorflow_private.call_traced(traced, data, iterator)
    assert (float(found["a"]), float(found["b"]), float(total)) == (7.0, 3.0, 7.0)
    assert tensorflow_private.call_traced(lambda one, other: one + other, 1, 2) == 3
