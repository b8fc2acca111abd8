"""When to ask again, and until when."""

import random
import time
from dataclasses import dataclass

from keras_seqattn.serving.client.failures import DeadlineExceeded
from keras_seqattn.serving.errors import Code, ServingError

__all__ = ["DEFAULT_RETRIES", "Deadline", "Retries"]

# The server was not reached, or was too busy. A broken connection counts as the former, although the request may have
# been computed: nothing that the client asks for changes the server.
_RETRIED = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


class Deadline:
    """A moment that all tries share.

    Args:
        timeout_seconds: from now on; None is never.
        address: of the server, for the message.
    """

    def __init__(self, timeout_seconds: float | None, address: str = "The server") -> None:
        self._timeout_seconds = timeout_seconds
        self._end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._address = address

    def seconds_left(self) -> float | None:
        """Time that is left; None is without end. Raises DeadlineExceeded when none is."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.exceeded()
        return left

    def exceeded(self) -> DeadlineExceeded:
        """The error that says so."""
        return DeadlineExceeded(f"{self._address} gave no answer in {self._timeout_seconds:g} s.")


@dataclass(frozen=True)
class Retries:
    """Exponential backoff with full jitter: each pause is drawn between zero and a limit that doubles.

    Args:
        max_attempts: tries in all; 1 tries once.
        first_pause_seconds: limit of the first pause.
        max_pause_seconds: limit of every pause.
    """

    max_attempts: int = 5
    first_pause_seconds: float = 0.1
    max_pause_seconds: float = 5.0

    def pause_seconds(self, attempt: int, error: ServingError) -> float | None:
        """How long to wait before the next try; None is to give up.

        Args:
            attempt: that failed, the first is 1.
            error: with which it failed.
        """
        if attempt >= self.max_attempts or error.code not in _RETRIED:
            return None
        return random.uniform(0.0, min(self.max_pause_seconds, self.first_pause_seconds * 2 ** (attempt - 1)))


DEFAULT_RETRIES = Retries()
