"""Which models to serve, from where, and which of their versions."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.optional import packages_of_extra

__all__ = [
    "ModelConfig",
    "VersionPolicy",
    "check_configs",
    "configs_from",
    "configs_from_proto",
    "read_config_file",
]

_PLATFORM = "tensorflow"


@dataclass(frozen=True)
class VersionPolicy:
    """Which version folders are wanted: the `latest` ones, or `all`, or the `specific` numbers.

    Args:
        kind: `latest`, `all` or `specific`.
        num_versions: for `latest`, how many of the highest numbers.
        versions: for `specific`.
    """

    kind: str = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, present: Iterable[int]) -> set[int]:
        """The wanted ones among the versions that are present."""
        if self.kind == "all":
            return set(present)
        if self.kind == "specific":
            return set(self.versions) & set(present)
        return set(sorted(present, reverse=True)[: self.num_versions])


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Args:
        name: as in URLs.
        base_path: absolute folder, or URI, with one folder a version: `<base_path>/<integer>/saved_model.pb`.
        policy: the versions to serve.
        labels: names of versions, `{"stable": 2}`, by which requests may ask for them.
    """

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict, hash=False)


def check_configs(configs: Iterable[ModelConfig]) -> tuple[ModelConfig, ...]:
    """Returns the configs.

    Raises: ServingError, INVALID_ARGUMENT, when two share a name or a path is relative.
    """
    configs = tuple(configs)
    seen: set[str] = set()
    for config in configs:
        if config.name in seen:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Illegal to list model {config.name} multiple times in config list"
            )
        seen.add(config.name)
        if not os.path.isabs(config.base_path) and "://" not in config.base_path:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}",
            )
    return configs


def read_config_file(path: str | os.PathLike[str]) -> tuple[tuple[ModelConfig, ...], tuple[str, ...]]:
    """Reads a text proto ModelServerConfig.

    Returns: the configs, and a sentence for each setting in the file that this server does not keep yet.
    Raises: ServingError; NOT_FOUND without the file, INVALID_ARGUMENT when it is not such a proto or breaks a rule.
    """
    from google.protobuf import text_format

    with packages_of_extra("serving"):
        from tensorflow_serving.config import model_server_config_pb2

    proto = model_server_config_pb2.ModelServerConfig()
    try:
        with open(path, encoding="utf-8") as file:
            text_format.Parse(file.read(), proto)
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"Cannot read the model config file {path}: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Error parsing text-format tensorflow.serving.ModelServerConfig: {path}: {error}",
        ) from None
    return configs_from_proto(proto), tuple(
        f"Model {config.name}: logging_config is not supported yet; no request is logged."
        for config in proto.model_config_list.config
        if config.HasField("logging_config")
    )


def configs_from_proto(proto: Any) -> tuple[ModelConfig, ...]:
    """The configs in a `tensorflow.serving.ModelServerConfig`.

    Raises: ServingError, INVALID_ARGUMENT, when it is of another kind than a list, or breaks a rule.
    """
    if proto.WhichOneof("config") == "custom_model_config":
        raise ServingError(
            Code.INVALID_ARGUMENT, "Request config type is not supported. Only ModelConfigList is currently supported."
        )
    configs = check_configs(
        ModelConfig(
            name=config.name,
            base_path=config.base_path,
            policy=_policy(config.model_version_policy),
            labels=dict(config.version_labels),
        )
        for config in proto.model_config_list.config
    )
    for config in proto.model_config_list.config:
        _check_platform(config)
    return configs


def _check_platform(config: Any) -> None:
    """TensorFlow Serving wants `model_platform` written out, or the older `model_type`, but not both."""
    if config.model_type and config.model_platform:
        problem = (
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    elif config.model_type > 1:  # 1 is TENSORFLOW
        problem = f"ModelServerConfig::model_type choice {config.model_type} not supported."
    elif not config.model_type and not config.model_platform:
        problem = (
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    elif config.model_platform not in ("", _PLATFORM):
        problem = f"Model {config.name} requests unsupported platform {config.model_platform}"
    else:
        return
    raise ServingError(Code.INVALID_ARGUMENT, problem)


def _policy(proto: Any) -> VersionPolicy:
    kind = proto.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy("all")
    if kind == "specific":
        if not proto.specific.versions:
            raise ServingError(Code.INVALID_ARGUMENT, "A specific version policy needs at least one version.")
        return VersionPolicy("specific", versions=tuple(proto.specific.versions))
    return VersionPolicy("latest", num_versions=proto.latest.num_versions or 1)


def configs_from(models: Mapping[str, str | os.PathLike[str]]) -> tuple[ModelConfig, ...]:
    """Configs of models by name, each with the folder that holds its versions; relative folders are resolved."""
    paths = {name: os.fspath(path) for name, path in models.items()}
    return check_configs(
        ModelConfig(name, path if "://" in path else os.path.abspath(path)) for name, path in paths.items()
    )
