"""Which URLs are answered, and by whom."""

import json

import pytest

from keras_seqattn.serving import RestApplication

BODY = '{"instances": [1]}'


def error(app: RestApplication, method: str, path: str, body: str = "", status: int = 400) -> str:
    response = app.handle(method, path, body)
    assert response.headers["Content-Type"] == "application/json"
    assert response.status == status, response.body
    document = json.loads(response.body)
    assert list(document) == ["error"]
    return str(document["error"])


@pytest.mark.rule("url.predict-classify-regress", "url.version-digits", "url.percent-encoding", "url.case")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/half_plus_two:predict",
        "/v1/models/half_plus_two/versions/123:predict",
        "/v1/models/half_plus_two/versions/000123:predict",
        "/v1/models/half%5Fplus%5Ftwo:predict",
        "/V1/Models/half_plus_two/Versions/123:predict",
    ],
)
def test_predict_is_found(app: RestApplication, path: str) -> None:
    assert app.handle("POST", path, BODY).status == 200


@pytest.mark.rule("url.malformed", "url.version-or-label", "url.version-digits", "url.case", "url.query")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/m:Predict"),
        ("POST", "/v1/models/m:predict?a=b"),
        ("POST", "/v1/models/m:predict/"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m/versions/1/labels/a:predict"),
        ("POST", "/v1/models/m/versions/x:predict"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/v1/models/a/b:predict"),
        ("GET", "/v1/models/m:predict"),
        ("GET", "/v1/models/m/"),
        ("GET", "/v1/models/m/metadata/"),
        ("GET", "/v1/models/m/versions/1/labels/a"),
        ("GET", "/v1/"),
        ("PUT", "/v1/models/m:predict"),
        ("DELETE", "/v1/models/m"),
        ("PATCH", "/v1/models/m"),
    ],
)
def test_other_requests_are_malformed(app: RestApplication, method: str, path: str) -> None:
    assert error(app, method, path, BODY) == f"Malformed request: {method} {path}"


@pytest.mark.rule("url.missing-name")
def test_a_name_is_needed(app: RestApplication) -> None:
    for path in ("/v1/models", "/v1/models/versions/1", "/v1/models/labels/a", "/v1/models/metadata/metadata"):
        if path.endswith("metadata/metadata"):
            assert error(app, "GET", path, status=404).startswith("Servable not found")
        else:
            assert error(app, "GET", path) == "Missing model name in request."


@pytest.mark.rule("url.outside-v1", "monitoring.off")
@pytest.mark.parametrize("path", ["/", "/v2/models/m", "/v1", "/monitoring/prometheus/metrics", "/metrics"])
def test_paths_outside_v1_are_plain_404s(app: RestApplication, path: str) -> None:
    response = app.handle("GET", path)
    assert (response.status, response.headers["Content-Type"]) == (404, "text/plain")


@pytest.mark.rule("url.version-beyond-int64")
def test_a_version_beyond_int64_gets_400_with_an_empty_body(app: RestApplication) -> None:
    for path in ("/v1/models/half_plus_two/versions/9223372036854775808", f"/v1/models/m/versions/{'9' * 5000}"):
        response = app.handle("GET", path)
        assert (response.status, response.body) == (400, b"")
        assert app.handle("POST", path + ":predict", BODY).status == 400
    assert error(app, "GET", "/v1/models/m/versions/9223372036854775807", status=404)


@pytest.mark.rule("error.unknown-model-or-version", "error.unknown-label", "url.percent-encoding")
@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/m:predict", 404, "Servable not found for request: Latest(m)"),
        ("/v1/models/a%2Fb%3Ac:predict", 404, "Servable not found for request: Latest(a/b:c)"),
        ("/v1/models/m/versions/7:predict", 404, "Servable not found for request: Specific(m, 7)"),
        (
            "/v1/models/half_plus_two/versions/7:predict",
            404,
            "Servable not found for request: Specific(half_plus_two, 7)",
        ),
        ("/v1/models/half_plus_two/labels/canary:predict", 400, "Unrecognized servable version label: canary"),
        ("/v1/models/m/labels/canary:predict", 400, "Unrecognized servable version label: canary"),
    ],
)
def test_lookup_errors(app: RestApplication, path: str, status: int, message: str) -> None:
    assert error(app, "POST", path, BODY, status) == message


@pytest.mark.rule("error.unknown-signature", "json.signature-name")
def test_an_unknown_signature_is_invalid(app: RestApplication) -> None:
    body = '{"signature_name": "s", "instances": [1]}'
    assert error(app, "POST", "/v1/models/half_plus_two:predict", body) == (
        'Serving signature name: "s" not found in signature def'
    )
    assert (
        app.handle("POST", "/v1/models/half_plus_two:predict", '{"signature_name": "", "instances": [1]}').status == 200
    )


@pytest.mark.rule("error.order-of-predict", "json.object-at-the-top", "json.signature-name")
def test_errors_come_in_tensorflow_servings_order(app: RestApplication) -> None:
    assert "JSON Parse error" in error(app, "POST", "/v1/models/m:predict", "x")
    assert "Is not object" in error(app, "POST", "/v1/models/m:predict", "[]")
    assert "must be a string" in error(app, "POST", "/v1/models/m:predict", '{"signature_name": 1}')
    assert "Latest(m)" in error(app, "POST", "/v1/models/m:predict", "{}", 404)
    assert '"s" not found' in error(app, "POST", "/v1/models/half_plus_two:predict", '{"signature_name": "s"}')


@pytest.mark.rule("rest.options", "rest.cors")
def test_options_is_for_web_origins(app: RestApplication) -> None:
    for origin, status in (("https://example.org", 200), ("http://localhost:3000", 200), ("null", 400), ("", 400)):
        response = app.handle("OPTIONS", "/v1/models/m:predict", headers={"Origin": origin})
        assert (response.status, response.body) == (status, b"")
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.rule("rest.cors")
def test_cors_headers_come_with_every_reply_once_enabled(repository) -> None:  # type: ignore[no-untyped-def]
    app = RestApplication(repository, enable_cors=True)
    for method, path in (("OPTIONS", "/v1/x"), ("GET", "/v1/models/half_plus_two"), ("GET", "/v1/x"), ("PUT", "/v1/x")):
        headers = app.handle(method, path, headers={"origin": "http://a"}).headers
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Access-Control-Allow-Methods"] == "POST, GET"
        assert headers["Access-Control-Allow-Headers"] == "Content-Type"


@pytest.mark.rule("rest.timeout")
def test_a_run_that_takes_too_long_is_cancelled(repository) -> None:  # type: ignore[no-untyped-def]
    app = RestApplication(repository, timeout_seconds=0.2)
    response = app.handle("POST", "/v1/models/many:predict", '{"signature_name": "spin", "instances": [100000000000]}')
    assert response.status == 504
    assert list(json.loads(response.body)) == ["error"]
