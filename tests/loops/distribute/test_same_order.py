"""Several workers read the same batches, or are told that they do not."""

import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.distribute.same_order import OrderCheck, check_same_order

TEN = tf.data.Dataset.range(10)


class Workers:
    """Other workers whose numbers are those of this one plus `apart`."""

    def __init__(self, apart=0.0):
        self.apart, self.asked = apart, 0

    def __call__(self, number):
        self.asked += 1
        return number + self.apart


@pytest.fixture(autouse=True)
def no_global_seed():
    tf.random.set_seed(None)


def unordered():
    options = tf.data.Options()
    options.deterministic = False
    return TEN.with_options(options)


def test_one_process_may_read_in_any_order():
    for data in (TEN.shuffle(3), unordered()):
        check_same_order(data, "data", None)


@pytest.mark.parametrize(
    "data, words",
    [(TEN.shuffle, "`shuffle` without a seed"), (lambda _: unordered(), "option `deterministic")],
)
def test_no_fixed_order_is_refused(data, words):
    workers = Workers()
    with pytest.raises(
        ValueError, match=f"`validation` is a dataset in no fixed order, with .*{words}.*Seed"
    ):
        check_same_order(data(3), "validation", workers)
    assert workers.asked == 2, "the others wait for its number"


def test_an_iterator_is_asked_once():
    workers = Workers()
    order, good, bad = OrderCheck(workers), iter(TEN), iter(TEN.shuffle(3))
    for _ in range(3):
        order.check(good)
        with pytest.raises(ValueError, match="`iterator` is a dataset in no fixed order"):
            order.check(bad)
    assert workers.asked == 2 * 4
    order.check(loops.Batches([1], None, 1).iterator())
    OrderCheck(None).check(bad)


def test_seeds_that_differ_are_refused():
    check_same_order(TEN.shuffle(3, seed=1), "data", Workers())
    check_same_order(TEN, "data", Workers())
    with pytest.raises(
        ValueError, match="`data` is shuffled by other seeds on other workers.*the same `seed`"
    ):
        check_same_order(TEN.shuffle(3, seed=1), "data", Workers(apart=0.5))
