"""A log of requests: one line of JSON each, written by a thread of its own so that no request waits for a disk."""

import json
import logging
import os
import queue
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from keras_seqattn.serving.monitoring.record import RequestRecord

__all__ = ["AccessLog"]

_LOG = logging.getLogger(__name__)
_MAX_LINES_A_WRITE = 1000
_CLOSE_SECONDS = 10  # a pipe that nobody reads must not keep the server from ending


class AccessLog:
    """Writes a line for each request.

    A line has `time` (UTC, ISO 8601, milliseconds; when the answer was complete), `entrypoint`, `api`, `model`,
    `version`, `signature`, `code`, `status` (of a REST reply the HTTP status, of a gRPC one the number of its code),
    `latency_ms`, `bytes_in`, `bytes_out`, `num_examples` and `peer`. What is unknown is null. When lines come faster
    than they can be written, or cannot be written, they are lost; a later line then has `time` and their number as
    `lost_lines`.

    Args:
        target: a text stream, which stays open, or a file, to which lines are added.
        max_waiting_lines: of which further ones are lost.
    """

    def __init__(self, target: TextIO | str | os.PathLike[str], *, max_waiting_lines: int = 10_000) -> None:
        self._owned: TextIO | None = None
        if isinstance(target, str | os.PathLike):
            self._owned = open(target, "a", encoding="utf-8")  # noqa: SIM115
        self._stream: TextIO = self._owned or target  # type: ignore[assignment]
        self._max_waiting_lines = max_waiting_lines
        self._waiting: queue.SimpleQueue[tuple[float, RequestRecord] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_lost = 0
        self._num_told = 0
        self._is_broken = False
        self._is_closed = False
        self._writer = threading.Thread(target=self._write_until_closed, name="access-log", daemon=True)
        self._writer.start()

    @property
    def num_lost(self) -> int:
        """Lines lost so far."""
        return self._num_lost

    def on_request(self, record: RequestRecord) -> None:
        """Takes one answered request; returns at once, from any thread."""
        if self._is_closed or self._waiting.qsize() >= self._max_waiting_lines:
            self._lose(1)
        else:
            self._waiting.put((time.time(), record))

    def close(self) -> None:
        """Writes what waits, for ten seconds at most."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._waiting.put(None)
        self._writer.join(_CLOSE_SECONDS)
        if self._owned is not None and not self._writer.is_alive():
            self._owned.close()

    def __enter__(self) -> "AccessLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _lose(self, number: int) -> None:
        with self._lock:
            self._num_lost += number

    def _write_until_closed(self) -> None:
        is_open = True
        while is_open:
            taken = [self._waiting.get()]
            while not self._waiting.empty() and len(taken) < _MAX_LINES_A_WRITE:
                taken.append(self._waiting.get())
            is_open = None not in taken
            self._write([_line(*one) for one in taken if one is not None])

    def _write(self, lines: list[str]) -> None:
        num_lost = self._num_lost
        if num_lost > self._num_told:
            lines.append(_json({"time": _iso(time.time()), "lost_lines": num_lost - self._num_told}))
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except (OSError, ValueError) as error:  # a full disk, a closed pipe or stream
            self._lose(len(lines) - (num_lost > self._num_told))
            if not self._is_broken:
                _LOG.error("The access log cannot be written: %s", error)
            self._is_broken = True
            return
        if num_lost > self._num_told:
            _LOG.warning("The access log lost %d lines.", num_lost - self._num_told)
        self._num_told, self._is_broken = num_lost, False


def _line(seconds: float, record: RequestRecord) -> str:
    return _json(
        {
            "time": _iso(seconds),
            "entrypoint": record.entrypoint,
            "api": record.api,
            "model": record.model,
            "version": record.version,
            "signature": record.signature,
            "code": record.code.name,
            "status": record.code.http_status if record.entrypoint == "REST" else int(record.code),
            "latency_ms": round(record.seconds * 1000, 3),
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "num_examples": record.num_examples,
            "peer": record.peer or None,
        }
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(values: dict[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False)  # a line break in a name is escaped all the same
    return text.encode("utf-8", "replace").decode() + "\n"  # names in URLs may be no UTF-8
