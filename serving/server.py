"""Starts and stops a server: in this process, in a thread, or as the real `tensorflow_model_server`."""

import asyncio
import importlib.metadata
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any

from keras_seqattn.serving.errors import ServingError
from keras_seqattn.serving.flags import ServerFlags, absolute_path, arguments_for_binary
from keras_seqattn.serving.models.model_config import ModelConfig, check_configs, configs_from, read_config_file
from keras_seqattn.serving.models.repository import Loader, ModelRepository
from keras_seqattn.serving.models.servable import Servable
from keras_seqattn.serving.optional import packages_of_extra
from keras_seqattn.serving.rest.application import RestApplication
from keras_seqattn.serving.rest.asgi import asgi_app

__all__ = ["DEFAULT_REST_PORT", "EmbeddedServer", "saved_model_loader", "serve"]

_LOG = logging.getLogger(__name__)

DEFAULT_REST_PORT = 8501  # of TensorFlow Serving's Docker image; the binary itself keeps REST off
_BINARY = "tensorflow_model_server"
_KEEP_ALIVE_SECONDS = 75  # between two requests of a connection; clients pool connections for about a minute
_DRAIN_SECONDS = 30  # for requests under way when the server is told to stop


def saved_model_loader(tags: Sequence[str] = ("serve",), *, enable_warmup: bool = True) -> Loader:
    """A loader for `ModelRepository`: a SavedModel, with its warm-up requests replayed."""

    def load(path: str) -> Servable:
        from keras_seqattn.serving.models.servable import load_saved_model
        from keras_seqattn.serving.models.warmup import replay_warmup

        servable = load_saved_model(path, tags)
        try:
            if enable_warmup:
                replay_warmup(servable, path)
        except BaseException:
            servable.close()
            raise
        return servable

    return load


class _HttpServer:
    """uvicorn in a thread, on a socket that is bound at once and listens when `start` is called."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._app = app
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sends small replies at once only on sockets that name the protocol; else each takes 40 ms more.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"Cannot listen on {host}, port {port}: {error.strerror}") from None
        self.port: int = self._socket.getsockname()[1]
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        with packages_of_extra("serving"):
            import uvicorn

        config = uvicorn.Config(
            self._app,
            log_config=None,  # its own would close every handler of the process, and with them what they write to
            log_level="warning",
            access_log=False,
            server_header=False,
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
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """Stops listening, then waits for the requests that are under way."""
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()


class EmbeddedServer:
    """A model server inside this process; answers as TensorFlow Serving does.

    Args:
        models: the folder with the version folders, by model name; or a sequence of `ModelConfig`.
        port: for HTTP; 0 takes a free one.
        host: the address to listen on; `0.0.0.0` for all.
        timeout_seconds: after which a run is cancelled; None waits for ever.
        num_threads: requests answered at once; None is four for each core.
        enable_cors: lets web pages of any origin call.
        poll_wait_seconds: between two looks for new versions; 0 looks once.
        max_num_load_retries: tries to load a version after the first that failed.
        load_retry_interval_seconds: between these tries.
        loader: makes a servable from a version folder; None loads SavedModels.
    Example:
        >>> with EmbeddedServer({"dates": "saved_models/dates"}) as server:  # doctest: +SKIP
        ...     print(ask(server.url, "dates", ["7 May 2024"]))
    """

    def __init__(
        self,
        models: Mapping[str, str | os.PathLike[str]] | Sequence[ModelConfig],
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        timeout_seconds: float | None = 30.0,
        num_threads: int | None = None,
        enable_cors: bool = False,
        poll_wait_seconds: float = 1.0,
        max_num_load_retries: int = 0,
        load_retry_interval_seconds: float = 60.0,
        loader: Loader | None = None,
    ) -> None:
        configs = configs_from(models) if isinstance(models, Mapping) else check_configs(models)
        self.repository = ModelRepository(
            configs,
            loader or saved_model_loader(),
            poll_wait_seconds=poll_wait_seconds,
            max_num_load_retries=max_num_load_retries,
            load_retry_interval_seconds=load_retry_interval_seconds,
        )
        self.application = RestApplication(self.repository, timeout_seconds=timeout_seconds, enable_cors=enable_cors)
        self._http = _HttpServer(asgi_app(self.application, num_threads), host, port)
        self._host = host

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._http.port

    @property
    def url(self) -> str:
        """What clients on this machine call: `http://127.0.0.1:8501`."""
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def start(self, is_cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Loads the models, then listens.

        Returns: False when it was cancelled before.
        Raises: ServingError when a model finally does not load.
        """
        try:
            if not self.repository.wait_until_ready(is_cancelled):
                return False
            self.repository.start()
            self._http.start()
        except BaseException:
            self.stop()
            raise
        return True

    def stop(self) -> None:
        """Answers the requests that are under way, then unloads the models."""
        self._http.stop()
        self.repository.close()

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
    binary = shutil.which(_BINARY) if flags.engine != "embedded" else None
    if binary is not None:
        arguments = arguments_for_binary(flags, DEFAULT_REST_PORT)
        _say(f"Engine: {binary} (the real TensorFlow Serving), with {' '.join(arguments)}")
        os.execv(binary, [binary, *arguments])
    if flags.engine == _BINARY:
        _say(f"{_BINARY} is not on the PATH. Install TensorFlow Serving, or use --engine=embedded.")
        return 1
    if flags.version:
        _say(_versions())
        return 0
    why = f" ({_BINARY} is not on the PATH)" if flags.engine == "auto" else ""
    _say(f"Engine: the embedded server{why}.")
    for name in flags.not_supported:
        later = "gRPC comes later; REST only" if name == "port" else "not supported by the embedded server yet"
        _say(f"--{name}: {later}, ignored.")
    if flags.rest_api_port == 0:
        _say("--rest_api_port=0 turns REST off, and the embedded server has nothing else yet.")
        return 1
    if flags.rest_api_port is None:
        _say(f"--rest_api_port is not given: REST on {DEFAULT_REST_PORT}.")
    return _serve_embedded(flags, DEFAULT_REST_PORT if flags.rest_api_port is None else flags.rest_api_port)


