"""`tf.train.Example`s from plain values: for JSON, and as protos."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_seqattn.serving.client.arrays import as_bytes

__all__ = ["example_proto", "features_of"]


def features_of(example: Any) -> dict[str, list[Any]]:
    """The features of an example, each a list of int, of float, of str or of bytes.

    Args:
        example: a dictionary from names to a value, a list of values or an array; or a `tf.train.Example`.
    Raises: ValueError for values of another kind, or of several.
    """
    if hasattr(example, "features"):
        protos = example.features.feature
        return {name: list(getattr(proto, proto.WhichOneof("kind")).value) for name, proto in protos.items()}
    if not isinstance(example, Mapping):
        raise ValueError(f"An example is a dictionary of features. Received: {example!r:.100}.")
    return {name: _values(name, value) for name, value in example.items()}


def _values(name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes):
        return [value]
    values = np.ravel(value).tolist() if isinstance(value, np.ndarray | np.generic) else value
    values = list(values) if isinstance(values, list | tuple) else [values]
    values = [one.item() if isinstance(one, np.generic) else one for one in values]
    if values and all(isinstance(one, str | bytes) for one in values):
        return values
    if any(isinstance(one, bool) for one in values) or all(isinstance(one, int) for one in values):
        if all(isinstance(one, int) for one in values):
            return [int(one) for one in values]
    elif all(isinstance(one, int | float) for one in values):
        return [float(one) for one in values]
    raise ValueError(f"Feature `{name}` takes numbers, or str and bytes. Received: {value!r:.100}.")


def example_proto(example: Any) -> Any:
    """The `tf.train.Example`."""
    from tensorflow.core.example import example_pb2

    if isinstance(example, example_pb2.Example):
        return example
    proto = example_pb2.Example()
    for name, values in features_of(example).items():
        feature = proto.features.feature[name]
        if all(isinstance(one, str | bytes) for one in values) and values:
            feature.bytes_list.value.extend(as_bytes(one) for one in values)
        elif all(isinstance(one, int) for one in values):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return proto
