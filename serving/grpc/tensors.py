"""`tensorflow.TensorProto` to arrays and back, as TensorFlow itself reads and writes them."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.errors import Code, ServingError

__all__ = ["MAX_FILLED_BYTES", "array_from_proto", "write_proto"]

Array = npt.NDArray[Any]

MAX_FILLED_BYTES = 64 * 2**20  # of a tensor whose shape promises more values than came
_MAX_RANK = 64  # of a NumPy array; TensorFlow itself stops at 254
_STRING_BYTES = 24  # of an empty string in a tensor


@dataclass(frozen=True)
class _Format:
    """How a dtype stands in the proto.

    Args:
        dtype: of the array.
        field: of the values; packed, but for strings.
        stored: what NumPy makes of the field's values before they become the array's dtype, bit by bit where `by_bits`.
        by_bits: the field holds the bits of the value, as an integer or as a byte.
        raw_tag: the tag of the packed field, where its bytes are those of the array.
    """

    dtype: np.dtype[Any]
    field: str
    stored: type[np.generic]
    by_bits: bool = False
    raw_tag: bytes = b""


@cache
def _formats() -> dict[int, _Format]:
    """By number of the dtype. Quantized, reference, resource, variant and four-bit dtypes cannot be sent."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import dtypes

    formats: dict[str, tuple[str, type[np.generic], bool, bytes]] = {
        "FLOAT": ("float_val", np.float32, False, b"\x2a"),
        "DOUBLE": ("double_val", np.float64, False, b"\x32"),
        "COMPLEX64": ("scomplex_val", np.float32, False, b"\x4a"),
        "COMPLEX128": ("dcomplex_val", np.float64, False, b"\x62"),
        "BOOL": ("bool_val", np.bool_, False, b"\x5a"),
        "STRING": ("string_val", np.object_, False, b""),
        "INT64": ("int64_val", np.int64, False, b""),
        "UINT32": ("uint32_val", np.uint32, False, b""),
        "UINT64": ("uint64_val", np.uint64, False, b""),
        "HALF": ("half_val", np.int32, True, b""),
        "BFLOAT16": ("half_val", np.int32, True, b""),
        "FLOAT8_E5M2": ("float8_val", np.uint8, True, b""),
        "FLOAT8_E4M3FN": ("float8_val", np.uint8, True, b""),
    }
    for name in ("INT8", "INT16", "INT32", "UINT8", "UINT16"):
        formats[name] = "int_val", np.int32, False, b""
    made = {}
    for name, (field, stored, by_bits, raw_tag) in formats.items():
        number = types_pb2.DataType.Value(f"DT_{name}")
        dtype = np.dtype(dtypes.as_dtype(number).as_numpy_dtype)
        made[number] = _Format(dtype, field, stored, by_bits, raw_tag)
    return made


@cache
def _number(dtype: str) -> int:
    """The number of a dtype that is named as in messages: `float`, `half`."""
    from tensorflow.core.framework import types_pb2

    number: int = types_pb2.DataType.Value(f"DT_{dtype.upper()}")
    return number