def _serve_embedded(flags: ServerFlags, port: int) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: its start-up chatter
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("keras_seqattn.serving").setLevel(logging.INFO)
    stopping = threading.Event()
    previous = {number: signal.signal(number, _stop_on(stopping)) for number in (signal.SIGTERM, signal.SIGINT)}
    server = None
    try:
        configs = _configs(flags)
        server = EmbeddedServer(
            configs,
            port=port,
            host="0.0.0.0",
            timeout_seconds=flags.rest_api_timeout_in_ms / 1000 or None,
            num_threads=flags.rest_api_num_threads,
            enable_cors=flags.rest_api_enable_cors_support,
            poll_wait_seconds=flags.file_system_poll_wait_seconds,
            max_num_load_retries=flags.max_num_load_retries,
            load_retry_interval_seconds=flags.load_retry_interval_micros / 1e6,
            loader=saved_model_loader(flags.saved_model_tags.split(","), enable_warmup=flags.enable_model_warmup),
        )
        if server.start(stopping.is_set):
            _say(_ready_line(server, configs))
            _follow_config_file(flags, server.repository, stopping)
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


def _configs(flags: ServerFlags) -> tuple[ModelConfig, ...]:
    if not flags.model_config_file:
        return check_configs([ModelConfig(flags.model_name, absolute_path(flags.model_base_path))])
    configs, notes = read_config_file(flags.model_config_file)
    for note in notes:
        _say(note)
    return configs


def _follow_config_file(flags: ServerFlags, repository: ModelRepository, stopping: threading.Event) -> None:
    """Reads the config file again and again, in a thread; one that does not parse leaves the models as they are."""
    interval_seconds = flags.model_config_file_poll_wait_seconds
    if not flags.model_config_file or not interval_seconds:
        return

    def follow() -> None:
        current: tuple[ModelConfig, ...] = ()
        while not stopping.wait(interval_seconds):
            try:
                configs, _ = read_config_file(flags.model_config_file)
                if configs != current:
                    repository.set_configs(configs)
                    current = configs
            except ServingError as error:
                _LOG.error("The models stay as they are: %s", error.message)

    threading.Thread(target=follow, name="config-file", daemon=True).start()


def _stop_on(stopping: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, _: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    return handler


def _ready_line(server: EmbeddedServer, configs: Sequence[ModelConfig]) -> str:
    name = configs[0].name if configs else "MODEL"
    lines = [f"Serving {', '.join(config.name for config in configs)} at {server.url}. Try:"]
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
