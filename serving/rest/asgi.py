"""The REST application as an ASGI app: requests are read in the event loop and answered in threads.

There are so many threads, and so many requests may wait for one; more are refused at once, and one that has waited too
long is not computed.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.optional import packages_of_extra
from keras_seqattn.serving.rest.application import Response, RestApplication, Steps, finish

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

__all__ = ["MAX_REQUEST_BYTES", "AsgiApp", "asgi_app"]

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
MAX_REQUEST_BYTES = 100 * 2**20
_SMALL_BYTES = 4096  # of a body that is read in the event loop itself, in less time than it takes to wake a thread
_BODY_SECONDS = 60  # for a body to arrive, whatever its size


class _Refused(Exception):
    """A body that is not read to its end; the connection cannot go on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def asgi_app(
    application: RestApplication,
    num_threads: int | None = None,
    pages: "Sequence[BaseRoute]" = (),
    *,
    max_request_bytes: int = MAX_REQUEST_BYTES,
    max_pending_requests: int = 1000,
    body_seconds: float = _BODY_SECONDS,
) -> AsgiApp:
    """Makes the app.

    Args:
        application: answers the requests.
        num_threads: requests answered at once; None is four for each core.
        pages: routes of other pages, such as metrics and the playground, which go before the application.
        max_request_bytes: greatest body; a longer one is answered by 413, and its connection is closed.
        max_pending_requests: how many may wait for a thread; a request beyond is answered by 503 at once.
        body_seconds: after which a body that has not come whole is answered by 408.
    """
    with packages_of_extra("serving"):
        from starlette.applications import Starlette
        from starlette.routing import Mount

    num_threads = num_threads or 4 * (os.cpu_count() or 1)
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="rest")
    outbox = _Outbox()
    most_at_once = num_threads + max_pending_requests
    at_once = 0

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        nonlocal at_once
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        peer = "{}:{}".format(*scope["client"]) if scope.get("client") else ""
        try:
            body = await _read_body(receive, headers, max_request_bytes, body_seconds)
        except _Refused as refusal:
            result = application.refuse(Code.INVALID_ARGUMENT, str(refusal), refusal.status, peer=peer)
            return await _send(result, send, closes=True)
        if body is None:  # the client has gone
            return None
        if at_once >= most_at_once:
            result = application.refuse(
                Code.UNAVAILABLE, f"The server has {most_at_once} requests at once already; try again.", peer=peer
            )
            return await _send(result, send)
        at_once += 1
        received = time.perf_counter()

        try:
            if len(body) <= _SMALL_BYTES and scope["method"] == "POST" and path.endswith(":predict"):
                steps = application.steps("POST", path, body, headers, peer=peer)
                result = await _followed(steps, threads, outbox)
            else:

                def handle() -> Response:
                    waited = time.perf_counter() - received
                    return application.handle(scope["method"], path, body, headers, peer=peer, waited_seconds=waited)

                result = await asyncio.get_running_loop().run_in_executor(threads, handle)
        finally:
            at_once -= 1
        return await _send(result, send)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        threads.shutdown(wait=False)

    others = Starlette(routes=[*pages, Mount("/", app=answer)], lifespan=lifespan)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # Requests for models go past Starlette, which costs as much as reading them.
        is_api = scope["type"] == "http" and scope["raw_path"].startswith(b"/v1/")
        await (answer if is_api else others)(scope, receive, send)

    return app


async def _followed(steps: Steps, threads: ThreadPoolExecutor, outbox: "_Outbox") -> Response:
    """The response of a request that is read here, and waits for a batch without a thread of its own."""
    step = next(steps)
    if isinstance(step, Response):
        return step
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Response] = loop.create_future()
    withdraw = step.submit(lambda result: outbox.post(loop, answer, finish(steps, steps.send(result))))
    if withdraw is None:
        return await loop.run_in_executor(threads, finish, steps, step)
    timer = None if step.timeout_seconds is None else loop.call_later(step.timeout_seconds, withdraw)
    try:
        return await answer
    finally:
        if timer is not None:
            timer.cancel()


class _Outbox:
    """Responses on their way from other threads into the event loop, which is woken once for all that wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.Future[Response], Response]] = []

    def post(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[Response]", response: Response) -> None:
        """Gives `answer` its result, in the thread of the loop."""
        with self._lock:
            self._waiting.append((answer, response))
            is_first = len(self._waiting) == 1
        if is_first:
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for answer, response in waiting:
            if not answer.done():
                answer.set_result(response)


async def _read_body(receive: Any, headers: dict[str, str], max_bytes: int, seconds: float) -> bytes | None:
    """The whole body, or None when the client goes before its end. Raises _Refused."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _Refused(413, f"The request has {declared} bytes, and the server takes {max_bytes} at most.")
    chunks, size, more = [], 0, True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > max_bytes:
                    raise _Refused(413, f"The request has more than the {max_bytes} bytes that the server takes.")
                chunks.append(chunk)
                more = message.get("more_body", False)
    except TimeoutError:
        raise _Refused(408, f"The body of the request did not come within {seconds:g} s.") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _send(response: Response, send: Any, *, closes: bool = False) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in response.headers.items()]
    headers.append((b"content-length", str(len(response.body)).encode()))
    if closes:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
