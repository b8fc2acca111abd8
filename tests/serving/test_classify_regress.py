"""REST `:classify` and `:regress`: section 6 of the contract, and its order of checks (section 2)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, RestApplication
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.monitoring.record import RequestRecord
from keras_seqattn.serving.rest.examples_json import read_examples
from tests.serving.examples import example, write_examples_model

RECORDS: list[RequestRecord] = []


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestApplication]:
    folder: Path = tmp_path_factory.mktemp("models") / "m"
    write_examples_model(folder / "7")
    repository = ModelRepository([ModelConfig("m", str(folder))], saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    yield RestApplication(repository, on_request=RECORDS.append)
    repository.close()


def post(app: RestApplication, verb: str, body: Any, model: str = "m") -> tuple[int, str]:
    text = body if isinstance(body, str) else json.dumps(body)
    response = app.handle("POST", f"/v1/models/{model}:{verb}", text)
    return response.status, response.body.decode("utf-8", "surrogateescape")


def answer(app: RestApplication, verb: str, signature: str, *examples: Any, **more: Any) -> Any:
    status, text = post(app, verb, {"signature_name": signature, "examples": list(examples), **more})
    assert status == 200, text
    return json.loads(text)


def error(app: RestApplication, verb: str, body: Any, status: int = 400, model: str = "m") -> str:
    got, text = post(app, verb, body, model)
    document = json.loads(text)
    assert (got, list(document)) == (status, ["error"]), text
    return str(document["error"])


def features(body: str) -> list[Any]:
    import tensorflow as tf

    return [tf.train.Example.FromString(serialized) for serialized in read_examples(body.encode()).examples]


# Requests.


@pytest.mark.rule("examples.request", "examples.kinds")
def test_the_literal_decides_the_kind_of_a_feature() -> None:
    """Contract 6: a fraction, an exponent or NaN is a float, true is the integer 1, base64 is bytes."""
    read = features(
        """{"examples": [
        {"names": ["foo", "bar"], "ratings": [8.0, 9.0, NaN, Infinity], "age": 20},
        {"names": ["baz", {"b64": "aGVsbG8="}], "ratings": 6.0, "intboolmix": [1, true, false]},
        {"names": "bar", "ratings": -Infinity, "many": 1e3, "none": []}]}"""
    )
    ratings = read[0].features.feature["ratings"].float_list.value
    np.testing.assert_array_equal(ratings, [8.0, 9.0, np.nan, np.inf])
    del read[0].features.feature["ratings"]
    assert read[0] == example(names=[b"foo", b"bar"], age=20)
    assert read[1] == example(names=[b"baz", b"hello"], ratings=6.0, intboolmix=[1, 1, 0])
    assert read[2].features.feature["none"].WhichOneof("kind") is None
    del read[2].features.feature["none"]
    assert read[2] == example(names=b"bar", ratings=-np.inf, many=1000.0)


@pytest.mark.rule("examples.kinds")
def test_floats_beyond_float32_are_infinite_and_integers_keep_64_bits() -> None:
    read = features('{"examples": [{"x": [1e300, -1e300, 1e-300], "i": [9223372036854775807, -9223372036854775808]}]}')
    assert list(read[0].features.feature["x"].float_list.value) == [np.inf, -np.inf, 0.0]
    assert list(read[0].features.feature["i"].int64_list.value) == [2**63 - 1, -(2**63)]


@pytest.mark.rule("examples.context")
def test_the_context_is_merged_into_each_example(app: RestApplication) -> None:
    """Contract 6: the serialized context and the serialized example follow each other; the example's feature wins."""
    body = '{"context": {"a": "1", "b": 2.0}, "examples": [{"a": "3"}, {}]}'
    assert features(body) == [example(a=b"3", b=2.0), example(a=b"1", b=2.0)]
    got = answer(app, "classify", "classes_only", {"x": 2.0}, {"x": 2.0, "name": "n"}, context={"name": "c"})
    assert got == {"results": [[["c", 0.0], ["other", 0.0]], [["n", 0.0], ["other", 0.0]]]}


@pytest.mark.rule("examples.errors", "examples.one-kind", "error.order-of-classify-and-regress")
@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("[1]", "JSON Value: [\n    1\n] Is not object"),
        ('{"signature_name": ["s"], "examples": [{}]}', "'signature_name' key must be a string value."),
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": {"a": 1}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [[{}]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{}, 1]}', "Example must be JSON object but got JSON Number"),
        ('{"context": [{}], "examples": [{}]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{"f": [10, null]}]}', "Feature: f has element with unexpected JSON type: Null"),
        ('{"examples": [{"f": {"test": 10}}]}', "Feature: f has element with unexpected JSON type: Object"),
        ('{"examples": [{"f": {"b64": 10}}]}', "Feature: f has element with unexpected JSON type: Object"),
        ('{"examples": [{"f": [[10], 20]}]}', "Feature: f has element with unexpected JSON type: Array"),
        ('{"examples": [{"f": [10, 10.0]}]}', "Unexpected element type in feature: f expecting type: int64"),
        ('{"examples": [{"f": [1.5, true]}]}', "Unexpected element type in feature: f expecting type: float"),
        ('{"examples": [{"f": ["a", 1]}]}', "Unexpected element type in feature: f expecting type: bytes"),
        ('{"examples": [{"f": [1, {"b64": "aa"}]}]}', "Unexpected element type in feature: f expecting type: int64"),
        (
            '{"examples": [{"f": [20, 18446744073709551603]}]}',
            "Feature: f has uint64_t element. Only int64_t is supported.",
        ),
        ('{"examples": [{"f": {"b64": "a"}}]}', "Unable to base64 decode"),
    ],
)
def test_a_bad_body_is_told_before_the_model_is_looked_up(
    app: RestApplication, verb: str, body: str, message: str
) -> None:
    """Contract 6, errors; contract 2: classify and regress check the whole body before the model."""
    assert message in error(app, verb, body, model="nobody")


