"""`inputs`: whole tensors; and what each dtype takes."""

import base64
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seqattn.serving import RestApplication, ServingError
from keras_seqattn.serving.models.signature import TensorSpec
from keras_seqattn.serving.rest import predict_json
from tests.serving.conftest import DTYPES, Asker


@pytest.mark.rule("predict.columns-of-one-input", "answer.keys", "answer.one-output")
def test_columns_are_answered_one_element_a_line(half: Asker) -> None:
    assert half.raw('{"inputs": [1.0, 2]}') == (200, '{\n    "outputs": [\n        2.5,\n        3.0\n    ]\n}')


def test_nested_columns_are_indented_by_level(many: Asker) -> None:
    body = '{"signature_name": "same_int32", "inputs": [[1, 2], [3, 5]]}'
    assert many.raw(body)[1] == (
        '{\n    "outputs": [\n        [\n            1,\n            2\n        ],\n        [\n            3,\n'
        "            5\n        ]\n    ]\n}"
    )


@pytest.mark.rule("predict.columns-by-name", "answer.several-outputs")
def test_several_outputs_make_one_object(many: Asker) -> None:
    inputs = {"a": [[1, 2], [3, 5], [7, 11]], "b": [2, 3, 5], "s": ["x", "y", "z"], "extra": None}
    status, text = many.raw(json.dumps({"signature_name": "several", "inputs": inputs}))
    assert status == 200
    assert json.loads(text) == {"outputs": {"next": [3, 4, 6], "text": ["X", "Y", "Z"], "total": [3.0, 8.0, 18.0]}}
    assert text.startswith('{\n    "outputs": {\n        "next": [\n            3,\n            4,')
    assert text.endswith("            18.0\n        ]\n    }\n}")


@pytest.mark.rule("predict.columns-of-any-rank", "answer.columns")
def test_a_scalar_has_no_brackets_on_either_side(many: Asker) -> None:
    assert many.raw('{"signature_name": "total", "inputs": [1, 2, 3]}')[1] == '{\n    "outputs": 6.0\n}'
    assert many.answer('{"signature_name": "add", "inputs": {"a": 2, "b": 3}}') == {"outputs": 5.0}
    assert many.answer('{"signature_name": "total", "inputs": 7}') == {"outputs": 7.0}


@pytest.mark.rule("predict.columns-of-any-rank")
def test_inputs_need_not_share_their_first_dimension(many: Asker) -> None:
    assert many.answer('{"signature_name": "add", "inputs": {"a": [[1], [2]], "b": [10]}}') == {
        "outputs": [[11.0], [12.0]]
    }


@pytest.mark.rule(
    "predict.columns-by-name",
    "predict.columns-of-one-input",
    "predict.dense",
    "predict.base64-errors",
    "predict.wrong-type",
)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            '{"signature_name": "add", "inputs": [1]}',
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        ('{"signature_name": "add", "inputs": {"a": 1}}', "Missing named input: b in 'inputs' object."),
        ('{"inputs": {"z": 1}}', "Missing named input: x in 'inputs' object."),
        ('{"inputs": "x"}', 'JSON Value: "x" Type: String is not of expected type: float'),
        ('{"inputs": [[1], [2, 3]]}', "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ('{"inputs": [1, [2]]}', "Encountered list at unexpected level: 1 expected < 1"),
        (
            '{"inputs": [[1], 2]}',
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ('{"signature_name": "picture", "inputs": {"b64": "*"}}', "Unable to base64 decode"),
        (
            '{"signature_name": "picture", "inputs": {"image": {"b64": 1}}}',
            'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
        ),
        ('{"signature_name": "nothing", "inputs": 1}', "Failed to get input map for signature: nothing"),
    ],
)
def test_errors(many: Asker, body: str, message: str) -> None:
    assert many.error(body) == message


