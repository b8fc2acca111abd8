"""Loads a server from this process, in two ways.

Closed loop: each client asks when it has its answer. Open loop: requests come at their times, whatever the server does,
and a late answer is late from when its request was due.
"""

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Outcome:
    """What became of the requests.

    Attributes:
        seconds: latency of each that was answered rightly.
        refused: how many the server refused at once, for want of room (429 or 503).
        wrong: answers that were not the expected ones, lost requests among them; the first few of them.
        wall_seconds: how long it took in all.
    """

    seconds: list = field(default_factory=list)
    refused: int = 0
    wrong: list = field(default_factory=list)
    wall_seconds: float = 0.0

    @property
    def rate(self):
        """Right answers a second."""
        return len(self.seconds) / self.wall_seconds

    def percentile(self, share):
        """Latency in ms that a share of the requests stays under."""
        return float(np.percentile(self.seconds, 100 * share)) * 1e3 if self.seconds else float("nan")


class Connection(asyncio.Protocol):
    """One keep-alive connection; as little HTTP as it needs, so that the load leaves the cores to the server."""

    def __init__(self):
        self.buffer = b""
        self.waiting = None
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(error or ConnectionResetError("closed by the server"))

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.index(b"content-length:") + len(b"content-length:")
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(self.buffer) >= end + 4 + length:
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self.waiting.set_result((int(head[9:12]), body))

    async def ask(self, request):
        """(status, body) of one request."""
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.waiting


def http_request(path, body, host="localhost"):
    """The bytes of a POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def connect(port, count):
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)]


def judge(outcome, status, body, is_right, seconds):
    if status in (429, 503):
        outcome.refused += 1
    elif status == 200 and is_right(body):
        outcome.seconds.append(seconds)
    elif len(outcome.wrong) < 1000:
        outcome.wrong.append((status, body[:200]))


def closed_loop(port, requests, clients, seconds=None, count=None):
    """Each of `clients` connections asks `requests` in turn, for so many seconds, or `count` times in all.

    Args:
        requests: (bytes of a request, is_right(body of the answer)) each.
    """

    async def run():
        outcome, connections = Outcome(), await connect(port, clients)
        began = time.perf_counter()
        asked = iter(range(count)) if count is not None else None

        async def client(connection, offset):
            turn = offset
            while next(asked, None) is not None if asked is not None else time.perf_counter() - began < seconds:
                request, is_right = requests[turn % len(requests)]
                turn += clients
                sent = time.perf_counter()
                try:
                    status, body = await connection.ask(request)
                except OSError as error:
                    outcome.wrong.append((0, repr(error).encode()))
                    return
                judge(outcome, status, body, is_right, time.perf_counter() - sent)

        await asyncio.gather(*(client(connection, i) for i, connection in enumerate(connections)))
        outcome.wall_seconds = time.perf_counter() - began
        for connection in connections:
            connection.transport.close()
        return outcome

    return asyncio.run(run())


def open_loop(port, requests, rate, seconds, clients=256, seed=0):
    """Requests at the times of a Poisson process of `rate` a second, on up to `clients` connections."""

    async def run():
        outcome, free = Outcome(), asyncio.Queue()
        for connection in await connect(port, clients):
            free.put_nowait(connection)
        rng = np.random.default_rng(seed)
        due_times = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
        began = time.perf_counter()

        async def one(due, request, is_right):
            connection = await free.get()
            try:
                status, body = await connection.ask(request)
            except OSError as error:
                outcome.wrong.append((0, repr(error).encode()))
                return
            judge(outcome, status, body, is_right, time.perf_counter() - began - due)
            free.put_nowait(connection)

        tasks = []
        for i, due in enumerate(due_times):
            delay = due - (time.perf_counter() - began)
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.append(asyncio.create_task(one(due, *requests[i % len(requests)])))
        await asyncio.gather(*tasks)
        outcome.wall_seconds = time.perf_counter() - began
        return outcome

    return asyncio.run(run())
