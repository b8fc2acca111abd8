"""What waits for a batch: a bounded queue, and threads that carry runs to TensorFlow's scheduler, several at a time."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_seqattn.serving.models.servable import Array, RunResult

__all__ = ["BatchQueue", "BatchRun", "QueueIsFull", "WaitedTooLong"]

_LOG = logging.getLogger(__name__)
_MAX_THREADS = 128  # of a queue; they are started when they are needed


class QueueIsFull(Exception):
    """So many rows wait already that these are refused at once."""


class WaitedTooLong(Exception):
    """The deadline passed before the run's turn came."""


@dataclass(eq=False)
class BatchRun:
    """One request for a batch.

    Args:
        inputs: arrays by name, each with a row for each row of the others.
        rows: how many.
        outputs: names of those that are wanted.
        done: called once, in some thread, with the outputs by name or with what went wrong.
        deadline: in seconds of `time.monotonic`; no batch is begun for it later.
    """

    inputs: Mapping[str, Array]
    rows: int
    outputs: Sequence[str]
    done: Callable[[RunResult], None]
    deadline: float = math.inf
    shapes: tuple[tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.shapes = tuple(array.shape[1:] for array in self.inputs.values())


Carry = Callable[[Mapping[str, Array], Sequence[str], float], Mapping[str, Array]]
"""Gives the named outputs of inputs; the last argument is the deadline."""


class BatchQueue:
    """Runs of one signature on their way into TensorFlow's batching op.

    The op keeps a run in its queue whatever its deadline, and cancels a whole batch with the run that came last. So the
    op gets only what its threads can take up next; the rest waits here, where it can still be dropped, and what is in
    the op may last until the latest deadline of all that is in it. A thread carries all the runs that wait and fit in a
    batch with each other as one: waking a thread for each would cost more than a small model does.

    Args:
        carry: gives the outputs of the rows of one or several runs; called in threads of the queue.
        capacity: rows that may be carried at once; a run of more goes alone.
        max_waiting: rows that may wait.
        max_joined: rows that are carried as one; 0 carries each run by itself.
    """

    def __init__(self, carry: Carry, capacity: int, max_waiting: int, max_joined: int) -> None:
        self._carry = carry
        self._capacity = capacity
        self._max_waiting = max_waiting
        self._max_joined = max_joined
        self._has_work = threading.Condition()
        self._waiting: deque[BatchRun] = deque()
        self._rows_waiting = self._rows_inside = 0
        self._deadlines: list[float] = []  # of what is inside
        self._num_threads = self._num_idle = 0
        self._is_closed = False

    @property
    def depth(self) -> int:
        """Rows that wait or are being carried."""
        return self._rows_waiting + self._rows_inside

    def submit(self, run: BatchRun) -> None:
        """Lets a run wait for its turn, in the order of arrival.

        Raises: `QueueIsFull`.
        """
        with self._has_work:
            enters = not self._waiting and self._fits(run)
            if not enters and self._rows_waiting + run.rows > self._max_waiting:
                raise QueueIsFull
            self._waiting.append(run)
            self._rows_waiting += run.rows
            if enters:
                self._wake()

    def withdraw(self, run: BatchRun) -> bool:
        """Takes a run back whose turn has not come; False when it has. Its `done` will not be called then."""
        with self._has_work:
            if run not in self._waiting:
                return False
            self._waiting.remove(run)
            self._rows_waiting -= run.rows
            self._wake()  # it may have stood before a smaller one
            return True

    def close(self) -> None:
        """Ends the threads. Nothing may wait or be carried."""
        with self._has_work:
            self._is_closed = True
            self._has_work.notify_all()

    def _fits(self, run: BatchRun) -> bool:
        return self._rows_inside == 0 or self._rows_inside + run.rows <= self._capacity

    def _wake(self) -> None:
        """Sees to it that a thread takes up what is first; the lock is held."""
        if self._waiting and self._fits(self._waiting[0]):
            if self._num_idle:
                self._has_work.notify()
            elif self._num_threads < min(self._capacity, _MAX_THREADS):
                self._num_threads += 1
                threading.Thread(target=self._work, name="batch", daemon=True).start()

    def _work(self) -> None:
        """What a thread does: takes up what waits, again and again."""
        while True:
            with self._has_work:
                self._num_idle += 1
                while not self._is_closed and not (self._waiting and self._fits(self._waiting[0])):
                    self._has_work.wait()
                self._num_idle -= 1
                if self._is_closed:
                    return
                runs, rows, deadline = self._enter()
                self._wake()  # for what could not be joined
            self._run_joined(runs, deadline)
            with self._has_work:
                self._rows_inside -= rows
                for run in runs:
                    self._deadlines.remove(run.deadline)

    def _enter(self) -> tuple[list[BatchRun], int, float]:
        """What goes in now, as one: runs, their rows, and the latest deadline of all that are inside."""
        runs = [self._pop()]
        rows = runs[0].rows
        while self._waiting:
            other = self._waiting[0]
            if rows + other.rows > self._max_joined or other.shapes != runs[0].shapes:
                break
            if self._rows_inside + rows + other.rows > self._capacity:
                break
            runs.append(self._pop())
            rows += other.rows
        self._rows_inside += rows
        self._deadlines.extend(run.deadline for run in runs)
        return runs, rows, max(self._deadlines)

    def _pop(self) -> BatchRun:
        run = self._waiting.popleft()
        self._rows_waiting -= run.rows
        return run

    def _run_joined(self, runs: Sequence[BatchRun], deadline: float) -> None:
        now = time.monotonic()
        for run in runs:
            if run.deadline <= now:
                _tell(run, WaitedTooLong())
        runs = [run for run in runs if run.deadline > now]
        if not runs:
            return
        outputs = list(dict.fromkeys(name for run in runs for name in run.outputs))
        try:
            inputs = runs[0].inputs
            if len(runs) > 1:
                inputs = {name: np.concatenate([run.inputs[name] for run in runs]) for name in inputs}
            results = self._carry(inputs, outputs, deadline)
        except Exception as error:
            for run in runs:
                _tell(run, error)
            return
        first = 0
        for run in runs:
            own = slice(first, first + run.rows)
            _tell(run, {name: results[name][own] for name in run.outputs})
            first += run.rows


def _tell(run: BatchRun, result: RunResult) -> None:
    try:
        run.done(result)
    except Exception:  # whoever asked must not stop the others
        _LOG.exception("The result of a run could not be handed over.")
