"""How numbers, strings and quotations are written."""

import numpy as np
import pytest

from keras_seqattn.serving.rest.json_dialect import parse
from keras_seqattn.serving.rest.json_text import decimals, error_document, quote, string


@pytest.mark.rule("answer.decimals", "answer.not-numbers")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9000000, "9e+06"), (3, "3.0"), (0.1, "0.1"), (1 / 3, "0.333333343"), (0.00003, "3e-05"), (-0.0, "-0.0"),
        (123456, "123456.0"), (1234567, "1234567.0"), (np.nan, "NaN"), (np.inf, "Infinity"), (-np.inf, "-Infinity"),
        (3.4028235e38, "3.40282347e+38"), (1e-45, "1.4013e-45"),
    ],
)  # fmt: skip
def test_floats_take_six_digits_where_they_are_enough_and_else_nine(value: float, text: str) -> None:
    assert decimals(np.array([value], np.float32)) == [text]


@pytest.mark.rule("answer.decimals")
@pytest.mark.parametrize(
    ("value", "text"),
    [(1 / 3, "0.33333333333333331"), (0.1, "0.1"), (1e300, "1e+300"), (123456789.0, "123456789.0"), (2.5, "2.5")],
)
def test_doubles_take_six_digits_where_they_are_enough_and_else_seventeen(value: float, text: str) -> None:
    assert decimals(np.array([value])) == [text]


@pytest.mark.rule("answer.decimals")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_written_numbers_read_back_as_the_same_numbers(rng: np.random.Generator, dtype: type) -> None:
    bits = rng.integers(0, 2**32, 3000, dtype=np.uint32)
    values = (bits.view(np.float32) if dtype is np.float32 else rng.standard_normal(3000) ** 7).astype(dtype)
    values = values[np.isfinite(values)]
    read = np.array([float(text) for text in decimals(values)], dtype=dtype)
    np.testing.assert_array_equal(read, values)


def test_no_numbers_give_no_texts() -> None:
    assert decimals(np.zeros(0, np.float32)) == []


@pytest.mark.rule("answer.strings")
def test_strings_escape_only_what_they_must() -> None:
    assert string('é/\x7f"\\\n\t\b\f\r\x00\x1f') == r'"é/' + "\x7f" + r'\"\\\n\t\b\f\r\u0000\u001F"'


@pytest.mark.rule("error.one-key")
def test_an_error_has_exactly_one_key() -> None:
    assert error_document('a "b"\n') == b'{\n    "error": "a \\"b\\"\\n"\n}'


@pytest.mark.rule("error.quotations")
@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b'"x"', '"x"'), (b"7", "7"), (b"null", "null"), (b"true", "true"), (b"1.5", "1.5"), (b"2.0", "2.0"),
        (b"0.1", "0.1"), (b"NaN", "NaN"), (b"1e300", "1e+300"), (b"[]", "[]"), (b"{}", "{}"),
        (
            b'{"a": [1, 0.1, 1e-7, 1e21, 1e22, 0.0000015]}',
            "{|    'a': [|        1,|        0.1,|        1e-7,|        1e21,|        1e22,|        0.0000015|    ]|}"
            .replace("|", "\n").replace("'", '"'),
        ),
    ],
)  # fmt: skip
def test_quotations_are_laid_out_as_rapidjson_does(document: bytes, text: str) -> None:
    assert quote(parse(document)) == text


@pytest.mark.rule("error.quotations")
def test_quotations_stop_after_256_bytes_but_never_inside_a_string() -> None:
    assert len(quote(list(range(10_000)))) < 300
    assert quote("x" * 7000) == '"' + "x" * 7000 + '"'
    assert len(quote(parse(b"[" * 100_000 + b"]" * 100_000))) < 400
