"""Rules of docs/serving-contract.md about REST that have no better place."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, RestApplication, ServingError, VersionPolicy
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.signature import Signature, TensorSpec
from keras_seqattn.serving.rest.predict_json import read_predict, write_predict
from tests.serving.conftest import Asker, function, write_saved_model, write_scaling_model
from tests.serving.examples import write_examples_model


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestApplication]:
    """Versions 1 and 2 of `m`, which compute 1 * x and 2 * x, by number and as `stable` and `canary`; and `e`."""
    folder = tmp_path_factory.mktemp("versions")
    for version in (1, 2):
        write_scaling_model(folder / "m" / str(version), float(version))
    write_examples_model(folder / "e" / "7")
    configs = [
        ModelConfig("m", str(folder / "m"), VersionPolicy("all"), {"stable": 1, "canary": 2}),
        ModelConfig("e", str(folder / "e"), VersionPolicy(), {"a/b:c": 7}),
    ]
    repository = ModelRepository(configs, saved_model_loader(), allow_labels_for_unavailable=True)
    repository.poll()
    yield RestApplication(repository)
    repository.close()


def post(app: RestApplication, path: str, body: str) -> tuple[int, object]:
    response = app.handle("POST", path, body)
    return response.status, json.loads(response.body)


@pytest.mark.rule("url.predict-classify-regress", "policy.unversioned-requests", "labels.pointers")
def test_a_version_is_asked_by_number_by_label_or_as_the_highest(versions: RestApplication) -> None:
    for which, answer in (
        ("/versions/1", 1.0), ("/versions/2", 2.0), ("/labels/stable", 1.0), ("/labels/canary", 2.0), ("", 2.0),
    ):  # fmt: skip
        assert post(versions, f"/v1/models/m{which}:predict", '{"inputs": 1}') == (200, {"outputs": answer})


@pytest.mark.rule("url.predict-classify-regress", "url.percent-encoding")
def test_classify_and_regress_are_asked_alike(versions: RestApplication) -> None:
    body = '{"signature_name": "regress", "examples": [{"x": 2.0}]}'
    for which in ("", "/versions/7", "/labels/a%2Fb%3Ac"):
        assert post(versions, f"/v1/models/e{which}:regress", body) == (200, {"results": [3.0]})
    body = '{"signature_name": "classify", "examples": [{"x": 2.0, "name": "a"}]}'
    for which in ("", "/versions/7", "/labels/a%2Fb%3Ac"):
        answer = {"results": [[["a", 3.0], ["other", -3.0]]]}
        assert post(versions, f"/v1/models/e{which}:classify", body) == (200, answer)


@pytest.mark.rule("url.status-and-metadata")
def test_status_and_metadata_are_told_of_each_version(versions: RestApplication) -> None:
    for which, version in (("/versions/1", "1"), ("/labels/stable", "1"), ("", "2")):
        document = json.loads(versions.handle("GET", f"/v1/models/m{which}/metadata").body)
        assert document["model_spec"]["version"] == version
    document = json.loads(versions.handle("GET", "/v1/models/m").body)
    assert [one["version"] for one in document["model_version_status"]] == ["2", "1"]


@pytest.mark.rule("url.nothing-else")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/m:multiInference"),
        ("POST", "/v1/models/m:reload"),
        ("POST", "/v1/config/reload"),
        ("POST", "/v1/models"),
        ("GET", "/v1/config"),
        ("GET", "/v1/health"),
        ("GET", "/v1/models/m/ready"),
        ("GET", "/v1/models/m/versions"),
        ("HEAD", "/v1/models/m"),
    ],
)
def test_what_other_servers_have_is_malformed(app: RestApplication, method: str, path: str) -> None:
    response = app.handle(method, path, "{}")
    assert (response.status, json.loads(response.body)) == (400, {"error": f"Malformed request: {method} {path}"})


@pytest.mark.rule("rest.plain-replies", "rest.content-type")
def test_a_client_that_takes_gzip_gets_plain_json(app: RestApplication) -> None:
    headers = {"Accept-Encoding": "gzip, deflate", "Content-Type": "text/xml"}
    for body, status in (('{"instances": [1]}', 200), ("x", 400)):
        response = app.handle("POST", "/v1/models/half_plus_two:predict", body, headers)
        assert (response.status, dict(response.headers)) == (status, {"Content-Type": "application/json"})
        assert response.body.startswith(b"{")


@pytest.mark.rule("error.http-status")
def test_each_code_has_its_status() -> None:
    statuses = {
        200: ("OK",),
        400: ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"),
        401: ("UNAUTHENTICATED",),
        403: ("PERMISSION_DENIED",),
        404: ("NOT_FOUND",),
        409: ("ALREADY_EXISTS", "ABORTED"),
        429: ("RESOURCE_EXHAUSTED",),
        499: ("CANCELLED",),
        500: ("UNKNOWN", "INTERNAL", "DATA_LOSS"),
        501: ("UNIMPLEMENTED",),
        503: ("UNAVAILABLE",),
        504: ("DEADLINE_EXCEEDED",),
    }
    assert {code.name: code.http_status for code in Code} == {
        name: status for status, names in statuses.items() for name in names
    }


@pytest.mark.rule("error.one-key", "error.http-status")
def test_an_error_inside_the_server_is_an_answer_too(models: Path) -> None:
    class Busy:
        def run(self, *_: object) -> None:
            raise ServingError(Code.UNAVAILABLE, 'a "full" queue\n')

        def close(self) -> None:
            pass

    loaded = saved_model_loader()(str(models / "half_plus_two" / "2"), "m")
    busy = Busy()
    busy.signatures, busy.signature_defs = loaded.signatures, loaded.signature_defs  # type: ignore[attr-defined]
    loaded.close()
    config = ModelConfig("m", str(models / "half_plus_two"))
    repository = ModelRepository([config], lambda path, name: busy)  # type: ignore[arg-type,return-value]
    repository.poll()
    answer = post(RestApplication(repository), "/v1/models/m:predict", '{"instances": [1]}')
    assert answer == (503, {"error": 'a "full" queue\n'})
    repository.close()


@pytest.mark.rule("json.unknown-keys")
def test_keys_that_mean_nothing_are_ignored(half: Asker, versions: RestApplication) -> None:
    assert half.answer('{"a": null, "instances": [1], "input": [[2], {}], "Inputs": 5}') == {"predictions": [2.5]}
    body = '{"signature_name": "regress", "a": null, "examples": [{"x": 2.0}], "instances": {}}'
    assert post(versions, "/v1/models/e:regress", body) == (200, {"results": [3.0]})


@pytest.mark.rule("json.first-duplicate-wins")
def test_of_two_equal_keys_the_first_counts(many: Asker) -> None:
    body = '{"signature_name": "same_int32", "inputs": [1], "inputs": [2], "signature_name": "x"}'
    assert many.answer(body) == {"outputs": [1]}
    body = '{"signature_name": "add", "inputs": {"a": 1, "a": 50, "b": 2}}'
    assert many.answer(body) == {"outputs": 3.0}


@pytest.mark.rule("examples.duplicates")
def test_of_two_features_of_one_name_the_first_counts(versions: RestApplication) -> None:
    body = '{"signature_name": "regress", "examples": [{"x": 2.0, "x": 4.0}]}'
    assert post(versions, "/v1/models/e:regress", body) == (200, {"results": [3.0]})


@pytest.mark.rule("predict.floats")
def test_decimals_are_read_to_the_nearest_double(many: Asker) -> None:
    for text in ("5708990770823839524233143877797980545530986496", "0.1234567890123456789", "2.2250738585072011e-308"):
        answer = many.answer(f'{{"signature_name": "same_float64", "inputs": {text}}}')
        assert answer == {"outputs": float(text)}  # Python reads to the nearest


@pytest.mark.rule("answer.number-of-rows")
def test_the_answer_may_have_another_number_of_rows(many: Asker) -> None:
    assert many.answer('{"signature_name": "spin", "instances": [3, 5, 7]}') == {"predictions": [3]}
    specs = {"y": TensorSpec("y:0", "float", None)}
    assert json.loads(write_predict({"y": np.zeros(0, np.float32)}, specs, by_row=True)) == {"predictions": []}
    assert json.loads(write_predict({"y": np.zeros((0, 3), np.float32)}, specs, by_row=True)) == {"predictions": []}


@pytest.mark.rule("answer.bytes", "predict.base64", "predict.strings")
def test_the_name_of_an_input_says_nothing_about_base64(tmp_path: Path) -> None:
    function_ = function(lambda x_bytes: {"y": x_bytes}, x_bytes=([None], "string"))
    write_saved_model(tmp_path / "1", {"serving_default": function_})
    repository = ModelRepository([ModelConfig("m", str(tmp_path))], saved_model_loader())
    repository.poll()
    for text in ('"YQ=="', '{"b64": "WVE9PQ=="}'):
        body = f'{{"instances": [{text}]}}'
        assert post(RestApplication(repository), "/v1/models/m:predict", body) == (200, {"predictions": ["YQ=="]})
    repository.close()


@pytest.mark.rule("status.ready", "status.ended-versions", "status.answer")
def test_a_version_that_does_not_load_is_told_with_its_error(tmp_path: Path) -> None:
    write_scaling_model(tmp_path / "1", 1.0)
    repository = ModelRepository([ModelConfig("m", str(tmp_path))], saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    write_scaling_model(tmp_path / "2", 2.0)
    repository.poll()
    (tmp_path / "3").mkdir()
    repository.poll()
    app = RestApplication(repository)
    response = app.handle("GET", "/v1/models/m")
    failed, serving, unloaded = json.loads(response.body)["model_version_status"]
    assert response.status == 200
    assert (failed["version"], failed["state"], failed["status"]["error_code"]) == ("3", "END", "NOT_FOUND")
    assert failed["status"]["error_message"].startswith("Could not find SavedModel")
    fine = {"error_code": "OK", "error_message": ""}
    assert serving == {"version": "2", "state": "AVAILABLE", "status": fine}
    assert unloaded == {"version": "1", "state": "END", "status": fine}
    response = app.handle("GET", "/v1/models/m/versions/3")
    assert (response.status, json.loads(response.body)) == (200, {"model_version_status": [failed]})
    assert post(app, "/v1/models/m/versions/3:predict", '{"inputs": 1}')[0] == 404
    repository.close()


@pytest.mark.rule("predict.dtypes-beyond-json", "answer.dtypes-beyond-json")
@pytest.mark.parametrize("dtype", ["half", "bfloat16", "uint16", "complex64", "complex128", "qint8"])
def test_other_dtypes_are_neither_read_nor_written(dtype: str) -> None:
    specs = {"x": TensorSpec("x:0", dtype, None)}
    signature = Signature(specs, specs)
    message = f"Conversion of JSON Value: 1 to type: {dtype}"
    with pytest.raises(ServingError) as raised:
        read_predict({"inputs": [1]}, signature, "serving_default")
    assert (raised.value.code, raised.value.message) == (Code.UNIMPLEMENTED, message)
    with pytest.raises(ServingError, match=message) as raised:
        read_predict({"instances": [1]}, signature, "serving_default")
    assert raised.value.code == Code.INVALID_ARGUMENT
    for by_row in (True, False):
        with pytest.raises(ServingError, match=f"Failed to write JSON value for tensor type: {dtype}$") as raised:
            write_predict({"x": np.zeros(3, np.float16)}, specs, by_row=by_row)
        assert raised.value.code == Code.INVALID_ARGUMENT
