"""Starts and stops a server: in this process, in a thread, or as the real `tensorflow_model_server`."""

import importlib.metadata
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, TextIO

from keras_seqattn.serving import real_server
from keras_seqattn.serving.addresses import local_address
from keras_seqattn.serving.errors import ServingError
from keras_seqattn.serving.flags import ServerFlags, absolute_path, known_flags
from keras_seqattn.serving.grpc.server import GrpcServer, parse_channel_arguments
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.batching_parameters import BatchingParameters, read_batching_parameters
from keras_seqattn.serving.models.model_config import ModelConfig, check_configs, configs_from, read_config_file
from keras_seqattn.serving.models.repository import Loader, ModelRepository
from keras_seqattn.serving.models.session_config import session_config
from keras_seqattn.serving.monitoring.access_log import AccessLog
from keras_seqattn.serving.monitoring.config import MonitoringConfig, read_monitoring_config
from keras_seqattn.serving.monitoring.metrics import ServerMetrics
from keras_seqattn.serving.monitoring.page import metrics_page
from keras_seqattn.serving.monitoring.record import RequestRecord
from keras_seqattn.serving.playground.page import playground_routes
from keras_seqattn.serving.rest.application import RestApplication
from keras_seqattn.serving.rest.asgi import MAX_REQUEST_BYTES, asgi_app
from keras_seqattn.serving.rest.http_server import HttpServer

__all__ = ["DEFAULT_REST_PORT", "EmbeddedServer", "serve"]

_LOG = logging.getLogger(__name__)
_THREADS_WITH_BATCHING = 128

DEFAULT_REST_PORT = 8501  # of TensorFlow Serving's Docker image; the binary itself keeps REST off


