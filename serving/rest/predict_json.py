"""The bodies of `:predict`: JSON to arrays by the signature's dtypes, and arrays to JSON.

A request is read twice at most: `_array_of` takes a regular tensor in a few passes that run in C; whatever it refuses
goes to `_Walk`, which visits each value in order and words the error as TensorFlow Serving does.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from keras_seqattn.serving.rest import json_text
from keras_seqattn.serving.rest.base64_json import decode_base64, is_base64
from keras_seqattn.serving.rest.json_dialect import parse, utf8

__all__ = ["PredictInputs", "object_from", "read_predict", "signature_name_from", "write_predict"]

Array = npt.NDArray[Any]

# dtype of the signature: the array's dtype, and the literals that may stand for it (ends included).
_INTEGERS: dict[str, tuple[type[np.generic], int, int]] = {
    "int8": (np.int8, -(2**31), 2**31 - 1),  # as any 32 bit integer; the narrow types wrap
    "int16": (np.int16, -(2**31), 2**31 - 1),
    "uint8": (np.uint8, -(2**31), 2**31 - 1),
    "int32": (np.int32, -(2**31), 2**31 - 1),
    "uint32": (np.uint32, 0, 2**32 - 1),
    "int64": (np.int64, -(2**63), 2**63 - 1),
    "uint64": (np.uint64, 0, 2**64 - 1),
}
_FLOATS: dict[str, type[np.generic]] = {"float": np.float32, "double": np.float64}
_MAX_RANK = 64  # of a NumPy array; TensorFlow itself stops at 254


@dataclass(frozen=True)
class PredictInputs:
    """The inputs of a run; `by_row` says which form of answer the client expects."""

    arrays: dict[str, Array]
    by_row: bool


def object_from(body: bytes) -> dict[str, Any]:
    """Reads a request body.

    Raises: ServingError, INVALID_ARGUMENT, when it is not JSON or not an object.
    """
    document = parse(body)
    if not isinstance(document, dict):
        raise _invalid(f"JSON Value: {json_text.quote(document)} Is not object")
    return document


def signature_name_from(document: Mapping[str, Any]) -> str:
    """The signature that a request asks for; absent or empty means `serving_default`."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _invalid(
            f"JSON Value: {json_text.quote(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name or DEFAULT_SIGNATURE


def read_predict(document: Mapping[str, Any], signature: Signature, signature_name: str) -> PredictInputs:
    """Reads `instances` (one tensor without batch dimension an element) or `inputs` (whole tensors).

    Raises: ServingError with the code and text of TensorFlow Serving.
    """
    if not signature.inputs:
        shown = "DEFAULT" if signature_name == DEFAULT_SIGNATURE else signature_name
        raise _invalid(f"Failed to get input map for signature: {shown}")
    if "instances" in document and "inputs" in document:
        raise _invalid(
            f"JSON Value: {json_text.quote(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise _invalid(f"JSON Value: {json_text.quote(document)} Expecting 'instances' to be an list/array")
        if not instances:
            raise _invalid(f"JSON Value: {json_text.quote(document)} No values in 'instances' array")
        return PredictInputs(_arrays_of_rows(instances, signature.inputs), by_row=True)
    if "inputs" in document:
        return PredictInputs(_arrays_of_columns(document["inputs"], signature.inputs), by_row=False)
    raise _invalid("Missing 'inputs' or 'instances' key")


def write_predict(outputs: Mapping[str, Array], specs: Mapping[str, TensorSpec], *, by_row: bool) -> bytes:
    """Writes the answer: `predictions` for rows, `outputs` for columns.

    Args:
        outputs: the arrays of a run.
        specs: the signature's outputs, of the same names.
        by_row: as in the request.
    Raises: ServingError, INVALID_ARGUMENT, for a dtype that JSON cannot hold or for rows that do not match.
    """
    text = _write_rows(outputs, specs) if by_row else _write_columns(outputs, specs)
    return text.encode("utf-8", "surrogateescape")


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)


# Reading.