def array_from_proto(proto: Any, name: str) -> Array:
    """Reads a tensor.

    Values stand in `tensor_content` or in the dtype's own field. A field with fewer values than the shape has repeats
    its last one, an empty one is zeros; what is more than the shape is left out.

    Args:
        proto: the TensorProto.
        name: of the input, for the error.
    Returns: strings as an object array of bytes.
    Raises: ServingError, INVALID_ARGUMENT, when TensorFlow would refuse the tensor, or when so few values came for so
        large a shape that filling it up would take more than `MAX_FILLED_BYTES`; memory is taken only afterwards.
    """
    form = _formats().get(proto.dtype)
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if form is None or proto.tensor_shape.unknown_rank or len(shape) > _MAX_RANK or (shape and min(shape) < 0):
        raise _unreadable(name)
    count = math.prod(shape)
    is_string = form.stored is np.object_
    content = proto.tensor_content
    if content:
        if is_string:
            return _shaped(_strings(_split_strings(content, count, name)), shape, name)
        if len(content) != count * form.dtype.itemsize:
            raise _unreadable(name)
        return _shaped(np.frombuffer(content, dtype=form.dtype), shape, name)
    values = getattr(proto, form.field)
    given = len(values)
    if form.dtype.kind == "c":
        given //= 2  # real and imaginary part follow each other
    if given < count and count * (_STRING_BYTES if is_string else form.dtype.itemsize) > MAX_FILLED_BYTES:
        raise _unreadable(name)
    if is_string:
        array = _strings(values[:count])
    else:
        array = _numbers(values, form)[:count]
    if given < count:
        filled: Array = np.zeros(count, dtype=form.dtype)
        if is_string:
            filled[:] = b""
        if given:
            filled[:given] = array
            filled[given:] = array[-1]
        array = filled
    return _shaped(array, shape, name)


def write_proto(proto: Any, array: Array, dtype: str, *, as_content: bool = False) -> None:
    """Writes an array into an empty TensorProto.

    Args:
        proto: is changed.
        array: strings as an object array of bytes.
        dtype: as the signature names it, `half`.
        as_content: puts the values into `tensor_content`, else into the field of the dtype.
    """
    number = _number(dtype)
    form = _formats().get(number)
    if form is None:
        raise ServingError(Code.UNIMPLEMENTED, f"A tensor of type {dtype} cannot be sent.")
    proto.dtype = number
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if not array.size:
        return
    if form.stored is np.object_:
        strings = array.reshape(-1).tolist()
        if as_content:
            proto.tensor_content = b"".join([*(_varint(len(text)) for text in strings), *strings])
        else:
            proto.string_val.extend(strings)
    elif as_content:
        proto.tensor_content = np.ascontiguousarray(array, dtype=form.dtype).tobytes()
    elif form.raw_tag:
        # Merging the packed field as bytes is twenty times as fast as appending the values one by one.
        raw = np.ascontiguousarray(array, dtype=form.dtype).tobytes()
        proto.MergeFromString(form.raw_tag + _varint(len(raw)) + raw)
    elif form.field == "float8_val":
        proto.float8_val = np.ascontiguousarray(array).tobytes()
    else:
        flat = array.reshape(-1)
        getattr(proto, form.field).extend((flat.view(np.uint16) if form.by_bits else flat).tolist())


def _unreadable(name: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, f"tensor parsing error: {name}")


def _shaped(array: Array, shape: list[int], name: str) -> Array:
    try:
        return array.reshape(shape)
    except ValueError:  # without a value, but with other sizes beyond what NumPy can count
        raise _unreadable(name) from None


def _numbers(values: Any, form: _Format) -> Array:
    """The values of a repeated field, all of them, in the array's dtype."""
    if form.field == "float8_val":
        return np.frombuffer(values, dtype=np.uint8).view(form.dtype)
    # protobuf's containers hand their memory over at once; with another dtype NumPy would ask for each value.
    stored: Array = np.array(values, dtype=form.stored)
    if form.dtype.kind == "c":
        return stored[: len(stored) // 2 * 2].view(form.dtype)
    if form.by_bits:
        return stored.astype(np.uint16).view(form.dtype)
    return stored.astype(form.dtype, copy=False)  # narrow integers wrap


def _strings(values: Any) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _split_strings(content: bytes, count: int, name: str) -> list[bytes]:
    """Strings in `tensor_content`: the length of each as varint, then their bytes."""
    if count > len(content):  # each length takes a byte
        raise _unreadable(name)
    at, lengths = 0, []
    for _ in range(count):
        length = shift = 0
        while True:
            if at >= len(content) or shift > 28:
                raise _unreadable(name)
            byte = content[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise _unreadable(name)
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return strings