@pytest.mark.rule("error.order-of-classify-and-regress", "error.unknown-model-or-version")
def test_a_good_body_for_an_unknown_model_is_404(app: RestApplication) -> None:
    """Contract 2."""
    body = {"examples": [{"x": 1.0}]}
    assert error(app, "classify", body, 404, "nobody") == "Servable not found for request: Latest(nobody)"
    assert error(app, "regress", body, 404, "m/versions/8") == "Servable not found for request: Specific(m, 8)"


# Answers.


@pytest.mark.rule("classify.outputs", "classify.answer")
def test_classes_and_scores(app: RestApplication) -> None:
    """Contract 6: [label, score] pairs; no classes is an empty label, no scores is 0.0. Printed as RapidJSON's pretty
    writer does: the lists of an example on one line."""
    examples = [{"x": 2.0, "name": "a"}, {"x": -3.0, "name": "b"}]
    status, text = post(app, "classify", {"signature_name": "classify", "examples": examples})
    assert (status, text) == (
        200,
        '{\n    "results": [[["a", 3.0], ["other", -3.0]], [["b", 0.5], ["other", -0.5]]\n    ]\n}',
    )
    assert answer(app, "classify", "scores_only", examples[0]) == {"results": [[["", 3.0], ["", -3.0]]]}
    assert answer(app, "classify", "scores_and_more", examples[0]) == {"results": [[["", 3.0], ["", -3.0]]]}
    assert answer(app, "classify", "classes_only", examples[1]) == {"results": [[["b", 0.0], ["other", 0.0]]]}


@pytest.mark.rule("regress.outputs", "regress.answer", "json.signature-name")
def test_regressions(app: RestApplication) -> None:
    """Contract 6: (N) or (N, 1) outputs; the key is `results`; absent or empty signature is serving_default."""
    assert post(app, "regress", '{"examples": [{"x": 2.0}, {"x": 0.2}]}') == (
        200,
        '{\n    "results": [3.0, 2.1]\n}',
    )
    assert answer(app, "regress", "", {"x": 2.0}) == {"results": [3.0]}
    assert answer(app, "regress", "regress_flat", {"x": 2.0}, {"x": 4.0}) == {"results": [3.0, 4.0]}


@pytest.mark.rule("classify.answer", "answer.not-numbers")
def test_odd_labels_and_scores_are_written_as_predict_writes_them(app: RestApplication) -> None:
    status, text = post(app, "classify", '{"signature_name": "odd", "examples": [{"x": 1.0}]}')
    assert status == 200
    label = r'"\"\\é"'
    scores = ("NaN", "Infinity", "-Infinity", "0.333333343")
    assert text == f'{{\n    "results": [[{", ".join(f"[{label}, {score}]" for score in scores)}]\n    ]\n}}'


@pytest.mark.rule("examples.integers-are-no-floats")
def test_an_integer_for_a_float_feature_fails_in_the_parse_op(app: RestApplication) -> None:
    """Contract 6: `{"x": 2}` fails, `2.0` is right."""
    assert "Data types don't match" in error(app, "regress", {"examples": [{"x": 2}]})
    assert "Feature: x (data type: float) is required" in error(app, "regress", {"examples": [{"y": 2.0}]})


@pytest.mark.rule("predict.any-signature")
def test_predict_takes_serialized_examples(app: RestApplication) -> None:
    """Contract 4: any signature can be used with predict, also those for classify and regress."""
    import base64

    encoded = base64.b64encode(example(x=2.0).SerializeToString()).decode()
    status, text = post(app, "predict", {"signature_name": "examples", "instances": [{"b64": encoded}]})
    assert (status, json.loads(text)) == (200, {"predictions": [3.0]})
    status, text = post(app, "predict", {"inputs": {"inputs": [{"b64": encoded}]}})
    assert (status, json.loads(text)) == (200, {"outputs": [[3.0]]})


