"""Status and metadata."""

import json

import pytest

from keras_seqattn.serving import RestApplication


@pytest.mark.rule("status.answer")
def test_status_lists_versions_with_all_fields(app: RestApplication) -> None:
    response = app.handle("GET", "/v1/models/half_plus_two")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.body.decode() == (
        '{\n "model_version_status": [\n  {\n   "version": "123",\n   "state": "AVAILABLE",\n   "status": {\n'
        '    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )


@pytest.mark.rule("status.labels", "url.status-and-metadata", "url.case")
@pytest.mark.parametrize("suffix", ["/versions/123", "/labels/unknown", "/METADATA"])
def test_status_of_a_version_and_by_an_ignored_label(app: RestApplication, suffix: str) -> None:
    document = json.loads(app.handle("GET", f"/v1/models/half_plus_two{suffix}").body)
    assert [status["version"] for status in document["model_version_status"]] == ["123"]


@pytest.mark.rule("status.unknown", "metadata.unknown", "url.query")
@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/m", 404, "Could not find any versions of model m"),
        ("/v1/models/half_plus_two?a=b", 404, "Could not find any versions of model half_plus_two?a=b"),
        ("/v1/models/half_plus_two/versions/7", 404, "Could not find version 7 of model half_plus_two"),
        ("/v1/models/m/metadata", 404, "Servable not found for request: Latest(m)"),
        ("/v1/models/m/versions/7/metadata", 404, "Servable not found for request: Specific(m, 7)"),
        ("/v1/models/m/labels/a/metadata", 400, "Unrecognized servable version label: a"),
    ],
)
def test_unknown_models_and_versions(app: RestApplication, path: str, status: int, message: str) -> None:
    response = app.handle("GET", path)
    assert (response.status, json.loads(response.body)) == (status, {"error": message})


@pytest.mark.rule("metadata.answer", "metadata.all-fields", "metadata.every-signature")
def test_metadata_tells_each_signature_with_all_fields(app: RestApplication) -> None:
    response = app.handle("GET", "/v1/models/half_plus_two/metadata")
    assert response.body.decode().startswith(
        '{\n"model_spec":{\n "name": "half_plus_two",\n "signature_name": "",\n "version": "123"\n}\n,\n'
        '"metadata": {"signature_def": {\n "signature_def": {\n'
    )
    document = json.loads(response.body)
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "__saved_model_init_op"}
    default = signatures["serving_default"]
    assert default["inputs"] == {
        "x": {
            "dtype": "DT_FLOAT",
            "name": "serving_default_x:0",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        }
    }
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["defaults"] == {}
    assert signatures["__saved_model_init_op"]["inputs"] == {}
    assert document["metadata"]["signature_def"].keys() == {"signature_def"}
