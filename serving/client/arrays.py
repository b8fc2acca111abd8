"""NumPy arrays from what callers give, in the dtypes of a signature, and strings as Python has them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_bytes", "as_input", "as_text", "each", "numpy_dtype"]

Array = npt.NDArray[Any]

_NAMES = {"float": "float32", "double": "float64", "half": "float16", "string": "object"}


def numpy_dtype(dtype: str) -> np.dtype[Any] | None:
    """NumPy's dtype of a signature's; None when NumPy has none."""
    try:
        return np.dtype(_NAMES.get(dtype, dtype))
    except TypeError:
        return None


def as_input(value: Any, dtype: str | None, name: str) -> Array:
    """The array of an input.

    Args:
        value: an array, a tensor, or plain values in lists.
        dtype: of the signature, `float`, `int64`, `string`; None is unknown, and the value says it.
        name: of the input, for messages.
    Returns: an array of this dtype; strings are objects, `str` or `bytes` as they were given.
    Raises: ValueError when the values are of another kind, do not fit the dtype, or are no regular tensor.
    """
    if dtype == "string":
        return _strings(value, name)
    try:
        array = np.asarray(value)
        if array.dtype.kind in "SUTO" and dtype is None:
            return _strings(value, name)
        target = None if dtype is None else numpy_dtype(dtype)
        if target is None or array.dtype == target:
            return array
        if target.kind in "iu" and array.dtype.kind in "fO" and not hasattr(value, "dtype"):
            return _integers(value, target)
        if array.size and not _fits(array, target):
            raise ValueError(f"values of dtype {array.dtype}")
        return array.astype(target)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"Input `{name}` takes a regular tensor of {dtype or 'one dtype'}. Received: {error}."
        ) from None


def _integers(value: Any, target: np.dtype[Any]) -> Array:
    """Integers in lists that NumPy takes for floats, as no dtype of its own holds them all."""
    array = np.array(value, dtype=object)
    if not all(isinstance(element, int) for element in array.flat):
        raise ValueError("values that are no integers")
    return array.astype(target)  # OverflowError when one does not fit


def _fits(array: Array, target: np.dtype[Any]) -> bool:
    """Whether the values mean the same in the other dtype, but for a float's last digits."""
    if target.kind == "b":
        return array.dtype.kind == "b"
    if target.kind in "iu":
        if array.dtype.kind not in "iub":
            return False
        limits = np.iinfo(target)
        return bool(int(array.min()) >= limits.min and int(array.max()) <= limits.max)
    return array.dtype.kind in ("iubfcV" if target.kind == "c" else "iubfV")  # V: bfloat16 and its kin


def _strings(value: Any, name: str) -> Array:
    # NumPy's own strings would lose zeros at the end.
    array = np.asarray(value).astype(object) if hasattr(value, "__array__") else np.array(value, dtype=object)
    for element in array.flat:
        if not isinstance(element, str | bytes):
            raise ValueError(
                f"Input `{name}` takes a regular tensor of str or bytes. Received: {element!r:.100} of type "
                f"{type(element).__name__}."
            )
    return array


def each(function: Callable[[Any], Any], array: Array) -> Array:
    """An array of objects: what `function` gives for each element of another one."""
    results = np.empty(array.size, dtype=object)
    for index, element in enumerate(array.flat):
        results[index] = function(element)
    return results.reshape(array.shape)


def as_bytes(text: str | bytes) -> bytes:
    """A string as it is sent: UTF-8."""
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)


def as_text(array: Array, name: str) -> Array:
    """An output of strings as callers get it, from an array of bytes.

    The elements are `str`, but those of an output whose name ends in `_bytes` are `bytes`, as TensorFlow Serving has it
    in JSON. Bytes of a `str` that are no UTF-8 are kept: `text.encode("utf-8", "surrogateescape")` gives them back.
    """
    if name.endswith("_bytes"):
        return array
    return each(lambda element: element.decode("utf-8", "surrogateescape"), array)
