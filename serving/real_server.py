"""The real TensorFlow Serving: the binary on this machine, or the command that starts its container."""

import os
import shlex
import shutil
from collections.abc import Sequence

from keras_seqattn.serving.flags import ServerFlags, absolute_path, without
from keras_seqattn.serving.models.model_config import read_config_file

__all__ = ["BINARY", "IMAGE", "arguments_for_binary", "container_command", "find_binary"]

BINARY = "tensorflow_model_server"
IMAGE = "tensorflow/serving:2.20.0"
_FILES = (
    "model_config_file",
    "batching_parameters_file",
    "monitoring_config_file",
    "ssl_config_file",
    "tensorflow_session_config_file",
)


def find_binary() -> str | None:
    """Its path, when it is on the PATH."""
    return shutil.which(BINARY)


def arguments_for_binary(flags: ServerFlags, rest_api_port: int) -> list[str]:
    """The command line for the real server: absolute paths, and a REST port where none was given."""
    arguments = _joined(without(flags.arguments, "model_base_path", *_FILES))
    if flags.model_base_path:
        arguments.append(f"--model_base_path={absolute_path(flags.model_base_path)}")
    for name in _FILES:
        if getattr(flags, name):
            arguments.append(f"--{name}={absolute_path(getattr(flags, name))}")
    if flags.rest_api_port is None and not flags.version:
        arguments.append(f"--rest_api_port={rest_api_port}")
    return arguments


def container_command(flags: ServerFlags, rest_api_port: int) -> str:
    """The shell command that serves the same by Docker: what the server reads is mounted where it lies here.

    Raises: ServingError when the model config file cannot be read, since it names what must be mounted.
    """
    port = rest_api_port if flags.rest_api_port is None else flags.rest_api_port
    paths = [absolute_path(getattr(flags, name)) for name in _FILES if getattr(flags, name)]
    if flags.model_config_file:
        paths += [config.base_path for config in read_config_file(flags.model_config_file)[0]]
    elif flags.model_base_path:
        paths.append(absolute_path(flags.model_base_path))
    command = ["docker", "run", "--rm", "--init"]
    for published in (flags.port, port):
        if published:
            command.append(f"--publish={flags.host}:{published}:{published}")
    local = dict.fromkeys(path for path in paths if "://" not in path)
    command += [f"--mount=type=bind,source={path},target={path},readonly" for path in local]
    command += [f"--entrypoint={BINARY}", IMAGE]
    return " ".join(map(shlex.quote, [*command, *arguments_for_binary(flags, rest_api_port)]))


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--flag value` as `--flag=value`, the only form that the real server reads."""
    joined: list[str] = []
    for argument in arguments:
        if argument.startswith("--") or not joined:
            joined.append(argument)
        else:
            joined[-1] += f"={argument}"
    return joined


def exec_binary(path: str, arguments: Sequence[str]) -> None:
    """Becomes the real server; does not return."""
    os.execv(path, [path, *arguments])
