"""Carries requests over gRPC: waiting, or in an event loop."""

from collections.abc import Mapping
from typing import Any

from keras_seqattn.serving.client.address import Address
from keras_seqattn.serving.client.failures import ServiceUnavailable, error_of
from keras_seqattn.serving.client.grpc_wire import GrpcRequest
from keras_seqattn.serving.client.retries import Deadline
from keras_seqattn.serving.client.security import ClientTls
from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["AsyncGrpcTransport", "GrpcTransport"]


class _Grpc:
    """What both transports share: channels, methods and errors."""

    def __init__(self, address: Address, tls: ClientTls, headers: Mapping[str, str]) -> None:
        with packages_of_extra("serving"):
            import grpc
        self._grpc = grpc
        self._address = address
        self._tls = tls
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._options = [
            ("grpc.max_receive_message_length", -1),  # 4 MiB otherwise
            ("grpc.max_send_message_length", -1),
            # Connects again as soon as `Retries` asks again; the first pause would be a second otherwise.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 5000),
            ("grpc.use_local_subchannel_pool", 1),  # or clients of one process share these pauses
            ("grpc.enable_http_proxy", int(not address.is_loopback)),
        ]
        self._methods: dict[str, Any] = {}

    def _channel(self, module: Any) -> Any:
        if self._address.is_secure:
            return module.secure_channel(self._address.netloc, self._tls.credentials(), options=self._options)
        return module.insecure_channel(self._address.netloc, options=self._options)

    def _method(self, channel: Any, request: GrpcRequest) -> Any:
        method = self._methods.get(request.method)
        if method is None:
            method = channel.unary_unary(
                request.method,
                request_serializer=type(request.message).SerializeToString,
                response_deserializer=request.response_class.FromString,
            )
            self._methods[request.method] = method
        return method

    def _error(self, error: Any, deadline: Deadline) -> ServingError:
        code, details = Code(error.code().value[0]), error.details() or ""
        if code == Code.DEADLINE_EXCEEDED and details == "Deadline Exceeded":  # gRPC's own word for it
            return deadline.exceeded()
        if code == Code.UNAVAILABLE and details.startswith("failed to connect"):
            return ServiceUnavailable(f"Nothing answers at {self._address} ({details}).")
        return error_of(code, details)


class GrpcTransport(_Grpc):
    """Sends and waits; safe from many threads.

    Args:
        address: of the server.
        tls: for `grpcs`.
        headers: sent with each request, as its metadata.
    """

    def __init__(self, address: Address, tls: ClientTls, headers: Mapping[str, str]) -> None:
        super().__init__(address, tls, headers)
        self._connected: Any = self._channel(self._grpc)

    def send(self, request: GrpcRequest, deadline: Deadline) -> Any:
        """One try. Raises ServingError."""
        method = self._method(self._connected, request)
        try:
            return method(request.message, timeout=deadline.seconds_left(), metadata=self._metadata)
        except self._grpc.RpcError as error:
            raise self._error(error, deadline) from None

    def close(self) -> None:
        """Closes the channel."""
        self._connected.close()


class AsyncGrpcTransport(_Grpc):
    """Sends within an event loop.

    Args:
        address: of the server.
        tls: for `grpcs`.
        headers: sent with each request, as its metadata.
    """

    def __init__(self, address: Address, tls: ClientTls, headers: Mapping[str, str]) -> None:
        super().__init__(address, tls, headers)
        self._connected: Any = None

    async def send(self, request: GrpcRequest, deadline: Deadline) -> Any:
        """One try. Raises ServingError."""
        if self._connected is None:  # belongs to the event loop that runs now
            self._connected = self._channel(self._grpc.aio)
        method = self._method(self._connected, request)
        try:
            return await method(request.message, timeout=deadline.seconds_left(), metadata=self._metadata)
        except self._grpc.RpcError as error:
            raise self._error(error, deadline) from None

    async def close(self) -> None:
        """Closes the channel."""
        if self._connected is not None:
            await self._connected.close()
