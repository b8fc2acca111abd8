"""The REST application as an ASGI app: Starlette reads requests, threads run models, the event loop stays free."""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from keras_seqattn.serving.optional import packages_of_extra
from keras_seqattn.serving.rest.application import RestApplication

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["asgi_app"]


def asgi_app(application: RestApplication, num_threads: int | None = None) -> "Starlette":
    """Makes the app; other pages (metrics, a playground) are routes before its last one.

    Args:
        application: answers the requests.
        num_threads: requests answered at once, the others wait; None is four for each core.
    """
    with packages_of_extra("serving"):
        from starlette.applications import Starlette
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import Response
        from starlette.routing import Mount

    threads = ThreadPoolExecutor(num_threads or 4 * (os.cpu_count() or 1), thread_name_prefix="rest")

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        path = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(threads, application.handle, request.method, path, body, request.headers)
        await Response(result.body, result.status, dict(result.headers))(scope, receive, send)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        threads.shutdown(wait=False)

    return Starlette(routes=[Mount("/", app=answer)], lifespan=lifespan)
