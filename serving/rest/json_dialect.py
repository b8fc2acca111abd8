"""JSON as TensorFlow Serving reads it: RapidJSON's dialect, its limits and its error texts.

Libraries read nearly every request: orjson the ones that are all numbers, Python's own decoder, five times slower, the
ones with texts or many names, where two equal names must be noticed. They are asked only when they give the same value;
whatever they refuse or read differently goes to `parse_exactly`, a small reader of the dialect that words the errors:

- `NaN`, `Infinity`, `Inf`, with or without a minus sign, are numbers; `nan` and `Nan` are not.
- Text after the closing brace is ignored, a UTF-8 byte order mark is skipped, the first of two equal keys counts.
- Numbers beyond a double, `1.`, `.5`, `01`, comments, trailing commas and unpaired high surrogates are errors.
- An integer beyond 64 bits is a double.
- Nesting is limited by memory alone. Bytes inside strings need not be UTF-8.

Known difference: RapidJSON may round the last digit of a long decimal by one unit; Python rounds correctly.
"""

import enum
import json
import math
import re
from typing import Any

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.optional import packages_of_extra

with packages_of_extra("serving"):
    import orjson

__all__ = ["parse", "parse_exactly", "utf8"]

_MAX_QUOTES_OF_NUMBERS = 64
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# What the libraries accept but read differently: integers that may leave 64 bits, exponents that may leave a double,
# and surrogates without a partner. A false alarm costs time only.
_LONG_INTEGER = re.compile(rb"[,:\s\[-][0-9]{19}")
_LONG_EXPONENT = re.compile(rb"[eE]\+?[0-9]{3}")
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]", re.DOTALL)


def parse(body: bytes) -> Any:
    """Reads the JSON value at the start of `body`.

    Returns: None, bool, int (within int64 or uint64), float, str, list or dict. Bytes that are not UTF-8 stand in
        strings as lone surrogates; `utf8` gives them back.
    Raises: ServingError, INVALID_ARGUMENT, `JSON Parse error: ...` with the offset in bytes.
    """
    if not body:
        raise ServingError(Code.INVALID_ARGUMENT, "JSON Parse error: The document is empty")
    if not _may_be_read_differently(body):
        try:
            num_quotes = body.count(b'"')
            if num_quotes <= _MAX_QUOTES_OF_NUMBERS:
                value = orjson.loads(body)
                if isinstance(value, dict) and 2 * _num_strings(value) == num_quotes:  # no name was there twice
                    return value
        except ValueError:
            pass  # not JSON as orjson knows it
        try:
            value = _DECODER.raw_decode(body.decode("utf-8-sig").lstrip(" \t\n\r"))[0]
            if isinstance(value, dict | list):  # of `1e` the decoder would take the 1
                return value
        except (ValueError, RecursionError):
            pass  # not JSON, not UTF-8, too deep, or part of the dialect only
    return parse_exactly(body)


