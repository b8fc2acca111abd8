"""The gRPC server: TensorFlow Serving's two services on a port, on a Unix socket, or on both."""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keras_seqattn.serving.addresses import bound_socket, bracketed, local_address
from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.grpc.calls import method_handlers
from keras_seqattn.serving.grpc.model_service import MODEL_SERVICE, ModelService
from keras_seqattn.serving.grpc.prediction_service import PREDICTION_SERVICE, PredictionService
from keras_seqattn.serving.grpc.ssl_config import server_credentials
from keras_seqattn.serving.models.repository import ModelRepository
from keras_seqattn.serving.monitoring.record import RequestRecord
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["GrpcServer", "parse_channel_arguments"]

_MAX_MESSAGE_BYTES = 2**31 - 1  # both ways
_HEALTH_SERVICES = ("", "ModelService", "PredictionService")  # empty is the whole server


def parse_channel_arguments(text: str) -> dict[str, int | str]:
    """Reads `--grpc_channel_arguments`: `grpc.max_connection_age_ms=5000,key=value`; what looks like a number is one.

    Raises: ServingError, INVALID_ARGUMENT, for a part without `=`.
    """
    arguments: dict[str, int | str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"gRPC channel arguments are written key=value,key=value. Received: {part!r}."
            )
        try:
            arguments[name] = int(value)
        except ValueError:
            arguments[name] = value
    return arguments


class GrpcServer:
    """PredictionService and ModelService, in threads; ports are taken at once, and open when `start` is called.

    Args:
        repository: the models.
        host: the address to listen on; `0.0.0.0` for all.
        port: 0 takes a free one; None listens on the Unix socket alone.
        socket_path: of a Unix socket, or none.
        max_threads: calls answered at once, the others wait; None is four for each core.
        max_pending_calls: how many may wait for a thread; a call beyond fails with RESOURCE_EXHAUSTED at once.
        ssl_config_file: text proto SSLConfig; None is no TLS.
        channel_arguments: of gRPC itself; they win over those of this server.
        tensor_content: writes outputs of Predict into `tensor_content`.
        check_method_names: asks of each signature that it was made for what is asked of it.
        enable_reload: answers HandleReloadConfigRequest.
        enable_health: the standard health service, for the whole server, `ModelService` and `PredictionService`.
        enable_reflection: the standard reflection service, so that clients need no protos.
        on_request: called with the record of each call, in the thread that answered it.
    Raises: OSError when the port is taken; ServingError for a bad SSL config; ImportError for a missing package.
    """

    def __init__(
        self,
        repository: ModelRepository,
        host: str = "127.0.0.1",
        port: int | None = 0,
        *,
        socket_path: str | os.PathLike[str] | None = None,
        max_threads: int | None = None,
        max_pending_calls: int = 1000,
        ssl_config_file: str | os.PathLike[str] | None = None,
        channel_arguments: Mapping[str, int | str] | None = None,
        tensor_content: bool = False,
        check_method_names: bool = False,
        enable_reload: bool = False,
        enable_health: bool = False,
        enable_reflection: bool = False,
        on_request: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        with packages_of_extra("serving"):
            import grpc

        if port is None and not socket_path:
            raise ValueError("A gRPC server listens on a port or on a Unix socket. Received neither.")
        self._host = host
        self._socket_path = os.fspath(socket_path) if socket_path else None
        self._credentials = server_credentials(ssl_config_file) if ssl_config_file else None
        num_threads = max_threads or 4 * (os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="grpc")
        options = {
            "grpc.max_receive_message_length": _MAX_MESSAGE_BYTES,
            "grpc.max_send_message_length": _MAX_MESSAGE_BYTES,
            "grpc.so_reuseport": 0,  # else a second server takes half of the calls
            **(channel_arguments or {}),
        }
        self._server = grpc.server(
            self._threads,
            options=list(options.items()),
            maximum_concurrent_rpcs=num_threads + max_pending_calls,
        )
        services: dict[str, Any] = {
            PREDICTION_SERVICE: PredictionService(
                repository, tensor_content=tensor_content, check_method_names=check_method_names
            ),
            MODEL_SERVICE: ModelService(repository, enable_reload=enable_reload),
        }
        for name, service in services.items():
            handlers = method_handlers(service.methods, on_request)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        self._health = _add_health(self._server) if enable_health else None
        if enable_reflection:
            _add_reflection(self._server, [*services, *(["grpc.health.v1.Health"] if enable_health else [])])
        # Nobody can connect to a socket that does not listen; gRPC's own would let clients wait for the start.
        self._reserved = None if port is None else bound_socket(host, port)
        self.port: int | None = None if self._reserved is None else self._reserved.getsockname()[1]

    @property
    def target(self) -> str:
        """What a channel on this machine connects to: `127.0.0.1:8500`, or `unix:/tmp/socket`."""
        if self.port is None:
            return f"unix:{self._socket_path}"
        return local_address(self._host, self.port)

    def start(self) -> None:
        """Opens the ports.

        Raises: OSError when one was taken meanwhile, or the certificate is not one.
        """
        if self._reserved is not None:
            self._reserved.close()
            self._listen(f"{bracketed(self._host)}:{self.port}")
        if self._socket_path is not None:
            self._listen(f"unix:{self._socket_path}")
        self._server.start()

    def stop(self, grace_seconds: float | None = 30.0) -> None:
        """Refuses new calls, waits for those under way, and cancels what is left after `grace_seconds`."""
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        stopped: threading.Event = self._server.stop(grace_seconds)
        stopped.wait()
        self._threads.shutdown(wait=False)
        if self._reserved is not None:
            self._reserved.close()

    def _listen(self, address: str) -> None:
        try:
            if self._credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise OSError(f"Cannot listen on {address}: {error}") from None
        if not bound:
            raise OSError(f"Cannot listen on {address}")


def _add_health(server: Any) -> Any:
    with packages_of_extra("serving"):
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    servicer = health.HealthServicer()
    for service in _HEALTH_SERVICES:
        servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


def _add_reflection(server: Any, service_names: list[str]) -> None:
    with packages_of_extra("serving"):
        from grpc_reflection.v1alpha import reflection

        # Reflection looks the services up where these put them.
        from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401

    reflection.enable_server_reflection([*service_names, reflection.SERVICE_NAME], server)