class EmbeddedServer:
    """A model server inside this process; answers as TensorFlow Serving does, over REST and gRPC.

    Args:
        models: the folder with the version folders, by model name; or a sequence of `ModelConfig`.
        port: for HTTP; 0 takes a free one, None does without.
        host: the address to listen on; `0.0.0.0` for all.
        grpc_port: for gRPC; 0 takes a free one, None does without.
        grpc_options: further arguments of `serving.grpc.server.GrpcServer`, `socket_path` or `ssl_config_file` say.
        timeout_seconds: after which a run is cancelled; None waits for ever.
        num_threads: REST requests answered at once; None is four for each core, and more with batching.
        max_request_bytes: greatest body over REST.
        max_pending_requests: that may wait for a thread, over REST and over gRPC each; more are refused at once.
        enable_cors: lets web pages of any origin call.
        enable_playground: the page at `/`.
        batching: `serving.models.batching_parameters.BatchingParameters`, to run requests together; None does not.
        check_method_names: asks of each signature that it was made for what is asked of it.
        metrics_path: of the page for Prometheus; None has no such page.
        access_log: a text stream or a file for a line of JSON a request; None writes none.
        poll_wait_seconds: between two looks for new versions; 0 looks once.
        max_num_load_retries: tries to load a version after the first that failed.
        load_retry_interval_seconds: between these tries.
        allow_labels_for_unavailable: lets a label that is not in use yet point to a version that is not loaded.
        loader: makes a servable from a version folder; None loads SavedModels.
        metrics: what the page shows; None makes its own.
    Example:
        >>> with EmbeddedServer({"dates": "saved_models/dates"}) as server:  # doctest: +SKIP
        ...     print(ask(server.url, "dates", ["7 May 2024"]))
    """

    def __init__(
        self,
        models: Mapping[str, str | os.PathLike[str]] | Sequence[ModelConfig],
        *,
        port: int | None = 0,
        host: str = "127.0.0.1",
        grpc_port: int | None = None,
        grpc_options: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = 30.0,
        num_threads: int | None = None,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        max_pending_requests: int = 1000,
        enable_cors: bool = False,
        enable_playground: bool = True,
        batching: BatchingParameters | None = None,
        check_method_names: bool = False,
        metrics_path: str | None = None,
        access_log: TextIO | str | os.PathLike[str] | None = None,
        poll_wait_seconds: float = 1.0,
        max_num_load_retries: int = 0,
        load_retry_interval_seconds: float = 60.0,
        allow_labels_for_unavailable: bool = False,
        loader: Loader | None = None,
        metrics: ServerMetrics | None = None,
    ) -> None:
        configs = configs_from(models) if isinstance(models, Mapping) else check_configs(models)
        self.metrics = metrics or ServerMetrics()
        self.repository = ModelRepository(
            configs,
            loader or saved_model_loader(batching=batching, metrics=self.metrics),
            poll_wait_seconds=poll_wait_seconds,
            max_num_load_retries=max_num_load_retries,
            load_retry_interval_seconds=load_retry_interval_seconds,
            allow_labels_for_unavailable=allow_labels_for_unavailable,
        )
        self._host = host
        self._access_log = None if access_log is None else AccessLog(access_log)
        self.metrics.watch_queue_depth(self.repository.queue_depths)
        if self._access_log is not None:
            log = self._access_log
            self.metrics.watch_access_log(lambda: log.num_lost)
        self.application = RestApplication(
            self.repository,
            timeout_seconds=timeout_seconds,
            enable_cors=enable_cors,
            check_method_names=check_method_names,
            on_request=self._on_request,
        )
        pages = [] if metrics_path is None else [metrics_page(self.metrics, metrics_path)]
        if enable_playground:
            pages += playground_routes(self.repository)
        if num_threads is None and batching is not None:
            num_threads = _THREADS_WITH_BATCHING  # each of them waits for a batch, and does little else
        self._http = self._grpc = None
        try:
            if port is not None:
                app = asgi_app(
                    self.application,
                    num_threads,
                    pages,
                    max_request_bytes=max_request_bytes,
                    max_pending_requests=max_pending_requests,
                )
                self._http = HttpServer(app, host, port)
            options = dict(grpc_options or {})
            if grpc_port is not None or options.get("socket_path"):
                if batching is not None and not options.get("max_threads"):
                    options["max_threads"] = _THREADS_WITH_BATCHING
                options.setdefault("max_pending_calls", max_pending_requests)
                options.setdefault("check_method_names", check_method_names)
                self._grpc = GrpcServer(self.repository, host, grpc_port, on_request=self._on_request, **options)
        except BaseException:
            self.stop()
            raise

    @property
    def port(self) -> int:
        """Where it listens for HTTP."""
        if self._http is None:
            raise ValueError("This server has no HTTP port. Received: port=None.")
        return self._http.port

    @property
    def url(self) -> str:
        """What clients on this machine call over REST: `http://127.0.0.1:8501`."""
        return f"http://{local_address(self._host, self.port)}"

    @property
    def grpc_target(self) -> str:
        """What clients on this machine connect to over gRPC: `127.0.0.1:8500`."""
        if self._grpc is None:
            raise ValueError("This server has no gRPC port. Received: grpc_port=None.")
        return self._grpc.target

    def start(self, is_cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Loads the models, then listens.

        Returns: False when it was cancelled before.
        Raises: ServingError when a model finally does not load.
        """
        try:
            if not self.repository.wait_until_ready(is_cancelled):
                return False
            self.repository.start()
            for transport in (self._http, self._grpc):
                if transport is not None:
                    transport.start()
        except BaseException:
            self.stop()
            raise
        return True

    def stop(self) -> None:
        """Answers the requests that are under way, then unloads the models."""
        stopping = [transport.stop for transport in (self._http, self._grpc) if transport is not None]
        threads = [threading.Thread(target=stop) for stop in stopping]  # so that both drain at once
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.repository.close()
        if self._access_log is not None:
            self._access_log.close()

    def _on_request(self, record: RequestRecord) -> None:
        self.metrics.on_request(record)
        if self._access_log is not None:
            self._access_log.on_request(record)

    def __enter__(self) -> "EmbeddedServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def serve(flags: ServerFlags) -> int:
    """Serves until the process gets SIGTERM or SIGINT; a second one ends it at once.

    Returns: the exit code; 0 after a signal, 1 when a model does not load or the port is taken. Does not return when
        the real `tensorflow_model_server` takes over the process.
    """
    binary = real_server.find_binary() if flags.engine != "embedded" else None
    if flags.unknown:
        _say(f"Unknown arguments: {' '.join(flags.unknown)}. {known_flags()}")
    if binary is not None:
        arguments = real_server.arguments_for_binary(flags, DEFAULT_REST_PORT)
        _say(f"Engine: {binary} (the real TensorFlow Serving), with {' '.join(arguments)}")
        real_server.exec_binary(binary, arguments)
    if flags.engine == "tensorflow-serving":
        return _tell_container(flags)
    if flags.version:
        _say(_versions())
        return 0
    why = f" ({real_server.BINARY} is not on the PATH)" if flags.engine == "auto" else ""
    _say(f"Engine: the embedded server{why}.")
    for name in flags.not_supported:
        _say(f"--{name}: not supported by the embedded server, ignored.")
    if flags.rest_api_port is None:
        _say(f"--rest_api_port is not given: REST on {DEFAULT_REST_PORT}.")
    return _serve_embedded(flags, DEFAULT_REST_PORT if flags.rest_api_port is None else flags.rest_api_port)


def _tell_container(flags: ServerFlags) -> int:
    """The command on standard output, everything else beside it."""
    try:
        command = real_server.container_command(flags, DEFAULT_REST_PORT)
    except ServingError as error:
        _say(error.message)
        return 1
    _say(f"{real_server.BINARY} is not on the PATH. TensorFlow Serving in a container serves the same:")
    print(command, flush=True)
    return 1


def _serve_embedded(flags: ServerFlags, port: int) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: its start-up chatter
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("keras_seqattn.serving").setLevel(logging.INFO)
    stopping = threading.Event()
    previous = {number: signal.signal(number, _stop_on(stopping)) for number in (signal.SIGTERM, signal.SIGINT)}
    server = None
    try:
        configs = _configs(flags)
        server = _server(flags, configs, port)
        if server.start(stopping.is_set):
            _say(_ready_line(server, flags, configs, port))
            _follow_config_file(flags, server.repository, stopping)
            if flags.profiler_port:
                start_profiler(flags.profiler_port)
            stopping.wait()
            _say("Stopping: finishing the requests that are under way.")
        return 0
    except ServingError as error:
        _say(f"The server does not start: {error.message}")
        return 1
    except OSError as error:
        _say(f"The server does not start: {error.strerror or error}")
        return 1
    finally:
        if server is not None:
            server.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _server(flags: ServerFlags, configs: Sequence[ModelConfig], port: int) -> EmbeddedServer:
    """The server that the flags ask for."""
    batching = None
    if flags.enable_batching:
        batching = BatchingParameters()
        if flags.batching_parameters_file:
            batching = read_batching_parameters(flags.batching_parameters_file)
    monitoring = MonitoringConfig()
    if flags.monitoring_config_file:
        monitoring = read_monitoring_config(flags.monitoring_config_file)
    metrics = ServerMetrics()
    loader = saved_model_loader(
        flags.saved_model_tags.split(","),
        enable_warmup=flags.enable_model_warmup,
        num_warmup_iterations=flags.num_request_iterations_for_warmup,
        batching=batching,
        per_model_batching=flags.enable_per_model_batching_parameters,
        session_config=session_config(
            session_parallelism=flags.tensorflow_session_parallelism,
            intra_op_parallelism=flags.tensorflow_intra_op_parallelism,
            inter_op_parallelism=flags.tensorflow_inter_op_parallelism,
            config_file=flags.tensorflow_session_config_file,
            per_process_gpu_memory_fraction=flags.per_process_gpu_memory_fraction,
        ),
        metrics=metrics,
    )
    return EmbeddedServer(
        configs,
        port=port or None,
        host=flags.host,
        grpc_port=flags.port or None,
        grpc_options={
            "socket_path": flags.grpc_socket_path or None,
            "max_threads": flags.grpc_max_threads or None,
            "ssl_config_file": flags.ssl_config_file or None,
            "channel_arguments": parse_channel_arguments(flags.grpc_channel_arguments),
            "tensor_content": flags.enable_serialization_as_tensor_content,
            "enable_reload": flags.enable_model_reload,
            "enable_health": flags.enable_grpc_healthcheck_service,
            "enable_reflection": flags.enable_grpc_reflection,
        },
        timeout_seconds=flags.rest_api_timeout_in_ms / 1000 or None,
        num_threads=flags.rest_api_num_threads,
        max_request_bytes=flags.max_request_bytes,
        max_pending_requests=flags.max_pending_requests,
        enable_cors=flags.rest_api_enable_cors_support,
        enable_playground=flags.enable_playground,
        batching=batching,
        check_method_names=flags.enable_signature_method_name_check,
        metrics_path=monitoring.path if monitoring.enable else None,
        access_log=sys.stdout if flags.access_log == "-" else flags.access_log or None,
        poll_wait_seconds=flags.file_system_poll_wait_seconds,
        max_num_load_retries=flags.max_num_load_retries,
        load_retry_interval_seconds=flags.load_retry_interval_micros / 1e6,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        loader=loader,
        metrics=metrics,
    )


def _configs(flags: ServerFlags) -> tuple[ModelConfig, ...]:
    if not flags.model_config_file:
        return check_configs([ModelConfig(flags.model_name, absolute_path(flags.model_base_path))])
    configs, notes = read_config_file(flags.model_config_file)
    for note in notes:
        _say(note)
    return configs


def start_profiler(port: int) -> None:
    """Lets TensorBoard capture profiles from this process, by TensorFlow's own service."""
    import tensorflow as tf

    tf.profiler.experimental.server.start(port)
    _say(f"TensorBoard can capture profiles at localhost:{port}.")


def _follow_config_file(flags: ServerFlags, repository: ModelRepository, stopping: threading.Event) -> None:
    """Reads the config file again and again, in a thread; one that does not parse leaves the models as they are."""
    interval_seconds = flags.model_config_file_poll_wait_seconds
    if not flags.model_config_file or not interval_seconds:
        return

    def follow() -> None:
        # At each read, changed or not: a label that could not be set may now point to a version that has loaded.
        while not stopping.wait(interval_seconds):
            try:
                repository.reload(read_config_file(flags.model_config_file)[0], timeout_seconds=interval_seconds)
            except ServingError as error:
                _LOG.error("The models stay as they are: %s", error.message)

    threading.Thread(target=follow, name="config-file", daemon=True).start()


def _stop_on(stopping: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, _: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    return handler


def _ready_line(server: EmbeddedServer, flags: ServerFlags, configs: Sequence[ModelConfig], port: int) -> str:
    name = configs[0].name if configs else "MODEL"
    names = ", ".join(config.name for config in configs)
    grpc = f"gRPC {server.grpc_target}" if flags.port or flags.grpc_socket_path else ""
    if not port:
        return f"Serving {names} over {grpc}."
    lines = [f"Serving {names} at {server.url}{f' and over {grpc}' if grpc else ''}. Try:"]
    if flags.enable_playground:
        lines.append(f"  {server.url}/ in a browser")
    lines.append(f"  curl {server.url}/v1/models/{name}")
    example = _example_body(server, name)
    if example:
        lines.append(f"  curl -d '{example}' {server.url}/v1/models/{name}:predict")
    return "\n".join(lines)


def _example_body(server: EmbeddedServer, name: str) -> str | None:
    """A request for a model whose default signature takes one list of texts."""
    try:
        with server.repository.lease(name) as lease:
            signature = lease.servable.signatures.get("serving_default")
    except ServingError:
        return None
    if signature is None or [spec.dtype for spec in signature.inputs.values()] != ["string"]:
        return None
    return '{"instances": ["some text"]}'


def _versions() -> str:
    ours, tensorflow = (importlib.metadata.version(name) for name in ("keras_seqattn", "tensorflow"))
    return f"keras_seqattn embedded model server: {ours}\nTensorFlow Library: {tensorflow}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
