"""RapidJSON's dialect: what is read, what is refused, and with which words."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.rest.json_dialect import parse, parse_exactly, utf8


@pytest.mark.rule("json.not-numbers", "json.text-after", "json.bom", "json.first-duplicate-wins")
@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, -2, 2.5, 1e3, true, false, null, "x"]}', {"a": [1, -2, 2.5, 1000.0, True, False, None, "x"]}),
        (b'{"a": 1} and more', {"a": 1}),
        (b"\xef\xbb\xbf {}", {}),
        (b'{"a": 1, "b": 2, "a": 3}', {"a": 1, "b": 2}),
        (b'{"i": {"a": [1], "a": [2]}}', {"i": {"a": [1]}}),
        (b'{"i": [{"a": 1, "a": 2}]}', {"i": [{"a": 1}]}),
        (b'{"a": "b\\"", "c": "\\"d"}', {"a": 'b"', "c": '"d'}),
        (b'{"a": Inf, "b": -Inf}', {"a": math.inf, "b": -math.inf}),
        (b'{"a": Infinity, "b": -Infinity}', {"a": math.inf, "b": -math.inf}),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"18446744073709551616", 2.0**64),
        (b"-9223372036854775809", -(2.0**63)),
        (b"1e-400", 0.0),
        (b'"\\u00e9\\ud83d\\ude00\\n\\/"', "é😀\n/"),
        ('"é😀"'.encode(), "é😀"),
        (b"[]", []),
        (b" \t\r\n[ ]", []),
    ],
)
def test_the_dialect_is_read(body: bytes, value: object) -> None:
    assert parse(body) == value
    assert parse_exactly(body) == value


@pytest.mark.rule("json.not-numbers")
@pytest.mark.parametrize("body", [b"NaN", b"-NaN"])
def test_nan_is_a_number(body: bytes) -> None:
    assert math.isnan(parse(body))


@pytest.mark.rule("json.error-and-offset", "json.strict", "json.not-numbers")
@pytest.mark.parametrize(
    ("body", "text", "offset"),
    [
        (b"  ", "The document is empty.", 2),
        (b"}", "The document is empty.", 0),
        (b"\xef\xbb\xbf", "The document is empty.", 3),
        (b"instances = [1, 2]", "Invalid value.", 0),
        (b'{"a": nan}', "Invalid value.", 7),
        (b'{"a": Nan}', "Invalid value.", 8),
        (b'{"a": Infinite}', "Invalid value.", 13),
        (b'{"a": tru}', "Invalid value.", 9),
        (b'{"a": .5}', "Invalid value.", 6),
        (b'{"a": -}', "Invalid value.", 7),
        (b'{"a": [1,]}', "Invalid value.", 9),
        (b'{"a": }', "Invalid value.", 6),
        (b"[", "Invalid value.", 1),
        (b"// comment\n{}", "Invalid value.", 0),
        (b"{", "Missing a name for object member.", 1),
        (b"{1: 2}", "Missing a name for object member.", 1),
        (b'{"a": 1,}', "Missing a name for object member.", 8),
        (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
        (b'{"a": 1 "b": 2}', "Missing a comma or '}' after an object member.", 8),
        (b'{"a": 01}', "Missing a comma or '}' after an object member.", 7),
        (b"[1 2]", "Missing a comma or ']' after an array element.", 3),
        (b"[1", "Missing a comma or ']' after an array element.", 2),
        (b'{"a": "b', "Missing a closing quotation mark in string.", 8),
        (b'{"a": "b\x00"}', "Missing a closing quotation mark in string.", 8),
        (b'{"a": "b\n"}', "Invalid encoding in string.", 8),
        (b'{"a": "\\x"}', "Invalid escape character in string.", 7),
        (b'{"a": "\\u12g4"}', "Incorrect hex digit after \\u escape in string.", 7),
        (b'{"a": "\\ud800"}', "The surrogate pair in string is invalid.", 7),
        (b'{"a": "\\ud800\\u0041"}', "The surrogate pair in string is invalid.", 7),
        (b'{"a": 1.}', "Miss fraction part in number.", 8),
        (b'{"a": 1e}', "Miss exponent in number.", 8),
        (b'{"a": 1e400}', "Number too big to be stored in double.", 6),
        (b'{"a": ' + b"9" * 400 + b"}", "Number too big to be stored in double.", 6),
        ('{"é": nan}'.encode(), "Invalid value.", 8),
    ],
)
def test_errors_tell_what_is_wrong_and_at_which_byte(body: bytes, text: str, offset: int) -> None:
    with pytest.raises(ServingError) as raised:
        parse(body)
    assert raised.value.code == Code.INVALID_ARGUMENT
    assert raised.value.message == f"JSON Parse error: {text} at offset: {offset}"


@pytest.mark.rule("json.empty-body")
def test_an_empty_body_is_its_own_error() -> None:
    with pytest.raises(ServingError) as raised:
        parse(b"")
    assert raised.value.message == "JSON Parse error: The document is empty"


@pytest.mark.rule("json.deep-nesting")
def test_half_a_million_levels_do_not_crash() -> None:
    depth = 500_000
    value = parse(b"[" * depth + b"]" * depth)
    for _ in range(depth - 1):
        (value,) = value
    assert value == []


@pytest.mark.parametrize("content", [b"\xff\xfe\x80", b"\xc3\xa9\xed\xa0\x80", "é😀".encode()])
def test_bytes_that_are_not_utf8_pass_through_strings(content: bytes) -> None:
    assert utf8(parse(b'"' + content + b'"')) == content


def test_a_low_surrogate_alone_becomes_three_bytes() -> None:
    assert utf8(parse(rb'"\ude00"')) == b"\xed\xb8\x80"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=7,
)


@settings(max_examples=150, deadline=None)
@given(_VALUES, st.booleans())
def test_both_readers_agree_with_the_standard_library(value: object, ascii_only: bool) -> None:
    import json

    try:
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate, which no client can send as UTF-8
    try:
        exact = parse_exactly(body)
    except ServingError as error:
        assert "surrogate" in error.message and ascii_only
        return
    assert parse(body) == exact
    if all(not 0xD800 <= ord(char) < 0xE000 for char in body.decode()) and "\\ud" not in body.decode():
        assert exact == value


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}[]":,01.-eEtrufalsn \\NaInfity\n', max_size=11))
def test_both_readers_refuse_the_same_documents(text: str) -> None:
    results = []
    for read in (parse, parse_exactly):
        try:
            results.append(repr(read(text.encode() or b" ")))
        except ServingError as error:
            results.append(error.message)
    assert results[0] == results[1]
