"""What a model can be asked for: the tensors of its signatures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DEFAULT_SIGNATURE", "Signature", "TensorSpec", "signature_from_proto"]

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Args:
        tensor_name: its name in the graph, `serving_default_text:0`.
        dtype: as TensorFlow's messages write it: `float`, `double`, `int64`, `string`, `bool`, `half`, ...
        shape: None for an unknown rank, -1 for an unknown size. Told to clients, never enforced.
    """

    tensor_name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs by the names that clients use, in alphabetical order."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""


def signature_from_proto(signature_def: Any) -> Signature:
    """Reads a `tensorflow.SignatureDef`."""
    from tensorflow.core.framework import types_pb2

    def spec(info: Any) -> TensorSpec:
        shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
        return TensorSpec(info.name, types_pb2.DataType.Name(info.dtype).removeprefix("DT_").lower(), shape)

    return Signature(
        inputs={name: spec(signature_def.inputs[name]) for name in sorted(signature_def.inputs)},
        outputs={name: spec(signature_def.outputs[name]) for name in sorted(signature_def.outputs)},
        method_name=signature_def.method_name,
    )