@pytest.mark.rule("predict.dtypes-beyond-json", "answer.dtypes-beyond-json")
def test_unsupported_dtypes_are_unimplemented_in_columns_and_cannot_be_written(many: Asker) -> None:
    assert many.error('{"signature_name": "from_halves", "inputs": [1.5]}', status=501) == (
        "Conversion of JSON Value: 1.5 to type: half"
    )
    assert many.error('{"signature_name": "halves", "inputs": [1]}') == (
        "Failed to write JSON value for tensor type: half"
    )


GOOD = {
    "float": ["1", "-2", "2.5", "1e3", "NaN"], "double": ["1", "2.5", "-0.0", "Inf"],
    "int8": ["127", "-128", "0"], "int16": ["-32768"], "int32": ["2147483647", "-2147483648"],
    "int64": ["9223372036854775807", "-9223372036854775808"], "uint8": ["255"], "uint32": ["4294967295", "0"],
    "uint64": ["18446744073709551615"], "bool": ["true", "false"], "string": ['"x"', '""', '{"b64": "eA"}'],
}  # fmt: skip
BAD = {
    "float": ['"1"', "true", "null", "{}"], "double": ['"1"', "false"],
    "int8": ["1.0", "2147483648"], "int16": ["1e3"], "int32": ["1.0", "2147483648", "true", "null", '"1"'],
    "int64": ["9223372036854775808", "1.0"], "uint8": ["1.5"], "uint32": ["-1", "4294967296", "1.0"],
    "uint64": ["-1", "18446744073709551616"], "bool": ["1", "0", '"true"', "null"], "string": ["1", "true", "null"],
}  # fmt: skip
KINDS = {"{": "Object", "n": "Null", "t": "True", "f": "False", '"': "String"}


