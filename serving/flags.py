"""The flags of `tensorflow_model_server`, by their own names and with its defaults, and a few of our own."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

__all__ = ["ENGINES", "ServerFlags", "absolute_path", "known_flags", "parse_flags", "without"]

ENGINES = ("auto", "embedded", "tensorflow-serving")

# Known to TensorFlow Serving; the embedded server says that it does without them.
_NOT_SUPPORTED = (
    "enable_profiler",
    "flush_filesystem_caches",
    "mixed_precision",
    "num_load_threads",
    "num_unload_threads",
    "platform_config_file",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "xla_cpu_compilation_enabled",
)


def _flag(default: Any, help: str, *, is_ours: bool = False) -> Any:
    """A field that is a flag; `is_ours` when `tensorflow_model_server` does not know it."""
    return field(default=default, metadata={"help": help, "is_ours": is_ours})


@dataclass(frozen=True)
class ServerFlags:
    """What a server is started with; each field is the flag of the same name.

    From `parse_flags` come `arguments`, the command line without our own flags, for the real server; `not_supported`,
    the given flags that the embedded server does without; and `unknown`, what is no flag at all.
    """

    model_name: str = _flag("default", "name in URLs (ignored with a config file)")
    model_base_path: str = _flag("", "folder or URI with one folder a version (ignored with a config file)")
    model_config_file: str = _flag("", "text proto ModelServerConfig, for several models")
    model_config_file_poll_wait_seconds: int = _flag(0, "between two reads of the config file; 0 reads it once")
    file_system_poll_wait_seconds: int = _flag(1, "between two looks for new versions; 0 looks once")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "let a label that is not in use yet point to a version that is not loaded, as at the start"
    )

    port: int = _flag(8500, "for gRPC; 0 only with --grpc_socket_path")
    grpc_socket_path: str = _flag("", "a UNIX socket for gRPC")
    grpc_channel_arguments: str = _flag("", "of the gRPC server: key=value,key=value")
    grpc_max_threads: int = _flag(0, "gRPC calls answered at once (four for each core when 0)")
    enable_grpc_healthcheck_service: bool = _flag(False, "the standard health service of gRPC")
    ssl_config_file: str = _flag("", "text proto SSLConfig: gRPC over TLS, and which clients it takes")
    enable_serialization_as_tensor_content: bool = _flag(False, "write tensors of gRPC answers as bytes in one piece")

    rest_api_port: int | None = _flag(None, "for HTTP (8501 when not given); 0 turns it off")
    rest_api_timeout_in_ms: int = _flag(30000, "after which a run is cancelled")
    rest_api_num_threads: int | None = _flag(
        None, "HTTP requests answered at once (four for each core when not given, more with batching)"
    )
    rest_api_enable_cors_support: bool = _flag(False, "let web pages of any origin call")

    enable_batching: bool = _flag(False, "run requests together that come together")
    batching_parameters_file: str = _flag("", "text proto BatchingParameters")
    enable_per_model_batching_parameters: bool = _flag(False, "read batching_params.pbtxt in a version's folder too")

    enable_model_warmup: bool = _flag(True, "replay assets.extra/tf_serving_warmup_requests")
    num_request_iterations_for_warmup: int = _flag(1, "times that each warm-up request runs")
    max_num_load_retries: int = _flag(5, "tries to load a version after the first failed")
    load_retry_interval_micros: int = _flag(60_000_000, "between these tries")
    saved_model_tags: str = _flag("serve", "of the graph to load, separated by commas")
    enable_signature_method_name_check: bool = _flag(False, "classify and regress by signatures made for them alone")
    tensorflow_session_parallelism: int = _flag(0, "threads inside an op, and of ops; 0 leaves it to TensorFlow")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads inside an op; 0 leaves it to TensorFlow")
    tensorflow_inter_op_parallelism: int = _flag(0, "threads of ops that run at once; 0 leaves it to TensorFlow")
    per_process_gpu_memory_fraction: float = _flag(0.0, "of each GPU's memory; 0 leaves it to TensorFlow")
    tensorflow_session_config_file: str = _flag("", "text proto ConfigProto")

    monitoring_config_file: str = _flag("", "text proto MonitoringConfig: metrics for Prometheus")
    version: bool = _flag(False, "print versions and stop")

    engine: str = _flag(
        "auto",
        "the real TensorFlow Serving (or the command that starts it), the embedded server, or (auto) the real one if "
        "it is on the PATH",
        is_ours=True,
    )
    host: str = _flag("127.0.0.1", "address to listen on; 0.0.0.0 for all", is_ours=True)
    access_log: str = _flag("", "file for a line of JSON a request; - is standard output", is_ours=True)
    enable_playground: bool = _flag(True, "the page at / to ask models by hand", is_ours=True)
    enable_model_reload: bool = _flag(False, "let gRPC clients change which models are served", is_ours=True)
    enable_grpc_reflection: bool = _flag(False, "let gRPC clients list services and messages", is_ours=True)
    max_request_bytes: int = _flag(100 * 2**20, "greatest body over REST, packed or not", is_ours=True)
    max_pending_requests: int = _flag(
        1000,
        "requests that may wait for a thread, over REST and over gRPC each; more are refused at once",
        is_ours=True,
    )
    profiler_port: int = _flag(0, "where TensorBoard captures profiles; 0 is off", is_ours=True)

    arguments: tuple[str, ...] = ()
    not_supported: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


_FLAGS = tuple(flag for flag in fields(ServerFlags) if flag.metadata)
_OURS = tuple(flag.name for flag in _FLAGS if flag.metadata["is_ours"])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n{known_flags()}\n")


class _Help(argparse.HelpFormatter):
    """Tells a default after the help, but for those that say nothing: an empty text, None, False."""

    def _get_help_string(self, action: argparse.Action) -> str:
        has_default = action.default not in ("", None, False, argparse.SUPPRESS)
        return f"{action.help} (default: %(default)s)" if has_default else str(action.help)


def known_flags() -> str:
    """A sentence that lists them."""
    names = sorted([*(flag.name for flag in _FLAGS), *_NOT_SUPPORTED])
    return f"Known flags: {', '.join(f'--{name}' for name in names)}."


def parse_flags(arguments: Sequence[str], prog: str = "seqattn serve") -> ServerFlags:
    """Reads a command line, `--flag=value` or `--flag value`; a boolean flag may stand alone.

    Exits with 2 and the list of known flags when a value is not of its type; with 0 after `--help`. An unknown flag is
    kept in `unknown`: TensorFlow Serving complains of it and goes on.
    """
    parser = _Parser(
        prog=prog,
        allow_abbrev=False,
        formatter_class=_Help,
        description="Serves SavedModels as TensorFlow Serving does, with its flags.",
        epilog="The other flags of tensorflow_model_server are passed on to it; the embedded server names those that "
        "it does without.",
    )
    for flag in _FLAGS:
        options: dict[str, Any] = {"default": flag.default, "help": flag.metadata["help"]}
        if isinstance(flag.default, bool):
            options |= {"nargs": "?", "const": True, "type": _boolean, "metavar": "BOOL"}
        elif flag.name == "engine":
            options["choices"] = ENGINES
        elif isinstance(flag.default, str):
            options["metavar"] = "TEXT"
        elif isinstance(flag.default, float):
            options |= {"type": float, "metavar": "SHARE"}
        else:
            options |= {"type": _count, "metavar": "N"}
        parser.add_argument(f"--{flag.name}", **options)
    for name in _NOT_SUPPORTED:
        parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    parsed, unknown = parser.parse_known_args(list(arguments))
    values = vars(parsed)
    not_supported = tuple(name for name in _NOT_SUPPORTED if values.pop(name) is not None)
    flags = ServerFlags(
        **values, arguments=without(arguments, *_OURS), not_supported=not_supported, unknown=tuple(unknown)
    )
    if not flags.version and not flags.model_base_path and not flags.model_config_file:
        besides = f" (unknown: {' '.join(unknown)})" if unknown else ""
        parser.error(f"either --model_base_path or --model_config_file is needed{besides}")
    _check(flags, parser)
    return flags


def _check(flags: ServerFlags, parser: argparse.ArgumentParser) -> None:
    """What flags may not be said together, as TensorFlow Serving refuses it at its start."""
    if flags.batching_parameters_file and not flags.enable_batching:
        parser.error("--batching_parameters_file is set without --enable_batching")
    if flags.enable_per_model_batching_parameters and not flags.enable_batching:
        parser.error("--enable_per_model_batching_parameters is set without --enable_batching")
    if flags.port == 0 and not flags.grpc_socket_path:
        parser.error("--port=0 needs --grpc_socket_path")
    if flags.port and flags.port == flags.rest_api_port:
        parser.error(f"--port and --rest_api_port must differ. Received: {flags.port} for both")
    parallelism = (flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism)
    if flags.tensorflow_session_parallelism and any(parallelism):
        parser.error(
            "--tensorflow_session_parallelism goes without --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism, which it stands for"
        )


def absolute_path(path: str) -> str:
    """Resolves a relative folder; URIs stay."""
    return path if "://" in path else os.path.abspath(path)


def without(arguments: Sequence[str], *names: str) -> tuple[str, ...]:
    """The arguments but for these flags and their values."""
    kept, skip = [], False
    for position, argument in enumerate(arguments):
        flag, _, _ = argument.removeprefix("--").partition("=")
        if skip:
            skip = False
        elif argument.startswith("--") and flag in names:
            following = arguments[position + 1 : position + 2]
            skip = "=" not in argument and bool(following) and not following[0].startswith("--")
        else:
            kept.append(argument)
    return tuple(kept)


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false. Received: {text!r}.")


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 0. Received: {text!r}.")
    return value
