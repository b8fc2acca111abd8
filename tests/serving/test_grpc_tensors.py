"""TensorProto to arrays and back (contract section 8), compared with what TensorFlow's parser makes of it."""

import time
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.grpc.tensors import MAX_FILLED_BYTES, array_from_proto, write_proto

NUMBERS = (
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex64", "complex128", "float8_e5m2", "float8_e4m3fn",
)  # fmt: skip
IN_MESSAGES = {"float16": "half", "float32": "float", "float64": "double"}


def values(name: str) -> Any:
    """Six values of a dtype, (2, 3), its extremes among them."""
    import tensorflow as tf

    dtype = tf.as_dtype(name)
    array = np.array([0, 1, 2, 3, 0, 1]).astype(dtype.as_numpy_dtype)
    if dtype.is_complex:
        array[4:] = -5 + 7j, 11j
    elif not dtype.is_bool:
        array[4], array[5] = dtype.min, dtype.max
    return array.reshape(2, 3)


def proto(text: str) -> Any:
    from google.protobuf import text_format
    from tensorflow.core.framework import tensor_pb2

    return text_format.Parse(text, tensor_pb2.TensorProto())


def shape(*sizes: int) -> str:
    return "tensor_shape {" + " ".join(f"dim {{ size: {size} }}" for size in sizes) + "}"


def parsed_by_tensorflow(message: Any) -> Any:
    """What the C++ parser gives: a constant is made of a proto as a request's tensor is."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        node = graph.as_graph_def().node.add(name="x", op="Const")
        node.attr["dtype"].type = message.dtype
        node.attr["value"].tensor.CopyFrom(message)
        definition = graph.as_graph_def()
        definition.node.append(node)
        tf.import_graph_def(definition, name="")
        with tf.compat.v1.Session() as session:
            return session.run("x:0")


@pytest.mark.rule("grpc.tensors-in", "grpc.tensors-out", "grpc.every-dtype")
@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("as_content", [False, True])
def test_every_dtype_goes_both_ways(name: str, as_content: bool) -> None:
    """Contract 8: out by typed fields, or tensor_content by option; all dtypes work, in either form."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    array = values(name)
    written = tensor_pb2.TensorProto()
    write_proto(written, array, IN_MESSAGES.get(name, name), as_content=as_content)
    assert bool(written.tensor_content) == as_content
    assert written.dtype == tf.as_dtype(name).as_datatype_enum
    fields = [field.name for field, _ in written.ListFields()]
    assert len(fields) == 3  # dtype, shape and one with the values
    np.testing.assert_array_equal(parsed_by_tensorflow(written), array)
    read = array_from_proto(written, "x")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.rule("grpc.tensors-in", "grpc.tensors-out", "grpc.every-dtype")
@pytest.mark.parametrize("as_content", [False, True])
def test_strings_go_both_ways(as_content: bool) -> None:
    from tensorflow.core.framework import tensor_pb2

    array = np.array([[b"a", b"", b"\xff\x00"], ["é".encode(), b"x" * 300, b"b"]], dtype=object)
    written = tensor_pb2.TensorProto()
    write_proto(written, array, "string", as_content=as_content)
    assert bool(written.tensor_content) == as_content
    np.testing.assert_array_equal(parsed_by_tensorflow(written), array)
    np.testing.assert_array_equal(array_from_proto(written, "x"), array)


@pytest.mark.parametrize("name", ["float32", "int32", "string", "bool"])
def test_scalars_and_empty_tensors_go_both_ways(name: str) -> None:
    from tensorflow.core.framework import tensor_pb2

    for sizes in ((), (0,), (2, 0, 3)):
        array = np.zeros(sizes, dtype=object if name == "string" else name)
        if name == "string":
            array[...] = b"a"
        written = tensor_pb2.TensorProto()
        write_proto(written, array, IN_MESSAGES.get(name, name))
        read = array_from_proto(written, "x")
        assert (read.shape, read.dtype) == (sizes, array.dtype)
        np.testing.assert_array_equal(read, array)


