"""`instances`: one tensor an element, without the batch dimension."""

import gzip
import json

import pytest

from tests.serving.conftest import Asker


@pytest.mark.rule("predict.rows", "predict.rows-of-one-input", "answer.keys", "answer.one-output")
def test_rows_are_answered_in_tensorflow_servings_layout(half: Asker) -> None:
    assert half.raw('{"instances": [1.0, 2, 5]}') == (200, '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}')


@pytest.mark.rule("predict.rows-of-one-input")
def test_rows_of_one_input_may_be_objects_with_its_name(half: Asker) -> None:
    assert half.answer('{"instances": [{"x": 1}, {"x": 2}]}') == {"predictions": [2.5, 3.0]}


@pytest.mark.rule("predict.rows-of-several-inputs", "answer.several-outputs")
def test_several_outputs_make_an_object_a_row(many: Asker) -> None:
    rows = [{"a": [1, 2], "b": 3, "s": "x"}, {"s": "é", "b": 5, "a": [7, 11]}]
    status, text = many.raw(json.dumps({"signature_name": "several", "instances": rows}))
    assert status == 200
    first = '        {\n            "next": 4,\n            "text": "X",\n            "total": 3.0\n        }'
    second = '        {\n            "next": 6,\n            "text": "é",\n            "total": 18.0\n        }'
    assert text == '{\n    "predictions": [\n' + first + ",\n" + second + "\n    ]\n}"


@pytest.mark.rule("predict.rows")
def test_nested_rows_stand_on_one_line(many: Asker) -> None:
    body = '{"signature_name": "same_int32", "instances": [[[1, 2, 3]], [[5, 7, 11]]]}'
    assert many.raw(body)[1] == '{\n    "predictions": [[[1, 2, 3]], [[5, 7, 11]]\n    ]\n}'


@pytest.mark.rule("predict.shape-of-the-signature")
def test_the_shape_of_the_signature_is_not_checked(half: Asker) -> None:
    assert half.answer('{"instances": [[1, 2], [3, 4]]}') == {"predictions": [[2.5, 3.0], [3.5, 4.0]]}


def test_answers_may_have_another_number_of_rows(many: Asker) -> None:
    body = '{"signature_name": "same_int64", "instances": [[], []]}'
    assert many.raw(body)[1] == '{\n    "predictions": [[], []\n    ]\n}'


@pytest.mark.rule("predict.columns-of-any-rank", "answer.columns")
def test_no_rows_in_the_answer_are_an_empty_list(many: Asker) -> None:
    body = '{"signature_name": "matrix", "inputs": []}'
    assert many(body)[0] == 400  # rank 1: the op complains
    assert many.raw('{"signature_name": "same_float32", "inputs": []}')[1] == '{\n    "outputs": []\n}'


@pytest.mark.rule("predict.floats", "json.not-numbers", "answer.not-numbers")
@pytest.mark.parametrize(
    ("text", "value"),
    [("NaN", "NaN"), ("-Infinity", "-Infinity"), ("Inf", "Infinity"), ("1e39", "Infinity"), ("1e-50", "2.0")],
)
def test_floats_take_any_number(half: Asker, text: str, value: str) -> None:
    assert half.raw(f'{{"instances": [{text}]}}')[1] == f'{{\n    "predictions": [{value}\n    ]\n}}'


@pytest.mark.rule("rest.gzip", "rest.content-type")
def test_a_gzipped_body_is_inflated_and_a_corrupt_one_counts_as_empty(half: Asker) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}
    body = gzip.compress(b'{"instances": [1]}')
    response = half.app.handle("POST", half.path, body, headers)
    assert (response.status, json.loads(response.body)) == (200, {"predictions": [2.5]})
    for corrupt in (body[:-3], b"x" + body):
        response = half.app.handle("POST", half.path, corrupt, headers)
        assert json.loads(response.body) == {"error": "JSON Parse error: The document is empty"}


DOCUMENT = "JSON Value: {\n"


