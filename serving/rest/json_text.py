"""JSON as TensorFlow Serving writes it: RapidJSON's pretty writer and its own way with decimals."""

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.rest.json_dialect import utf8

__all__ = ["decimals", "error_document", "indent", "nested", "quote", "string", "type_name"]

QUOTE_BYTES = 256  # an error message quotes about this much of the request

_SPECIAL = re.compile(r'[\x00-\x1f"\\]')
_ESCAPES = {
    **{chr(code): f"\\u{code:04X}" for code in range(0x20)},
    **{"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"},
}


def string(text: str) -> str:
    """A JSON string. Only quotes, backslashes and control characters are escaped."""
    return '"' + _SPECIAL.sub(lambda match: _ESCAPES[match.group()], text) + '"'


def indent(depth: int) -> str:
    """The start of a new line inside `depth` open containers."""
    return "\n" + " " * (4 * depth)


def error_document(message: str) -> bytes:
    """The body of an error reply."""
    return f'{{{indent(1)}"error": {string(message)}\n}}'.encode("utf-8", "surrogateescape")


def decimals(values: npt.NDArray[Any]) -> list[str]:
    """Writes float32 or float64 values, shape (N,), so that reading gives the same value again.

    Six significant digits where they are enough, else 9 (float32) or 17 (float64). Whole numbers end in `.0` unless
    they have an exponent.
    """
    finite = np.isfinite(values)
    if not finite.all():
        texts = np.empty(len(values), dtype=object)
        texts[finite] = decimals(values[finite])
        for index in np.flatnonzero(~finite):
            value = values[index]
            texts[index] = "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return list(texts)
    if not len(values):
        return []
    numbers = values.tolist()
    # One format operation for all is three times as fast as one for each.
    short = (" %.6g" * len(numbers) % tuple(numbers)).split()
    with np.errstate(over="ignore"):
        changed = np.flatnonzero(np.array(short, dtype=np.float64).astype(values.dtype) != values)
    if len(changed):
        digits = 9 if values.dtype == np.float32 else 17
        long = (f" %.{digits}g" * len(changed) % tuple(values[changed].tolist())).split()
        for position, text in zip(changed.tolist(), long, strict=True):
            short[position] = text
    return [text if "." in text or "e" in text else text + ".0" for text in short]


def nested(items: list[str], count: int, shape: Sequence[int], depth: int, *, single_line: bool) -> list[str]:
    """Wraps the values of `count` tensors of one shape into nested lists.

    Args:
        items: the written values of all tensors, one tensor after the other.
        count: how many tensors.
        shape: of each tensor.
        depth: how many containers are open around each tensor.
        single_line: lists on one line, else each element on its own.
    Returns: one text a tensor.
    """
    for axis in reversed(range(len(shape))):
        size = shape[axis]
        lists = count * math.prod(shape[:axis])
        if not size:
            items = ["[]"] * lists
            continue
        if single_line:
            opening, comma, closing = "[", ", ", "]"
        else:
            opening, comma, closing = (
                "[" + indent(depth + axis + 1),
                "," + indent(depth + axis + 1),
                indent(depth + axis) + "]",
            )
        items = [opening + comma.join(items[i : i + size]) + closing for i in range(0, lists * size, size)]
    return items


def type_name(value: Any) -> str:
    """What the messages call the type of a parsed JSON value."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def quote(value: Any) -> str:
    """Quotes a parsed JSON value in a message; stops with the value that passes 256 bytes."""
    if isinstance(value, float):
        within_float = not math.isnan(value) and abs(value) <= float(np.finfo(np.float32).max)
        return decimals(np.array([value], dtype=np.float32 if within_float else np.float64))[0]
    pieces: list[str] = []
    _quote_into(pieces, value, 0, 0)
    return "".join(pieces)


def _quote_into(pieces: list[str], value: Any, depth: int, written: int) -> int:
    """Appends the quoted value; returns the bytes written so far. The limit also bounds the recursion."""

    def put(text: str) -> None:
        nonlocal written
        pieces.append(text)
        written += len(utf8(text))

    if isinstance(value, dict | list):
        is_object = isinstance(value, dict)
        put("{" if is_object else "[")
        for index, item in enumerate(value):
            if written > QUOTE_BYTES:
                return written
            put(("," if index else "") + indent(depth + 1))
            if is_object:
                put(string(item) + ": ")
                item = value[item]
            if written > QUOTE_BYTES:
                return written
            written = _quote_into(pieces, item, depth + 1, written)
        if written > QUOTE_BYTES:
            return written
        put((indent(depth) if value else "") + ("}" if is_object else "]"))
    elif isinstance(value, str):
        put(string(value))
    elif isinstance(value, float):
        put(_shortest(value))
    else:
        put(json.dumps(value))
    return written


def _shortest(value: float) -> str:
    """The fewest digits that read back, in the layout of RapidJSON (`1e-7`, `1e21`, `1.0`)."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digit_tuple, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, digit_tuple)).lstrip("0") or "0"
    stripped = digits.rstrip("0") or "0"
    exponent += len(digits) - len(stripped)
    point = len(stripped) + exponent if stripped != "0" else 1  # digits before the decimal point
    minus = "-" if sign else ""
    if stripped == "0":
        return minus + "0.0"
    if len(stripped) <= point <= 21:
        return minus + stripped + "0" * (point - len(stripped)) + ".0"
    if 0 < point <= 21:
        return minus + stripped[:point] + "." + stripped[point:]
    if -6 < point <= 0:
        return minus + "0." + "0" * -point + stripped
    fraction = "." + stripped[1:] if len(stripped) > 1 else ""
    return f"{minus}{stripped[0]}{fraction}e{point - 1}"
