"""A bounded queue in front of something that cannot be interrupted."""

import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field

__all__ = ["Admission", "QueueIsFull", "WaitedTooLong"]


class QueueIsFull(Exception):
    """So many wait already that one more is refused at once."""


class WaitedTooLong(Exception):
    """The deadline passed before its turn came."""


@dataclass(eq=False)
class _Waiter:
    size: int
    deadline: float
    turn: threading.Event = field(default_factory=threading.Event)


class Admission:
    """Lets in whatever fits, in the order of arrival; the rest waits outside, where a deadline can still send it away.

    Plain methods under one lock, not a context manager: this runs once a request, and Python's own time bounds how many
    requests there can be.

    Args:
        capacity: the sizes of all that are inside together; one that is larger goes in alone.
        max_waiting: the sizes of all that wait together.
    """

    def __init__(self, capacity: int, max_waiting: int) -> None:
        self._capacity = capacity
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiters: deque[_Waiter] = deque()
        self._deadlines: dict[int, float] = {}  # of those inside, by ticket
        self._last_ticket = 0
        self.inside = 0
        """The sizes of all that are inside."""
        self.waiting = 0
        """The sizes of all that wait."""

    def enter(self, size: int, deadline: float = math.inf) -> tuple[int, float]:
        """Waits for its turn. Whoever got in must `leave`.

        Args:
            size: how much of the capacity it takes.
            deadline: in seconds of `time.monotonic`.
        Returns: a ticket for `leave`, and the latest deadline of all that are inside.
        Raises: `QueueIsFull`, `WaitedTooLong`.
        """
        waiter = None
        with self._lock:
            if not self._waiters and self._fits(size):
                self.inside += size
            elif self.waiting + size > self._max_waiting:
                raise QueueIsFull
            else:
                waiter = _Waiter(size, deadline)
                self._waiters.append(waiter)
                self.waiting += size
            if waiter is None:
                return self._ticket(deadline)
        self._wait(waiter)
        with self._lock:
            return self._ticket(deadline)

    def leave(self, ticket: int, size: int) -> None:
        """Makes room for the next."""
        with self._lock:
            del self._deadlines[ticket]
            self.inside -= size
            if self._waiters:
                self._let_in()

    def _ticket(self, deadline: float) -> tuple[int, float]:
        self._last_ticket += 1
        self._deadlines[self._last_ticket] = deadline
        return self._last_ticket, max(self._deadlines.values())

    def _wait(self, waiter: _Waiter) -> None:
        if waiter.turn.wait(min(max(0.0, waiter.deadline - time.monotonic()), threading.TIMEOUT_MAX)):
            return
        with self._lock:
            if waiter.turn.is_set():  # its turn came just now
                return
            self._waiters.remove(waiter)
            self.waiting -= waiter.size
            self._let_in()  # it may have stood before a smaller one
        raise WaitedTooLong

    def _fits(self, size: int) -> bool:
        return self.inside == 0 or self.inside + size <= self._capacity

    def _let_in(self) -> None:
        while self._waiters and self._fits(self._waiters[0].size):
            waiter = self._waiters.popleft()
            self.waiting -= waiter.size
            self.inside += waiter.size
            waiter.turn.set()
