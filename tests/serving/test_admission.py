"""A bounded queue with deadlines, apart from any model."""

import math
import threading
import time

import pytest

from keras_seqattn.serving.models.admission import Admission, QueueIsFull, WaitedTooLong


def test_what_fits_goes_in_at_once() -> None:
    gate = Admission(capacity=3, max_waiting=0)
    first, _ = gate.enter(1)
    second, _ = gate.enter(2)
    assert (gate.inside, gate.waiting) == (3, 0)
    with pytest.raises(QueueIsFull):
        gate.enter(1)
    gate.leave(first, 1)
    gate.enter(1)
    gate.leave(second, 2)
    assert gate.inside == 1


def test_one_that_is_larger_than_all_goes_in_alone() -> None:
    gate = Admission(capacity=3, max_waiting=0)
    ticket, _ = gate.enter(5)
    with pytest.raises(QueueIsFull):
        gate.enter(1)
    gate.leave(ticket, 5)
    assert gate.inside == 0


def test_turns_come_in_the_order_of_arrival() -> None:
    gate = Admission(capacity=2, max_waiting=10)
    ticket, _ = gate.enter(2)
    order: list[int] = []

    def come(size: int) -> None:
        own, _ = gate.enter(size)
        order.append(size)
        time.sleep(0.02)
        gate.leave(own, size)

    threads = [threading.Thread(target=come, args=(size,)) for size in (2, 1, 2)]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        while len(gate._waiters) < number:
            time.sleep(0.001)
    gate.leave(ticket, 2)
    for thread in threads:
        thread.join()
    assert order == [2, 1, 2]
    assert (gate.inside, gate.waiting) == (0, 0)


def test_who_waits_too_long_leaves_and_lets_the_next_in() -> None:
    gate = Admission(capacity=3, max_waiting=10)
    ticket, _ = gate.enter(2)
    small = threading.Thread(target=lambda: gate.leave(gate.enter(1)[0], 1))
    started = time.monotonic()
    gave_up: list[bool] = []

    def give_up() -> None:
        with pytest.raises(WaitedTooLong):
            gate.enter(2, time.monotonic() + 0.1)
        gave_up.append(True)

    waiting = threading.Thread(target=give_up)
    waiting.start()
    while gate.waiting < 2:
        time.sleep(0.001)
    small.start()  # would fit, but stands behind
    waiting.join()
    small.join()
    assert gave_up == [True]
    assert 0.09 < time.monotonic() - started < 5
    assert (gate.inside, gate.waiting) == (2, 0)
    gate.leave(ticket, 2)


def test_the_latest_deadline_inside_is_told() -> None:
    gate = Admission(capacity=9, max_waiting=0)
    assert gate.enter(1, 50.0)[1] == 50
    late, last = gate.enter(1, 70.0)
    assert last == 70
    assert gate.enter(1, 60.0)[1] == 70
    gate.leave(late, 1)
    assert gate.enter(1, 40.0)[1] == 60
    assert gate.enter(1)[1] == math.inf
