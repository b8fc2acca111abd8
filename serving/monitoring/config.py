"""`--monitoring_config_file`: whether and where the server tells its metrics."""

import functools
import os
from dataclasses import dataclass
from typing import Any

from keras_seqattn.serving.errors import Code, ServingError

__all__ = ["DEFAULT_PATH", "MonitoringConfig", "read_monitoring_config"]

DEFAULT_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class MonitoringConfig:
    """What the file says.

    Args:
        enable: whether there are metrics at all.
        path: of their page, on the REST port.
    """

    enable: bool = False
    path: str = DEFAULT_PATH


def read_monitoring_config(path: str | os.PathLike[str]) -> MonitoringConfig:
    """Reads a text proto `tensorflow.serving.MonitoringConfig`.

    Raises: ServingError; NOT_FOUND without the file, INVALID_ARGUMENT when it is not such a proto or the page's path
        does not begin with a slash.
    """
    from google.protobuf import text_format

    proto = _message_class()()
    try:
        with open(path, encoding="utf-8") as file:
            text_format.Parse(file.read(), proto)
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"Cannot read the monitoring config file {path}: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"Error parsing text-format tensorflow.serving.MonitoringConfig: {path}: {error}"
        ) from None
    page = proto.prometheus_config.path or DEFAULT_PATH
    if not page.startswith("/"):
        raise ServingError(Code.INVALID_ARGUMENT, f"{path}: the path of a page begins with a slash; got {page}")
    return MonitoringConfig(proto.prometheus_config.enable, page)


@functools.cache
def _message_class() -> Any:
    """The message of tensorflow_serving/config/monitoring_config.proto, which tensorflow-serving-api leaves out."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow_serving/config/monitoring_config.proto", package="tensorflow.serving", syntax="proto3"
    )
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=field.TYPE_BOOL, label=field.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.serving.PrometheusConfig",
        label=field.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()  # our own: a later tensorflow-serving-api may bring the file after all
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.MonitoringConfig"))