@pytest.mark.rule(
    "predict.floats",
    "predict.narrow-integers",
    "predict.wide-integers",
    "predict.booleans",
    "predict.strings",
    "answer.integers-and-booleans",
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_each_dtype_takes_its_own_literals(many: Asker, dtype: str) -> None:
    body = f'{{"signature_name": "same_{DTYPES[dtype]}", "inputs": [{", ".join(GOOD[dtype])}]}}'
    answer = many.answer(body)["outputs"]
    expected = json.loads("[" + ", ".join(GOOD[dtype]).replace("Inf", "Infinity").replace('{"b64": "eA"}', '"x"') + "]")
    assert str(answer) == str([float(value) for value in expected] if dtype in ("float", "double") else expected)


@pytest.mark.rule(
    "predict.wrong-type",
    "predict.null",
    "predict.whole-numbers",
    "predict.narrow-integers",
    "predict.wide-integers",
    "predict.booleans",
    "predict.strings",
)
@pytest.mark.parametrize(("dtype", "literal"), [(dtype, literal) for dtype in BAD for literal in BAD[dtype]])
def test_each_dtype_refuses_others(many: Asker, dtype: str, literal: str) -> None:
    message = many.error(f'{{"signature_name": "same_{DTYPES[dtype]}", "inputs": [{literal}]}}')
    kind = KINDS.get(literal[0], "Number")
    assert message.startswith("JSON Value: ")
    assert message.endswith(f" Type: {kind} is not of expected type: {dtype}")


@pytest.mark.rule("predict.narrow-integers")
def test_narrow_integers_wrap(many: Asker) -> None:
    assert many.answer('{"signature_name": "same_int8", "inputs": [128, 300, -129]}') == {"outputs": [-128, 44, 127]}
    assert many.answer('{"signature_name": "same_uint8", "inputs": [-1, 256]}') == {"outputs": [255, 0]}


@pytest.mark.rule("predict.base64", "predict.base64-alphabet")
@pytest.mark.parametrize("encoded", ["aGVsbG8=", "aGVsbG8", " aG Vs\\nbG8= "])
def test_base64_may_stand_for_any_string(many: Asker, encoded: str) -> None:
    body = f'{{"signature_name": "text", "instances": [{{"b64": "{encoded}"}}, "x"]}}'
    assert many.answer(body) == {"predictions": ["HELLO", "X"]}


@pytest.mark.rule("predict.base64-errors", "predict.base64-alphabet")
@pytest.mark.parametrize("encoded", ["aGVsbG8==", "aGVsb-8=", "a", "aGVsbG8=x"])
def test_what_is_not_standard_base64_is_refused(many: Asker, encoded: str) -> None:
    body = f'{{"signature_name": "picture", "inputs": {{"b64": "{encoded}"}}}}'
    assert many.error(body) == "Unable to base64 decode"


@pytest.mark.rule("answer.bytes")
def test_outputs_named_bytes_are_written_in_base64(many: Asker) -> None:
    binary = base64.b64encode(b"\x00\xff\x80").decode()
    body = f'{{"signature_name": "picture", "inputs": {{"b64": "{binary}"}}}}'
    assert many.raw(body)[1] == f'{{\n    "outputs": {{\n        "b64": "{binary}"\n    }}\n}}'
    rows = many.raw('{"signature_name": "pictures", "instances": ["ab"]}')[1]
    encoded = '{\n                    "b64": "YWI="\n                }'
    assert rows == (
        '{\n    "predictions": [\n        {\n            "numbers_bytes": 2,\n            "plain": "ab",\n'
        f'            "rows_bytes": [{encoded}, {encoded}]\n        }}\n    ]\n}}'
    )


@pytest.mark.rule("answer.strings")
def test_other_strings_are_written_raw_even_if_they_are_not_utf8(app: RestApplication) -> None:
    body = b'{"signature_name": "same_string", "inputs": ["\xff\xc3\xa9\\n"]}'
    response = app.handle("POST", "/v1/models/many:predict", body)
    assert response.body == b'{\n    "outputs": [\n        "\xff\xc3\xa9\\n"\n    ]\n}'


@pytest.mark.rule("answer.rows", "answer.columns")
def test_rows_need_a_batch_dimension_of_one_size(many: Asker) -> None:
    assert many.error('{"signature_name": "total", "instances": [1]}') == "Tensor name: y has no shape information "
    assert many.error('{"signature_name": "uneven", "instances": [1, 2, 3]}') == (
        "Tensor name: b has inconsistent batch size: 6 expecting: 3"
    )
    assert many.answer('{"signature_name": "uneven", "inputs": [1]}') == {"outputs": {"a": [1.0], "b": [1.0, 1.0]}}


@pytest.mark.rule("error.of-ops")
def test_errors_of_ops_keep_their_code_and_text(many: Asker) -> None:
    message = many.error('{"signature_name": "matrix", "instances": [[1, 2, 3]]}')
    # TensorFlow names the function too where it has not inlined it.
    assert re.match(
        r"Matrix size-incompatible: In\[0\]: \[1,3\], In\[1\]: \[5,2\]\n\t \[\[(\{\{function_node .*\}\})?\{\{node ",
        message,
    )
    assert "indices[1] = 7 is not in [0, 3)" in many.error('{"signature_name": "pick", "instances": [0, 7]}')


_LEAVES = st.none() | st.booleans() | st.integers(-3, 2**31) | st.floats(allow_nan=False) | st.sampled_from(["x", "é"])
_NESTED = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=7)


@settings(max_examples=300, deadline=None)
@given(st.lists(_NESTED, min_size=1, max_size=3), st.sampled_from([*DTYPES, "half"]))
def test_the_quick_reader_takes_exactly_what_the_exact_one_takes(rows: list[Any], dtype: str) -> None:
    specs = {"x": TensorSpec("x:0", dtype, None)}
    quick = predict_json._array_of(rows, [len(rows), *predict_json._dense_shape(rows[0])], specs["x"])
    try:
        exact = predict_json._rows_one_by_one(rows, specs)["x"]
    except ServingError:
        assert quick is None
        return
    assert quick is not None
    assert quick.dtype == exact.dtype
    np.testing.assert_array_equal(quick, exact)