@pytest.mark.rule(
    "predict.instances-or-inputs",
    "predict.rows",
    "predict.first-row-decides",
    "predict.names-in-rows",
    "predict.errors-in-rows",
    "predict.rows-of-one-shape",
    "predict.dense",
    "predict.wrong-type",
    "predict.null",
    "json.signature-name",
    "json.object-at-the-top",
    "json.empty-body",
)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        ("[1, 2]", "JSON Value: [\n    1,\n    2\n] Is not object"),
        ('"x"', 'JSON Value: "x" Is not object'),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (
            '{"signature_name": 5, "instances": [1]}',
            DOCUMENT + '    "signature_name": 5,\n    "instances": [\n        1\n    ]\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            '{"inputs": 1, "instances": [1]}',
            DOCUMENT + '    "inputs": 1,\n    "instances": [\n        1\n    ]\n} Not formatted correctly expecting '
            "only one of 'inputs' or 'instances' keys to exist ",
        ),
        ('{"instances": 1}', DOCUMENT + "    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
        ('{"instances": []}', DOCUMENT + "    \"instances\": []\n} No values in 'instances' array"),
        (
            '{"instances": [1, {"x": 2}]}',
            "Expecting value/list but got object at item 1 of input list",
        ),
        ('{"instances": [{"x": 2}, 1]}', "Expecting object but got list at item 1 of input list"),
        (
            '{"instances": [1, "x"]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "x" Type: String is not of expected type: float',
        ),
        (
            '{"instances": [null]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: null Type: Null is not of expected type: float",
        ),
        (
            '{"instances": [{"b64": "aGVsbG8="}]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: {\n    "b64": "aGVsbG8="\n} Type: Object is not of expected type: float',
        ),
        (
            '{"instances": [{"x": 1}, {"x": true}]}',
            "Failed to process element: 1 key: x of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: true Type: True is not of expected type: float",
        ),
        (
            '{"instances": [{"x": 1, "z": 2}]}',
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: z",
        ),
        (
            '{"instances": [{}]}',
            "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: x",
        ),
        (
            '{"instances": [[1, 2], [1]]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 2 but got: 1",
        ),
        (
            '{"instances": [[1, 2], [[1, 2]]]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [2] but got: [1,2]",
        ),
        (
            '{"instances": [[[1, 2], [3]]]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            '{"instances": [[1, [2]]]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            '{"instances": [[[1], 2]]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
    ],
)  # fmt: skip
def test_errors_of_one_input(half: Asker, body: str, message: str) -> None:
    assert half.error(body) == message


@pytest.mark.rule(
    "predict.rows-of-several-inputs", "predict.names-in-rows", "predict.errors-in-rows", "predict.base64-errors"
)
@pytest.mark.parametrize(
    ("instances", "message"),
    [
        (
            "[1]",
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            '[{"a": [1, 2], "b": 3}]',
            "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": [\n        1,\n        2\n"
            '    ],\n    "b": 3\n} keys must be equal to: a,b,s',
        ),
        (
            '[{"a": [1, 2], "b": 3.0, "s": "x"}]',
            "Failed to process element: 0 key: b of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: 3.0 Type: Number is not of expected type: int32",
        ),
        (
            '[{"a": [1, 2], "b": 3, "s": {"b64": "a", "c": 1}}]',
            "Failed to process element: 0 key: s of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: {\n    "b64": "a",\n    "c": 1\n} not formatted correctly for base64 data',
        ),
        (
            '[{"a": [1, 2], "b": 3, "s": {"b64": "a"}}]',
            "Failed to process element: 0 key: s of 'instances' list. Error: INVALID_ARGUMENT: Unable to base64 decode",
        ),
    ],
)  # fmt: skip
def test_errors_of_several_inputs(many: Asker, instances: str, message: str) -> None:
    assert many.error(f'{{"signature_name": "several", "instances": {instances}}}') == message


def test_an_element_that_is_base64_is_no_object_of_inputs(many: Asker) -> None:
    assert many.error('{"signature_name": "several", "instances": [{"b64": "YQ=="}]}').startswith(
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value"
    )


@pytest.mark.rule("error.quotations")
def test_an_error_quotes_a_part_of_a_long_request(half: Asker) -> None:
    message = half.error(json.dumps({"instances": 5, "inputs": list(range(10_000))}))
    assert len(message) < 500
    assert message.endswith("keys to exist ")


@pytest.mark.rule("json.deep-nesting")
def test_deep_nesting_is_an_error_like_others(half: Asker) -> None:
    depth = 100_000
    assert half.error('{"instances": ' + "[" * depth + "1" + "]" * depth + "}") == "tensor parsing error: x"
    message = half.error('{"instances": [1, ' + "[" * depth + "]" * depth + "]}")
    assert message.endswith("Expecting tensor size: 1 but got: 0")


@pytest.mark.rule("predict.dtypes-beyond-json", "predict.errors-in-rows")
def test_unsupported_dtypes_are_invalid_in_rows(many: Asker) -> None:
    message = many.error('{"signature_name": "from_halves", "instances": [1]}')
    assert message == (
        "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
        "Conversion of JSON Value: 1 to type: half"
    )