@pytest.mark.rule("examples.signatures", "classify.outputs", "regress.outputs", "error.unknown-signature")
@pytest.mark.parametrize(
    ("verb", "signature", "message"),
    [
        ("classify", "s", "No signature was found with the name: s"),
        ("regress", "s", "No signature was found with the name: s"),
        ("classify", "no_input", "Expected one input Tensor."),
        ("classify", "two_inputs", "Expected one input Tensor."),
        ("regress", "two_inputs", "Expected one input Tensor."),
        ("regress", "classify", "Expected one output Tensor."),
        ("classify", "three_outputs", "Expected one or two output Tensors, found 3"),
        ("classify", "other_input_of_classes", 'No classification inputs found in SignatureDef: inputs {\n  key: "x"'),
        ("classify", "other_output", 'Expected classification signature outputs to contain at least one of "classes"'),
        ("regress", "other_input", 'No regression inputs found in SignatureDef: inputs {\n  key: "x"'),
        ("regress", "other_output", "No regression outputs found in SignatureDef: "),
        ("classify", "by_vector", 'Expected classification signature outputs to contain at least one of "classes"'),
        ("regress", "by_vector", "Expects arg[0] to be float but string is provided"),
        ("classify", "flat_scores", "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ("classify", "double_scores", "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ("classify", "numbers_as_classes", "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ("classify", "one_row_of_scores", "Expected scores output batch size of 2. Got: 1"),
        ("classify", "uneven", "Tensors class and score should match in dim_size(1). Got 2 vs. 1"),
        (
            "regress",
            "wide",
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
        ),
        ("regress", "one_output", "Input batch size did not match output batch size: 2 vs. 1"),
        ("regress", "double", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)
def test_a_signature_of_another_kind_is_refused(app: RestApplication, verb: str, signature: str, message: str) -> None:
    """Contract 6, errors of the signature and of its outputs; all are 400 over REST."""
    body = {"signature_name": signature, "examples": [{"x": 2.0}, {"x": 3.0}]}
    assert error(app, verb, body).startswith(message)


@pytest.mark.rule("examples.method-names")
def test_method_names_are_checked_only_by_option(app: RestApplication) -> None:
    """Contract 6: `--enable_signature_method_name_check`."""
    strict = RestApplication(app._repository, check_method_names=True)
    body = {"examples": [{"x": 2.0}], "signature_name": "scores_only"}
    assert post(app, "classify", body)[0] == 200
    assert error(strict, "classify", body) == (
        "Expected classification signature method_name to be tensorflow/serving/classify. Was: "
    )
    body["signature_name"] = "classify"
    assert post(strict, "classify", body)[0] == 200
    assert error(strict, "regress", body) == (
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/classify"
    )
    predict = {"inputs": ["x"], "signature_name": "regress_flat"}
    assert "method_name to be one of {tensorflow/serving/predict" in error(strict, "predict", predict, 500)


# Records.


@pytest.mark.rule("monitoring.request-count")
def test_each_request_leaves_a_record(app: RestApplication) -> None:
    """Contract 9: REST requests of every kind are counted, with their status."""
    RECORDS.clear()
    body = b'{"examples": [{"x": 2.0}, {"x": 3.0}]}'
    response = app.handle("POST", "/v1/models/m:regress", body, peer="192.0.2.1:5")
    app.handle("POST", "/v1/models/m:classify", "x")
    app.handle("POST", "/v1/models/m/versions/7:predict", '{"signature_name": "by_vector", "instances": [1, 2, 3]}')
    app.handle("GET", "/v1/models/nobody")
    app.handle("GET", "/v1/models/m/metadata")
    app.handle("GET", "/v1/models/m/versions/99999999999999999999")
    app.handle("PUT", "/v1/models/m")
    app.handle("GET", "/elsewhere")
    first = RECORDS[0]
    assert (first.peer, first.bytes_in, first.bytes_out) == ("192.0.2.1:5", len(body), len(response.body))
    assert 0 < first.seconds < 60
    assert [
        (each.entrypoint, each.api, each.model, each.version, each.signature, each.num_examples, each.code)
        for each in RECORDS
    ] == [
        ("REST", "Regress", "m", 7, "serving_default", 2, Code.OK),
        ("REST", "Classify", "m", None, "", None, Code.INVALID_ARGUMENT),
        ("REST", "Predict", "m", 7, "by_vector", 3, Code.OK),
        ("REST", "GetModelStatus", "nobody", None, "", None, Code.NOT_FOUND),
        ("REST", "GetModelMetadata", "m", 7, "", None, Code.OK),
        ("REST", "", "", None, "", None, Code.INVALID_ARGUMENT),
        ("REST", "", "", None, "", None, Code.INVALID_ARGUMENT),
    ]


def test_a_recorder_that_fails_fails_no_request(app: RestApplication, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: RequestRecord) -> None:
        raise RuntimeError("full disk")

    failing = RestApplication(app._repository, on_request=fail)
    assert post(failing, "regress", '{"examples": [{"x": 2.0}]}')[0] == 200
    assert "could not be recorded" in caplog.text


def test_an_error_that_quotes_bytes_of_the_request_keeps_its_text(app: RestApplication) -> None:
    body = '{"signature_name": "examples", "instances": [{"b64": "gA=="}]}'  # the byte 80, which is no UTF-8
    assert "Could not parse example input, value: '\ufffd'" in error(app, "predict", body)