@pytest.mark.rule("grpc.tensors-in")
@pytest.mark.parametrize(
    "text",
    [
        f"dtype: DT_FLOAT {shape(2, 3)} float_val: [1, 2]",
        f"dtype: DT_FLOAT {shape(2, 3)}",
        f"dtype: DT_FLOAT {shape(2)} float_val: [1, 2, 3, 4]",
        f"dtype: DT_INT64 {shape(4)} int64_val: 7",
        f"dtype: DT_STRING {shape(3)} string_val: 'a'",
        f"dtype: DT_STRING {shape(3)}",
        f"dtype: DT_BOOL {shape(3)} bool_val: true",
        f"dtype: DT_COMPLEX64 {shape(3)} scomplex_val: [1, 2, 3, 4]",
        f"dtype: DT_HALF {shape(3)} half_val: [15360, 16384]",
        "dtype: DT_DOUBLE double_val: 5",
        "dtype: DT_DOUBLE",
        f"dtype: DT_INT8 {shape(3)} int_val: [300, -1]",
        f"dtype: DT_UINT8 {shape(2)} int_val: [300, -1]",
    ],
)
def test_short_fields_are_filled_as_tensorflow_fills_them(text: str) -> None:
    """Contract 8: a short list repeats its last value, an empty one is zeros; narrow integers wrap."""
    message = proto(text)
    read = array_from_proto(message, "x")
    expected = np.asarray(parsed_by_tensorflow(message))
    assert read.shape == expected.shape
    np.testing.assert_array_equal(read, expected)


@pytest.mark.rule("grpc.unreadable-tensors")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "dtype: DT_INVALID",
        "dtype: DT_FLOAT_REF",
        "dtype: DT_RESOURCE",
        "dtype: DT_VARIANT",
        f"dtype: DT_FLOAT {shape(-1)}",
        f"dtype: DT_FLOAT {shape(2, -5)} float_val: 1",
        "dtype: DT_FLOAT tensor_shape { unknown_rank: true }",
        f"dtype: DT_FLOAT {shape(*[1] * 300)} float_val: 1",
        f"dtype: DT_FLOAT {shape(2)} tensor_content: '1234567'",
        f"dtype: DT_FLOAT {shape(2)} tensor_content: '123456789'",
        f"dtype: DT_FLOAT {shape(2**40)} tensor_content: '1234'",
        f"dtype: DT_STRING {shape(2)} tensor_content: '\\001\\001a'",
        f"dtype: DT_STRING {shape(1)} tensor_content: '\\377\\377\\377\\377\\377\\377a'",
        f"dtype: DT_STRING {shape(2**40)} tensor_content: '\\001a'",
    ],
)
def test_unreadable_tensors_are_refused(text: str) -> None:
    """Contract 8: `tensor parsing error: x`."""
    with pytest.raises(ServingError, match="^INVALID_ARGUMENT: tensor parsing error: x$") as raised:
        array_from_proto(proto(text), "x")
    assert raised.value.code == Code.INVALID_ARGUMENT


@pytest.mark.rule("grpc.unreadable-tensors")
@pytest.mark.parametrize("dtype", ["DT_FLOAT", "DT_STRING", "DT_BOOL", "DT_COMPLEX128"])
@pytest.mark.parametrize(
    "sizes", [(2**40,), (2**31, 2**31), (2**62, 2**62, 2**62), (2**63 - 1,), (0, 2**62, 2**62, 2**62)]
)
def test_a_huge_shape_with_little_content_takes_neither_time_nor_memory(dtype: str, sizes: tuple[int, ...]) -> None:
    import tracemalloc

    message = proto(f"dtype: {dtype} {shape(*sizes)}")
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(ServingError, match="tensor parsing error: x"):
        array_from_proto(message, "x")
    assert time.perf_counter() - started < 0.1
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.rule("grpc.unreadable-tensors")
def test_a_constant_in_one_value_may_be_large() -> None:
    count = MAX_FILLED_BYTES // 4
    read = array_from_proto(proto(f"dtype: DT_FLOAT {shape(count)} float_val: 2"), "x")
    assert (read.shape, read[0], read[-1]) == ((count,), 2.0, 2.0)
    with pytest.raises(ServingError, match="tensor parsing error"):
        array_from_proto(proto(f"dtype: DT_FLOAT {shape(count + 1)} float_val: 2"), "x")