def _arrays_of_rows(instances: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if len(specs) > 1 and not isinstance(instances[0], dict):
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    count = len(instances)
    columns: dict[str, list[Any]]
    if not _is_object_of_inputs(instances[0]):
        name = next(iter(specs))
        if not any(_is_object_of_inputs(element) for element in instances):
            array = _array_of(instances, [count, *_dense_shape(instances[0])], specs[name])
            if array is not None:
                return {name: array}
        return _rows_one_by_one(instances, specs)
    if all(_is_object_of_inputs(element) and element.keys() == specs.keys() for element in instances):
        columns = {name: [element[name] for element in instances] for name in specs}
        arrays = {
            name: _array_of(column, [count, *_dense_shape(column[0])], specs[name]) for name, column in columns.items()
        }
        found = {name: array for name, array in arrays.items() if array is not None}
        if len(found) == len(arrays):
            return found
    return _rows_one_by_one(instances, specs)


def _rows_one_by_one(instances: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """Reads rows in document order; finds the first error."""
    walks = {name: _Walk(spec) for name, spec in specs.items()}
    objects = _is_object_of_inputs(instances[0])
    for index, element in enumerate(instances):
        if objects != _is_object_of_inputs(element):
            found = "object but got list" if objects else "value/list but got object"
            raise _invalid(f"Expecting {found} at item {index} of input list")
        if not objects:
            name = next(iter(specs))
            try:
                walks[name].add_row(element)
            except ServingError as error:
                raise _invalid(f"Failed to process element: {index} of 'instances' list. Error: {error}") from None
            continue
        for name, value in element.items():
            try:
                if name not in specs:
                    raise _invalid(f"JSON object: does not have named input: {name}")
                walks[name].add_row(value)
            except ServingError as error:
                raise _invalid(
                    f"Failed to process element: {index} key: {name} of 'instances' list. Error: {error}"
                ) from None
        if element.keys() != specs.keys():
            raise _invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {json_text.quote(element)} "
                f"keys must be equal to: {','.join(sorted(specs))}"
            )
    return {
        name: walk.array([len(instances), *walk.row_shape], name)
        for name, walk in walks.items()
        if walk.row_shape is not None
    }


def _arrays_of_columns(inputs: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not _is_object_of_inputs(inputs):
        if len(specs) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        inputs = {next(iter(specs)): inputs}
    arrays = {}
    for name, spec in specs.items():
        if name not in inputs:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
        value = inputs[name]
        shape = _dense_shape(value)
        array = _array_of([value], [1, *shape], spec)
        if array is not None:
            arrays[name] = array.reshape(shape)
        else:
            walk = _Walk(spec)
            walk.add(value, shape)
            arrays[name] = walk.array(shape, name)
    return arrays


def _is_object_of_inputs(value: Any) -> bool:
    """Whether an object names inputs; `{"b64": "..."}` is a value."""
    return isinstance(value, dict) and not is_base64(value)


def _dense_shape(value: Any) -> list[int]:
    """The shape that the first elements promise."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _array_of(values: list[Any], shape: list[int], spec: TensorSpec) -> Array | None:
    """Makes an array of `shape` from nested lists; None when they do not fit it, or hold what `spec` does not take."""
    if len(shape) > _MAX_RANK:
        return None
    for size in shape[1:]:
        if not all(isinstance(value, list) and len(value) == size for value in values):
            return None
        values = list(chain.from_iterable(values))
    array = _flat_array(values, spec.dtype)
    return None if array is None else array.reshape(shape)


def _flat_array(values: list[Any], dtype: str) -> Array | None:
    """Makes an array from values of the right JSON types; None when one is not."""
    kinds = set(map(type, values))
    if dtype in _FLOATS:
        if not kinds <= {int, float}:
            return None
        with np.errstate(over="ignore"):  # beyond float32 is infinity
            return np.array(values, dtype=np.float64).astype(_FLOATS[dtype])
    if dtype in _INTEGERS:
        wanted, least, greatest = _INTEGERS[dtype]
        if not kinds <= {int} or (values and not (least <= min(values) and max(values) <= greatest)):
            return None
        return np.array(values, dtype=np.uint64 if dtype == "uint64" else np.int64).astype(wanted)
    if dtype == "bool":
        return np.array(values, dtype=np.bool_) if kinds <= {bool} else None
    if dtype == "string" and kinds <= {str, dict}:
        array = np.empty(len(values), dtype=object)
        try:
            array[:] = [utf8(value) if isinstance(value, str) else decode_base64(value) for value in values]
        except ServingError:
            return None
        return array
    return None


class _Walk:
    """Collects the values of one input in document order and checks each."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self.values: list[Any] = []
        self.row_shape: list[int] | None = None
        self.row_size = 0

    def add_row(self, value: Any) -> None:
        """Adds one instance; all must have the size and shape of the first."""
        shape = _dense_shape(value)
        size = self.add(value, shape)
        if self.row_shape is None:
            self.row_shape, self.row_size = shape, size
        elif size != self.row_size:
            raise _invalid(f"Expecting tensor size: {self.row_size} but got: {size}")
        elif shape != self.row_shape:
            raise _invalid(f"Expecting shape {_show_shape(self.row_shape)} but got: {_show_shape(shape)}")

    def add(self, value: Any, shape: Sequence[int]) -> int:
        """Adds the values of a tensor of `shape`; returns how many."""
        before = len(self.values)
        rank = len(shape)
        open_lists: list[Iterator[Any]] = [iter((value,))]  # by hand: a tensor may nest deeper than Python recurses
        while open_lists:
            level = len(open_lists) - 1
            for item in open_lists[-1]:
                if not isinstance(item, list):
                    if level != rank:
                        raise _invalid(
                            f"JSON Value: {json_text.quote(item)} found at incorrect level: {level + 1} in the JSON "
                            f"DOM. Expected at level: {rank}"
                        )
                    self.values.append(self._checked(item))
                    continue
                if level >= rank:
                    raise _invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
                if len(item) != shape[level]:
                    raise _invalid(
                        f"Encountered list at unexpected size: {len(item)} at level: {level} "
                        f"expected size: {shape[level]}"
                    )
                open_lists.append(iter(item))
                break
            else:
                open_lists.pop()
        return len(self.values) - before

    def array(self, shape: list[int], name: str) -> Array:
        """All values as an array of `shape`."""
        if len(shape) > _MAX_RANK:
            raise _invalid(f"tensor parsing error: {name}")
        array = _flat_array(self.values, self.spec.dtype)
        if array is None:  # an empty list for a dtype that has no literals
            raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: [] to type: {self.spec.dtype}")
        return array.reshape(shape)

    def _checked(self, value: Any) -> Any:
        dtype = self.spec.dtype
        if isinstance(value, dict):
            if dtype != "string":
                raise self._type_error(value)
            decode_base64(value)
            return value
        if dtype in _FLOATS:
            fits = type(value) in (int, float)
        elif dtype in _INTEGERS:
            _, least, greatest = _INTEGERS[dtype]
            fits = type(value) is int and least <= value <= greatest
        elif dtype == "bool":
            fits = isinstance(value, bool)
        elif dtype == "string":
            fits = isinstance(value, str)
        else:
            raise ServingError(
                Code.UNIMPLEMENTED, f"Conversion of JSON Value: {json_text.quote(value)} to type: {dtype}"
            )
        if not fits:
            raise self._type_error(value)
        return value

    def _type_error(self, value: Any) -> ServingError:
        return _invalid(
            f"JSON Value: {json_text.quote(value)} Type: {json_text.type_name(value)} "
            f"is not of expected type: {self.spec.dtype}"
        )


def _show_shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


# Writing.


def _write_rows(outputs: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> str:
    count = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise _invalid(f"Tensor name: {name} has no shape information ")
        if count >= 0 and len(array) != count:
            raise _invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}")
        count = len(array)
    start = f'{{{json_text.indent(1)}"predictions": ['
    end = "]\n}" if not count else f"{json_text.indent(1)}]\n}}"
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        # The lists of a row stand on one line, so the rows follow each other on one line, too.
        rows = _write_tensors(name, array, specs[name].dtype, count, array.shape[1:], depth=2, single_line=True)
        return start + ", ".join(rows) + end
    columns = [
        [
            f"{json_text.indent(3)}{json_text.string(name)}: {text}"
            for text in _write_tensors(
                name, array, specs[name].dtype, count, array.shape[1:], depth=3, single_line=True
            )
        ]
        for name, array in outputs.items()
    ]
    objects = (
        f"{json_text.indent(2)}{{{','.join(members)}{json_text.indent(2)}}}" for members in zip(*columns, strict=True)
    )
    return start + ",".join(objects) + end


def _write_columns(outputs: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> str:
    start = f'{{{json_text.indent(1)}"outputs": '
    depth = 1 if len(outputs) == 1 else 2
    texts = {
        name: _write_tensors(name, array, specs[name].dtype, 1, array.shape, depth=depth, single_line=False)[0]
        for name, array in outputs.items()
    }
    if len(outputs) == 1:
        return start + next(iter(texts.values())) + "\n}"
    members = ",".join(f"{json_text.indent(2)}{json_text.string(name)}: {text}" for name, text in texts.items())
    return f"{start}{{{members}{json_text.indent(1)}}}\n}}"


def _write_tensors(
    name: str, array: Array, dtype: str, count: int, shape: Sequence[int], *, depth: int, single_line: bool
) -> list[str]:
    """Writes an array as `count` tensors of `shape`; a string output named `..._bytes` is written in base64."""
    flat = array.reshape(-1)
    if dtype in _FLOATS:
        items = json_text.decimals(flat)
    elif dtype in _INTEGERS:
        items = list(map(str, flat.tolist()))
    elif dtype == "bool":
        items = ["true" if value else "false" for value in flat.tolist()]
    elif dtype == "string":
        if name.endswith("_bytes"):
            at = depth + len(shape)
            start, end = f'{{{json_text.indent(at + 1)}"b64": "', f'"{json_text.indent(at)}}}'
            items = [start + base64.b64encode(value).decode() + end for value in flat.tolist()]
        else:
            items = [json_text.string(value.decode("utf-8", "surrogateescape")) for value in flat.tolist()]
    elif flat.size:
        raise _invalid(f"Failed to write JSON value for tensor type: {dtype}")
    else:
        items = []
    return json_text.nested(items, count, shape, depth, single_line=single_line)
