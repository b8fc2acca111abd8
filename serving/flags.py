"""The flags of `tensorflow_model_server`, by their own names and with its defaults."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

__all__ = ["ENGINES", "ServerFlags", "parse_flags"]

ENGINES = ("auto", "embedded", "tensorflow_model_server")

# Known to TensorFlow Serving; the embedded server says that it does without them.
_NOT_YET = (
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_batching",
    "enable_grpc_healthcheck_service",
    "enable_per_model_batching_parameters",
    "enable_profiler",
    "enable_serialization_as_tensor_content",
    "enable_signature_method_name_check",
    "flush_filesystem_caches",
    "grpc_channel_arguments",
    "grpc_max_threads",
    "grpc_socket_path",
    "mixed_precision",
    "monitoring_config_file",
    "num_load_threads",
    "num_request_iterations_for_warmup",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "platform_config_file",
    "port",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "ssl_config_file",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_session_parallelism",
    "xla_cpu_compilation_enabled",
)


@dataclass(frozen=True)
class ServerFlags:
    """What a server is started with; each field is the flag of the same name.

    `arguments` and `not_supported` come from `parse_flags`: the command line without `--engine`, for the real binary,
    and the given flags that the embedded server does without.
    """

    model_name: str = field(default="default", metadata={"help": "name in URLs (ignored with a config file)"})
    model_base_path: str = field(
        default="", metadata={"help": "folder or URI with one folder a version (ignored with a config file)"}
    )
    model_config_file: str = field(default="", metadata={"help": "text proto ModelServerConfig, for several models"})
    model_config_file_poll_wait_seconds: int = field(
        default=0, metadata={"help": "between two reads of the config file; 0 reads it once"}
    )
    file_system_poll_wait_seconds: int = field(
        default=1, metadata={"help": "between two looks for new versions; 0 looks once"}
    )
    rest_api_port: int | None = field(default=None, metadata={"help": "for HTTP (8501 when not given)"})
    rest_api_timeout_in_ms: int = field(default=30000, metadata={"help": "after which a run is cancelled"})
    rest_api_num_threads: int | None = field(
        default=None, metadata={"help": "HTTP requests answered at once (four for each core when not given)"}
    )
    rest_api_enable_cors_support: bool = field(default=False, metadata={"help": "let web pages of any origin call"})
    enable_model_warmup: bool = field(default=True, metadata={"help": "replay assets.extra/tf_serving_warmup_requests"})
    max_num_load_retries: int = field(default=5, metadata={"help": "tries to load a version after the first failed"})
    load_retry_interval_micros: int = field(default=60_000_000, metadata={"help": "between these tries"})
    saved_model_tags: str = field(default="serve", metadata={"help": "of the graph to load, separated by commas"})
    version: bool = field(default=False, metadata={"help": "print versions and stop"})
    engine: str = field(
        default="auto",
        metadata={"help": "the real tensorflow_model_server, the embedded one, or (auto) the real one if it is there"},
    )
    arguments: tuple[str, ...] = ()
    not_supported: tuple[str, ...] = ()


_OURS = tuple(flag for flag in fields(ServerFlags) if flag.metadata)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        known = ", ".join(f"--{name}" for name in sorted([*(flag.name for flag in _OURS), *_NOT_YET]))
        self.exit(2, f"{self.prog}: {message}\nKnown flags: {known}.\n")


def parse_flags(arguments: Sequence[str], prog: str = "seqattn serve") -> ServerFlags:
    """Reads a command line, `--flag=value` or `--flag value`; a boolean flag may stand alone.

    Exits with 2 and the list of known flags when a flag is unknown or a value is not of its type; with 0 after
    `--help`.
    """
    parser = _Parser(
        prog=prog,
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Serves SavedModels as TensorFlow Serving does, with its flags.",
        epilog="The other flags of tensorflow_model_server are passed on to it; the embedded server names those that "
        "it does without.",
    )
    for flag in _OURS:
        options: dict[str, Any] = {"default": flag.default, "help": flag.metadata["help"]}
        if isinstance(flag.default, bool):
            options |= {"nargs": "?", "const": True, "type": _boolean, "metavar": "BOOL"}
        elif flag.name == "engine":
            options["choices"] = ENGINES
        elif isinstance(flag.default, str):
            options["metavar"] = "TEXT"
        else:
            options |= {"type": _count, "metavar": "N"}
        parser.add_argument(f"--{flag.name}", **options)
    for name in _NOT_YET:
        parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    values = vars(parser.parse_args(list(arguments)))
    not_supported = tuple(name for name in _NOT_YET if values.pop(name) is not None)
    flags = ServerFlags(**values, arguments=_without_engine(arguments), not_supported=not_supported)
    if not flags.version and not flags.model_base_path and not flags.model_config_file:
        parser.error("either --model_base_path or --model_config_file is needed")
    return flags


def arguments_for_binary(flags: ServerFlags, rest_api_port: int) -> list[str]:
    """The command line for the real server: absolute base path, and a REST port where none was given."""
    arguments = [f"--model_base_path={absolute_path(flags.model_base_path)}"] if flags.model_base_path else []
    rest = _without(flags.arguments, "model_base_path")
    if flags.rest_api_port is None and not flags.version:
        arguments.append(f"--rest_api_port={rest_api_port}")
    return [*_joined(rest), *arguments]


def absolute_path(path: str) -> str:
    """Resolves a relative folder; URIs stay."""
    return path if "://" in path else os.path.abspath(path)


def _without_engine(arguments: Sequence[str]) -> tuple[str, ...]:
    return _without(arguments, "engine")


def _without(arguments: Sequence[str], name: str) -> tuple[str, ...]:
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == f"--{name}":
            skip = True
        elif not argument.startswith(f"--{name}="):
            kept.append(argument)
    return tuple(kept)


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--flag value` as `--flag=value`, the only form that the real server reads."""
    joined: list[str] = []
    for argument in arguments:
        if argument.startswith("--") or not joined:
            joined.append(argument)
        else:
            joined[-1] += f"={argument}"
    return joined


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
