"""The queue in front of TensorFlow's batching op, apart from any model."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving.models.batch_queue import BatchQueue, BatchRun, QueueIsFull, WaitedTooLong


class Kitchen:
    """Doubles what it is given, when it is allowed to; notes what came together and until when."""

    def __init__(self) -> None:
        self.carried: list[list[float]] = []
        self.deadlines: list[float] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.queues: list[BatchQueue] = []

    def queue(self, capacity: int = 4, max_waiting: int = 100, max_joined: int = 4) -> BatchQueue:
        self.queues.append(BatchQueue(self.carry, capacity, max_waiting, max_joined))
        return self.queues[-1]

    def carry(self, inputs: Mapping[str, Any], outputs: Sequence[str], deadline: float) -> dict[str, Any]:
        self.carried.append(inputs["x"].ravel().tolist())
        self.deadlines.append(deadline)
        assert self.may_go.wait(20)
        if (inputs["x"] < 0).any():
            raise ArithmeticError("below zero")
        return {name: {"double": 2 * inputs["x"], "half": inputs["x"] / 2}[name] for name in outputs}


@pytest.fixture
def kitchen() -> Iterator[Kitchen]:
    kitchen = Kitchen()
    yield kitchen
    kitchen.may_go.set()
    for queue in kitchen.queues:
        queue.close()


class Guest:
    """One run and what came of it."""

    def __init__(
        self, *values: float, deadline: float = math.inf, outputs: Sequence[str] = ("double",), width: int = 0
    ):
        self.came = threading.Event()
        array = np.float64(values) if not width else np.repeat(np.float64(values)[:, None], width, axis=1)
        self.run = BatchRun({"x": array}, len(values), outputs, self.done, deadline)

    def done(self, result: Any) -> None:
        assert not self.came.is_set(), "a run is told once"
        self.result = result
        self.came.set()

    def wait(self) -> Any:
        assert self.came.wait(20)
        return self.result


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def busy(kitchen: Kitchen, queue: BatchQueue, *values: float, **options: Any) -> Guest:
    """A run that is inside and stays there until the kitchen may go."""
    kitchen.may_go.clear()
    guest = Guest(*values, **options)
    queue.submit(guest.run)
    until(lambda: len(kitchen.carried) == 1)
    return guest


def test_what_waits_together_is_carried_as_one_and_each_gets_its_own_rows(kitchen: Kitchen) -> None:
    queue = kitchen.queue(capacity=4)
    first = busy(kitchen, queue, 1, 2, 3, 4)
    guests = [Guest(5), Guest(6, 7), Guest(8)]
    for guest in guests:
        queue.submit(guest.run)
    assert queue.depth == 8
    kitchen.may_go.set()
    assert first.wait()["double"].tolist() == [2, 4, 6, 8]
    assert [guest.wait()["double"].tolist() for guest in guests] == [[10], [12, 14], [16]]
    assert kitchen.carried[1:] == [[5, 6, 7, 8]]
    until(lambda: queue.depth == 0)


def test_no_more_rows_are_joined_than_a_batch_holds_and_the_order_stays(kitchen: Kitchen) -> None:
    queue = kitchen.queue(capacity=5, max_joined=3)
    busy(kitchen, queue, 0, 1, 2, 3, 4)
    guests = [Guest(5, 6), Guest(7, 8), Guest(9)]
    for guest in guests:
        queue.submit(guest.run)
    kitchen.may_go.set()
    for guest in guests:
        guest.wait()
    assert sorted(kitchen.carried[1:]) == [[5, 6], [7, 8, 9]]


def test_rows_of_other_shapes_are_not_joined(kitchen: Kitchen) -> None:
    queue = kitchen.queue()
    busy(kitchen, queue, 1, 2, 3, 4)
    guests = [Guest(5), Guest(6, width=2), Guest(7)]
    for guest in guests:
        queue.submit(guest.run)
    kitchen.may_go.set()
    assert [guest.wait()["double"].tolist() for guest in guests] == [[10], [[12, 12]], [14]]


def test_each_gets_the_outputs_that_it_wants(kitchen: Kitchen) -> None:
    queue = kitchen.queue()
    busy(kitchen, queue, 1, 2, 3, 4)
    one, both = Guest(5, outputs=("half",)), Guest(6, outputs=("double", "half"))
    queue.submit(one.run)
    queue.submit(both.run)
    kitchen.may_go.set()
    assert {name: value.tolist() for name, value in one.wait().items()} == {"half": [2.5]}
    assert {name: value.tolist() for name, value in both.wait().items()} == {"double": [12], "half": [3]}


def test_a_larger_run_than_the_capacity_goes_in_alone(kitchen: Kitchen) -> None:
    queue = kitchen.queue(capacity=2)
    large = busy(kitchen, queue, 1, 2, 3)
    small = Guest(4)
    queue.submit(small.run)
    assert len(kitchen.carried) == 1
    kitchen.may_go.set()
    assert large.wait()["double"].tolist() == [2, 4, 6]
    assert small.wait()["double"].tolist() == [8]


def test_more_than_may_wait_is_refused_at_once(kitchen: Kitchen) -> None:
    queue = kitchen.queue(capacity=1, max_waiting=2)
    busy(kitchen, queue, 1)
    waiting = Guest(2, 3)
    queue.submit(waiting.run)
    refused = Guest(4)
    with pytest.raises(QueueIsFull):
        queue.submit(refused.run)
    kitchen.may_go.set()
    waiting.wait()
    assert not refused.came.is_set()


def test_a_run_taken_back_is_not_carried_and_lets_the_next_in(kitchen: Kitchen) -> None:
    queue = kitchen.queue(capacity=3)
    inside = busy(kitchen, queue, 1, 2)
    hasty, small = Guest(3, 4), Guest(5)
    queue.submit(hasty.run)
    queue.submit(small.run)  # would fit, but stands behind
    assert queue.withdraw(hasty.run)
    until(lambda: [5] in kitchen.carried)
    assert not queue.withdraw(hasty.run)
    assert not queue.withdraw(inside.run)
    kitchen.may_go.set()
    inside.wait()
    small.wait()
    assert not hasty.came.is_set()
    assert kitchen.carried == [[1, 2], [5]]


def test_what_is_late_when_its_turn_comes_is_told_so_and_not_carried(kitchen: Kitchen) -> None:
    queue = kitchen.queue(capacity=1)
    busy(kitchen, queue, 1)
    late = Guest(2, deadline=time.monotonic() + 0.02)
    queue.submit(late.run)
    time.sleep(0.05)
    kitchen.may_go.set()
    assert isinstance(late.wait(), WaitedTooLong)
    assert kitchen.carried == [[1]]


def test_what_is_inside_may_last_until_the_latest_deadline_of_all(kitchen: Kitchen) -> None:
    queue = kitchen.queue(capacity=4, max_joined=1)
    far, near = time.monotonic() + 50, time.monotonic() + 10
    patient = busy(kitchen, queue, 1, deadline=far)
    hasty = Guest(2, deadline=near)
    queue.submit(hasty.run)
    until(lambda: len(kitchen.carried) == 2)
    kitchen.may_go.set()
    patient.wait()
    hasty.wait()
    assert kitchen.deadlines == [far, far]
    until(lambda: queue.depth == 0)
    alone = Guest(3, deadline=near)
    queue.submit(alone.run)
    alone.wait()
    assert kitchen.deadlines[-1] == near


def test_an_error_is_told_to_all_that_were_carried_together_and_to_no_other(kitchen: Kitchen) -> None:
    queue = kitchen.queue()
    before = busy(kitchen, queue, 1, 2, 3, 4)
    together = [Guest(5), Guest(-6)]
    for guest in together:
        queue.submit(guest.run)
    kitchen.may_go.set()
    assert before.wait()["double"].tolist() == [2, 4, 6, 8]
    assert [str(guest.wait()) for guest in together] == ["below zero"] * 2
    after = Guest(7)
    queue.submit(after.run)
    assert after.wait()["double"].tolist() == [14]


def test_who_fails_to_take_its_result_does_not_stop_the_others(kitchen: Kitchen) -> None:
    queue = kitchen.queue()
    busy(kitchen, queue, 1, 2, 3, 4)

    def fail(_: Any) -> None:
        raise RuntimeError("the client has gone")

    gone, stays = BatchRun({"x": np.float64([5])}, 1, ("double",), fail), Guest(6)
    queue.submit(gone)
    queue.submit(stays.run)
    kitchen.may_go.set()
    assert stays.wait()["double"].tolist() == [12]
    until(lambda: queue.depth == 0)


def test_many_runs_from_many_threads_all_get_their_own_answer(kitchen: Kitchen) -> None:
    queue = kitchen.queue(capacity=16, max_waiting=10_000, max_joined=8)
    guests = [[Guest(*range(k, k + 1 + k % 3)) for k in range(100 * i, 100 * i + 100)] for i in range(8)]

    def come(mine: list[Guest]) -> None:
        for guest in mine:
            queue.submit(guest.run)

    threads = [threading.Thread(target=come, args=(mine,)) for mine in guests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for guest in (guest for mine in guests for guest in mine):
        np.testing.assert_array_equal(guest.wait()["double"], 2 * guest.run.inputs["x"])
    until(lambda: queue.depth == 0)
    assert len(kitchen.carried) < 800  # some were joined


def test_closing_ends_the_threads(kitchen: Kitchen) -> None:
    queue = kitchen.queue()
    guest = Guest(1)
    queue.submit(guest.run)
    guest.wait()
    mine = [thread for thread in threading.enumerate() if getattr(thread, "_target", None) == queue._work]
    assert mine
    queue.close()
    for thread in mine:
        thread.join(5)
        assert not thread.is_alive()
