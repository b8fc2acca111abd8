"""How requests are merged into batches, as TensorFlow Serving's `--batching_parameters_file` says it."""

import functools
import itertools
import os
from dataclasses import dataclass, field
from typing import Any

from keras_seqattn.serving.errors import Code, ServingError

__all__ = ["BatchingParameters", "parameters_for_version", "read_batching_parameters"]

_FILE_OF_VERSION = "batching_params.pbtxt"


@dataclass(frozen=True)
class BatchingParameters:
    """The settings of TensorFlow Serving, with its defaults.

    Args:
        max_batch_size: rows of a batch, and of a request, at most.
        batch_timeout_micros: to wait for more rows when a thread is free.
        max_enqueued_batches: that wait for a thread; a request beyond is refused.
        num_batch_threads: batches computed at once.
        thread_pool_name: of these threads; kept, though TensorFlow's op names its threads itself.
        allowed_batch_sizes: in increasing order; a batch is padded up to the next one, none pads nothing.
        pad_variable_length_inputs: pads inputs of different lengths, else they do not go into one batch.
        enable_large_batch_splitting: lets a request of up to `max_batch_size` rows go in several batches.
        max_execution_batch_size: rows of a batch when requests are split; 0 is `max_batch_size`.
    Raises: ServingError, INVALID_ARGUMENT, when the sizes do not fit together.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise _invalid(f"{name} must be positive; was {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise _invalid(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        if self.execution_size > self.max_batch_size:
            raise _invalid(
                f"max_batch_size must be greater than or equal to max_execution_batch_size; was {self.max_batch_size} "
                f"and {self.execution_size}"
            )
        sizes = self.allowed_batch_sizes
        if any(size >= following for size, following in itertools.pairwise(sizes)):
            raise _invalid("allowed_batch_sizes entries must be monotonically increasing")
        if sizes and sizes[-1] != self.execution_size:
            rule = (
                "be equal to max_execution_batch_size" if self.enable_large_batch_splitting else "match max_batch_size"
            )
            raise _invalid(
                f"Last entry in allowed_batch_sizes must {rule}; last entry was {sizes[-1]}; expected "
                f"{self.execution_size}"
            )

    @property
    def execution_size(self) -> int:
        """Rows of a batch at most."""
        splits = self.enable_large_batch_splitting and self.max_execution_batch_size
        return self.max_execution_batch_size if splits else self.max_batch_size


def read_batching_parameters(path: str | os.PathLike[str]) -> BatchingParameters:
    """Reads a text proto `tensorflow.serving.BatchingParameters`.

    Raises: ServingError; NOT_FOUND without the file, INVALID_ARGUMENT when it is no such proto or its sizes do not fit
        together.
    """
    import tensorflow as tf
    from google.protobuf import text_format

    proto = _message_class()()
    try:
        with tf.io.gfile.GFile(os.fspath(path)) as file:
            text_format.Parse(file.read(), proto)
    except tf.errors.OpError as error:
        raise ServingError(
            Code.NOT_FOUND, f"Cannot read the batching parameters file {path}: {error.message}"
        ) from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise _invalid(f"Error parsing text-format tensorflow.serving.BatchingParameters: {path}: {error}") from None
    given = {name.name: getattr(proto, name.name) for name, _ in proto.ListFields()}
    plain: dict[str, Any] = {
        name: tuple(value) if name in _REPEATED else value if name in _PLAIN else value.value
        for name, value in given.items()
    }
    return BatchingParameters(**plain)


def parameters_for_version(
    path: str, common: BatchingParameters | None, *, per_model: bool = False
) -> BatchingParameters | None:
    """The parameters of one version: those for all models, or its own `batching_params.pbtxt`.

    Args:
        path: folder of the version, or URI.
        common: for all models; None is no batching.
        per_model: reads each version's own file, and does not batch those without one.
    Raises: ServingError, INVALID_ARGUMENT.
    """
    import tensorflow as tf

    if not per_model:
        return common
    file = f"{path.rstrip('/')}/{_FILE_OF_VERSION}"
    return read_batching_parameters(file) if tf.io.gfile.exists(file) else None


_WRAPPED = {
    "max_batch_size": "Int64Value",
    "batch_timeout_micros": "Int64Value",
    "max_enqueued_batches": "Int64Value",
    "num_batch_threads": "Int64Value",
    "thread_pool_name": "StringValue",
    "enable_large_batch_splitting": "BoolValue",
    "max_execution_batch_size": "Int64Value",
}
_REPEATED = ("allowed_batch_sizes",)
_PLAIN = ("pad_variable_length_inputs",)


@functools.cache
def _message_class() -> Any:
    """The message, which tensorflow-serving-api leaves out; in a pool of its own, so that nothing else can clash.

    Only names and types count in a text proto, not the numbers of the fields.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

    field_proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="batching_parameters.proto", package="tensorflow.serving")
    file.syntax = "proto3"
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for number, (name, wrapper) in enumerate(_WRAPPED.items(), start=1):
        message.field.add(
            name=name,
            number=number,
            label=field_proto.LABEL_OPTIONAL,
            type=field_proto.TYPE_MESSAGE,
            type_name=f".google.protobuf.{wrapper}",
        )
    for name in _REPEATED:
        message.field.add(name=name, number=101, label=field_proto.LABEL_REPEATED, type=field_proto.TYPE_INT64)
    for name in _PLAIN:
        message.field.add(name=name, number=102, label=field_proto.LABEL_OPTIONAL, type=field_proto.TYPE_BOOL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters"))


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