def utf8(text: str) -> bytes:
    """The bytes of a string that `parse` returned."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            return text.encode(errors="surrogatepass")


def _may_be_read_differently(body: bytes) -> bool:
    if b"\0" in body or _LONG_INTEGER.search(body):  # a zero byte ends the document
        return True
    # Looking for a single byte first is many times as fast.
    if (b"e" in body or b"E" in body) and _LONG_EXPONENT.search(body):
        return True
    return b"\\u" in body and _LONE_SURROGATE.search(body) is not None


def _num_strings(value: Any) -> int:
    """Counts names and texts outside of lists."""
    if isinstance(value, dict):
        return len(value) + sum(map(_num_strings, value.values()))
    return int(isinstance(value, str))


def _first_of_equal_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=_first_of_equal_keys)


class _State(enum.Enum):
    """What the exact reader has just seen, and the error for anything that may not follow."""

    START = 0, "The document is empty."
    OBJECT_OPENED = 1, "Missing a name for object member."
    AFTER_MEMBER_COMMA = 2, "Missing a name for object member."
    AFTER_NAME = 3, "Missing a colon after a name of object member."
    AFTER_COLON = 4, "Invalid value."
    AFTER_MEMBER = 5, "Missing a comma or '}' after an object member."
    ARRAY_OPENED = 6, "Invalid value."
    AFTER_ELEMENT_COMMA = 7, "Invalid value."
    AFTER_ELEMENT = 8, "Missing a comma or ']' after an array element."


_VALUE_FOLLOWS = (_State.START, _State.AFTER_COLON, _State.ARRAY_OPENED, _State.AFTER_ELEMENT_COMMA)
_NAME_FOLLOWS = (_State.OBJECT_OPENED, _State.AFTER_MEMBER_COMMA)

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(rb"0|[1-9][0-9]*")
_DIGITS = re.compile(rb"[0-9]+")
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = {
    b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t",
}  # fmt: skip
_WORDS: dict[bytes, tuple[bytes, Any]] = {b"t": (b"true", True), b"f": (b"false", False), b"n": (b"null", None)}


def _error(text: str, offset: int) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, f"JSON Parse error: {text} at offset: {offset}")


def parse_exactly(body: bytes) -> Any:
    """Does what `parse` does, for every document, without recursion; about ten times slower."""
    at = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
    state = _State.START
    open_values: list[tuple[Any, str]] = []  # containers around the one being read, each with the name that waits in it
    container: Any = None
    name = ""
    while True:
        at = _SPACE.match(body, at).end()  # type: ignore[union-attr]  # matches always
        char = body[at : at + 1]
        if char in (b"", b"\0"):
            raise _error(state.value[1], at)
        value: Any
        if state in _VALUE_FOLLOWS:
            if char in b"{[":
                if state is not _State.START:
                    open_values.append((container, name))
                container, state = ({}, _State.OBJECT_OPENED) if char == b"{" else ([], _State.ARRAY_OPENED)
                at += 1
                continue
            if char == b"]" and state is _State.ARRAY_OPENED:
                value, at, closes = container, at + 1, True
            elif char in b"]},:":
                raise _error(state.value[1], at)
            else:
                value, at = _scalar(body, at, char)
                closes = False
        elif state in _NAME_FOLLOWS and char == b'"':
            name, at = _string(body, at)
            state = _State.AFTER_NAME
            continue
        elif state is _State.AFTER_NAME and char == b":":
            at, state = at + 1, _State.AFTER_COLON
            continue
        elif state is _State.AFTER_MEMBER and char == b",":
            at, state = at + 1, _State.AFTER_MEMBER_COMMA
            continue
        elif state is _State.AFTER_ELEMENT and char == b",":
            at, state = at + 1, _State.AFTER_ELEMENT_COMMA
            continue
        elif (state in (_State.OBJECT_OPENED, _State.AFTER_MEMBER) and char == b"}") or (
            state is _State.AFTER_ELEMENT and char == b"]"
        ):
            value, at, closes = container, at + 1, True
        else:
            raise _error(state.value[1], at)

        if closes:
            if not open_values:
                return value
            container, name = open_values.pop()
        elif container is None:
            return value
        if isinstance(container, dict):
            container.setdefault(name, value)
            state = _State.AFTER_MEMBER
        else:
            container.append(value)
            state = _State.AFTER_ELEMENT


def _scalar(body: bytes, at: int, char: bytes) -> tuple[Any, int]:
    """Reads a value that is neither object nor array; returns it and where it ends."""
    if char == b'"':
        return _string(body, at)
    if char in _WORDS:
        word, value = _WORDS[char]
        same = _same(body, at, word)
        if same < len(word):
            raise _error("Invalid value.", at + same)
        return value, at + same
    return _number(body, at)


def _same(body: bytes, at: int, word: bytes) -> int:
    """How many bytes at `at` agree with `word`."""
    count = 0
    while count < len(word) and body[at + count : at + count + 1] == word[count : count + 1]:
        count += 1
    return count


def _number(body: bytes, start: int) -> tuple[int | float, int]:
    at = start + 1 if body.startswith(b"-", start) else start
    digits = _INTEGER.match(body, at)
    if digits is None:
        return _word_number(body, at, negative=at > start)
    at = digits.end()
    is_integer = True
    if body.startswith(b".", at):
        fraction = _DIGITS.match(body, at + 1)
        if fraction is None:
            raise _error("Miss fraction part in number.", at + 1)
        at, is_integer = fraction.end(), False
    if body[at : at + 1] in (b"e", b"E"):
        at += 2 if body[at + 1 : at + 2] in (b"+", b"-") else 1
        exponent = _DIGITS.match(body, at)
        if exponent is None:
            raise _error("Miss exponent in number.", at)
        at, is_integer = exponent.end(), False
    text = body[start:at]
    if is_integer and len(text) <= 20:  # 2**64 - 1 and -2**63 have 20 characters
        integer = int(text)
        if -(2**63) <= integer < 2**64:
            return integer, at
    value = float(text)
    if math.isinf(value):
        raise _error("Number too big to be stored in double.", start)
    return value, at


def _word_number(body: bytes, at: int, *, negative: bool) -> tuple[float, int]:
    """`NaN`, `Inf` or `Infinity`, after the sign."""
    same = _same(body, at, b"NaN")
    if same == 3:
        return math.nan, at + 3
    if same == 0:
        same = _same(body, at, b"Infinity")
        if same == 3 or same == 8:
            return (-math.inf if negative else math.inf), at + same
    raise _error("Invalid value.", at + same)


def _string(body: bytes, at: int) -> tuple[str, int]:
    at += 1
    pieces = []
    while True:
        plain = _PLAIN.match(body, at)
        assert plain is not None  # it matches the empty string, too
        pieces.append(plain.group())
        at = plain.end()
        char = body[at : at + 1]
        if char == b'"':
            return b"".join(pieces).decode("utf-8", "surrogateescape"), at + 1
        if char in (b"", b"\0"):
            raise _error("Missing a closing quotation mark in string.", at)
        if char != b"\\":
            raise _error("Invalid encoding in string.", at)
        escaped = body[at + 1 : at + 2]
        if escaped == b"u":
            code_point, end = _code_point(body, at)
            pieces.append(chr(code_point).encode("utf-8", "surrogatepass"))
            at = end
        elif escaped in _ESCAPES:
            pieces.append(_ESCAPES[escaped])
            at += 2
        else:
            raise _error("Invalid escape character in string.", at)


def _code_point(body: bytes, at: int) -> tuple[int, int]:
    r"""Reads `\uXXXX` at `at`, and the low half that follows a high surrogate."""
    digits = _HEX4.match(body, at + 2)
    if digits is None:
        raise _error("Incorrect hex digit after \\u escape in string.", at)
    code_point, end = int(digits.group(), 16), digits.end()
    if 0xD800 <= code_point <= 0xDBFF:
        if not body.startswith(b"\\u", end):
            raise _error("The surrogate pair in string is invalid.", at)
        digits = _HEX4.match(body, end + 2)
        if digits is None:
            raise _error("Incorrect hex digit after \\u escape in string.", at)
        low, end = int(digits.group(), 16), digits.end()
        if not 0xDC00 <= low <= 0xDFFF:
            raise _error("The surrogate pair in string is invalid.", at)
        code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00)
    return code_point, end
