"""The client of model servers, for event loops."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy.typing as npt

from keras_seqattn.serving.client.address import parse_address
from keras_seqattn.serving.client.calls import Metadata, Operation, Pause, Target
from keras_seqattn.serving.client.operations import Operations
from keras_seqattn.serving.client.retries import DEFAULT_RETRIES, Retries
from keras_seqattn.serving.client.security import DEFAULT_TLS, ClientTls
from keras_seqattn.serving.client.streaming import Streaming
from keras_seqattn.serving.client.transports import async_transport_of, wire_of
from keras_seqattn.serving.errors import ServingError
from keras_seqattn.serving.models.repository import VersionStatus
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE

__all__ = ["AsyncClient"]

Array = npt.NDArray[Any]
Result = TypeVar("Result")


class AsyncClient:
    """`Client` for event loops: the same methods, awaited; `stream` is for `async for`.

    Use it within one event loop.

    Args:
        url: as for `Client`.
        timeout_seconds: as for `Client`.
        retries: as for `Client`.
        tls: as for `Client`.
        headers: as for `Client`.
    Example:
        >>> async with AsyncClient("grpc://localhost:8500") as client:  # doctest: +SKIP
        ...     async for piece in client.stream("stories", "Once"):
        ...         print(piece, end="", flush=True)
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float | None = 30.0,
        retries: Retries = DEFAULT_RETRIES,
        tls: ClientTls = DEFAULT_TLS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        address = parse_address(url)
        self._transport = async_transport_of(address, tls, headers or {})
        self._operations = Operations(wire_of(address), retries, timeout_seconds, str(address))

    async def predict(
        self,
        model: str,
        inputs: Any,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout_seconds: float | None = None,
    ) -> dict[str, Array]:
        """`Client.predict`."""
        target, deadline = Target(model, version, label), self._operations.deadline(timeout_seconds)
        operation = self._operations.predict(target, signature_name, inputs, outputs, deadline)
        return await self._run(operation)

    async def classify(
        self,
        model: str,
        examples: Sequence[Any],
        *,
        context: Any = None,
        signature_name: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> list[list[tuple[str, float]]]:
        """`Client.classify`."""
        target, deadline = Target(model, version, label), self._operations.deadline(timeout_seconds)
        return await self._run(self._operations.classify(target, signature_name, examples, context, deadline))

    async def regress(
        self,
        model: str,
        examples: Sequence[Any],
        *,
        context: Any = None,
        signature_name: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Array:
        """`Client.regress`."""
        target, deadline = Target(model, version, label), self._operations.deadline(timeout_seconds)
        return await self._run(self._operations.regress(target, signature_name, examples, context, deadline))

    async def status(
        self, model: str, *, version: int | None = None, timeout_seconds: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """`Client.status`."""
        deadline = self._operations.deadline(timeout_seconds)
        return await self._run(self._operations.status(Target(model, version), deadline))

    async def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Metadata:
        """`Client.metadata`."""
        target, deadline = Target(model, version, label), self._operations.deadline(timeout_seconds)
        return await self._run(self._operations.metadata(target, deadline))

    async def wait_until_ready(
        self, model: str, *, version: int | None = None, timeout_seconds: float | None = 60.0
    ) -> None:
        """`Client.wait_until_ready`."""
        await self._run(self._operations.wait_until_ready(Target(model, version), timeout_seconds))

    async def stream(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[Any]:
        """`Client.stream`."""
        streaming = Streaming(self._operations, Target(model, version, label), inputs, timeout_seconds)
        while not streaming.is_over:
            yield await self._run(streaming.next())

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, operation: Operation[Result]) -> Result:
        """Carries out the effects that an operation asks for."""
        outcome: Any = None
        failure: ServingError | None = None
        while True:
            try:
                effect = operation.send(outcome) if failure is None else operation.throw(failure)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            outcome = failure = None
            if isinstance(effect, Pause):
                await asyncio.sleep(effect.seconds)
                continue
            try:
                outcome = await self._transport.send(effect.request, effect.deadline)
            except ServingError as error:
                failure = error
