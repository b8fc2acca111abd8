"""Carries requests over HTTP, by httpx: waiting, or in an event loop."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from keras_seqattn.serving.client.address import Address
from keras_seqattn.serving.client.failures import ServiceUnavailable
from keras_seqattn.serving.client.rest_wire import HttpReply, HttpRequest
from keras_seqattn.serving.client.retries import Deadline
from keras_seqattn.serving.client.security import ClientTls
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["AsyncHttpTransport", "HttpTransport"]

_MAX_IDLE_CONNECTIONS = 100


class _TimeLeft(dict[str, float]):
    """httpx's timeouts. They count from each connecting, writing and reading anew; what is left is less each time.

    Within the headers of a reply httpx asks for it once: a server that sends these byte by byte may take longer.
    """

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def get(self, phase: str, default: Any = None) -> float | None:  # type: ignore[override]
        return self._deadline.seconds_left()


class _Http:
    """What both transports share."""

    def __init__(self, address: Address, tls: ClientTls, headers: Mapping[str, str]) -> None:
        with packages_of_extra("serving"):
            import httpx
        self._address = address
        self._httpx = httpx
        self._settings: dict[str, Any] = {
            "verify": tls.context() if address.is_secure else True,
            "trust_env": not address.is_loopback,  # a proxy that the environment names is for other machines
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=_MAX_IDLE_CONNECTIONS),
            "headers": {"Content-Type": "application/json", **headers},
        }

    def _request(self, client: Any, request: HttpRequest, deadline: Deadline) -> Any:
        return client.build_request(
            request.method,
            f"{self._address}{request.path}",
            content=request.body or None,
            extensions={"timeout": _TimeLeft(deadline)},
        )

    @contextmanager
    def _errors(self, deadline: Deadline) -> Iterator[None]:
        httpx = self._httpx
        try:
            yield
        except httpx.TimeoutException:
            raise deadline.exceeded() from None
        except httpx.ConnectError as error:
            raise ServiceUnavailable(f"Nothing answers at {self._address} ({error}).") from None
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise ServiceUnavailable(f"The connection to {self._address} broke: {reason}") from None


class HttpTransport(_Http):
    """Sends and waits; safe from many threads.

    Args:
        address: of the server.
        tls: for `https`.
        headers: sent with each request.
    """

    def __init__(self, address: Address, tls: ClientTls, headers: Mapping[str, str]) -> None:
        super().__init__(address, tls, headers)
        self._client = self._httpx.Client(**self._settings)

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpReply:
        """One try. Raises ServingError."""
        with self._errors(deadline):
            response = self._client.send(self._request(self._client, request, deadline), stream=True)
            try:
                chunks = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    deadline.seconds_left()
            finally:
                response.close()
        return HttpReply(response.status_code, b"".join(chunks))

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


class AsyncHttpTransport(_Http):
    """Sends within an event loop.

    Args:
        address: of the server.
        tls: for `https`.
        headers: sent with each request.
    """

    def __init__(self, address: Address, tls: ClientTls, headers: Mapping[str, str]) -> None:
        super().__init__(address, tls, headers)
        self._client = self._httpx.AsyncClient(**self._settings)

    async def send(self, request: HttpRequest, deadline: Deadline) -> HttpReply:
        """One try. Raises ServingError."""
        with self._errors(deadline):
            response = await self._client.send(self._request(self._client, request, deadline), stream=True)
            try:
                chunks = []
                async for chunk in response.aiter_bytes():
                    chunks.append(chunk)
                    deadline.seconds_left()
            finally:
                await response.aclose()
        return HttpReply(response.status_code, b"".join(chunks))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
