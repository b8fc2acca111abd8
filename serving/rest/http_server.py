"""uvicorn in a thread, guarded against clients that are slow, silent or endless."""

import asyncio
import threading
import time
from typing import Any

from keras_seqattn.serving.addresses import bound_socket
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["HttpServer"]

_KEEP_ALIVE_SECONDS = 75  # between two requests of a connection; clients pool connections for about a minute
_DRAIN_SECONDS = 30  # for requests under way when the server is told to stop
_HEAD_SECONDS = 20  # for the request line and the headers of a request, or the first byte of a connection
_HEAD_BYTES = 64 * 2**10


class HttpServer:
    """Serves an ASGI app on a socket that is bound at once and listens when `start` is called.

    Args:
        app: the ASGI app.
        host: address to listen on.
        port: 0 takes a free one.
        head_seconds: after which a connection is closed that has not sent the whole head of a request.
    Raises: OSError when the port is taken or the address is not this machine's.
    """

    def __init__(self, app: Any, host: str, port: int, *, head_seconds: float = _HEAD_SECONDS) -> None:
        self._app = app
        self._head_seconds = head_seconds
        self._socket = bound_socket(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listens from now on, until `stop`."""
        with packages_of_extra("serving"):
            import uvicorn

        config = uvicorn.Config(
            self._app,
            http=_guarded_protocol(self._head_seconds),
            log_config=None,  # its own would close every handler of the process, and with them what they write to
            log_level="error",  # a warning for each malformed request would let clients fill the log
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who asked is who connected, whatever a header says
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("The HTTP server ended while it started; its log says why.")
            time.sleep(0.005)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Stops listening, then waits for the requests that are under way."""
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()


def _guarded_protocol(head_seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol with a limit of time and of size for the head of a request."""
    with packages_of_extra("serving"):
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class GuardedProtocol(HttpToolsProtocol):
        _head_timer: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_is_there()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._head_timer is not None:
                self._head_bytes += len(data)
                if self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
                    self.send_400_response("The head of the request is too long.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._head_timer is None:
                self._expect_head()

        def on_headers_complete(self) -> None:
            self._head_is_there()
            super().on_headers_complete()

        def _expect_head(self) -> None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(head_seconds, self.transport.close)

        def _head_is_there(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return GuardedProtocol
