"""What a whole server tells of its requests: the page for Prometheus and the access log."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keras_seqattn.serving import EmbeddedServer, ServingError
from keras_seqattn.serving.client.client import Client
from keras_seqattn.serving.monitoring.config import DEFAULT_PATH

pytestmark = pytest.mark.slow


def page(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.mark.rule(
    "monitoring.config",
    "monitoring.page",
    "monitoring.request-count",
    "monitoring.request-latency",
    "monitoring.examples-loads-warm-ups",
)
def test_a_server_tells_of_its_requests(models: Path, tmp_path: Path) -> None:
    log, path = tmp_path / "access.jsonl", str(models / "half_plus_two")
    with EmbeddedServer({"m": path}, metrics_path=DEFAULT_PATH, access_log=log) as server, Client(server.url) as client:
        for _ in range(3):
            client.predict("m", [1.0, 2.0])
        with pytest.raises(ServingError, match="Specific"):
            client.predict("m", [1.0], version=77)
        client.status("m")
        status, content_type, text = page(server.url + DEFAULT_PATH)
        assert page(server.url + DEFAULT_PATH + "?a=b")[0] == 400
    assert status == 200
    assert content_type.startswith("text/plain")
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    serving = ":tensorflow:serving:"
    ok = found[f"{serving}request_count_total", ("model_name", "m"), ("status", "OK")]
    assert ok == 5  # and the metadata that the client asked for
    assert found[f"{serving}request_count_total", ("model_name", "m"), ("status", "NOT_FOUND")] == 1
    labels = (("API", "predict"), ("entrypoint", "REST"), ("model_name", "m"))
    assert found[(f"{serving}request_latency_count", *labels)] == 3
    loads = (("model_path", f"{path}/00000123"), ("status", "success"))
    assert found[(":tensorflow:cc:saved_model:load_attempt_count_total", *loads)] == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["api"], line["code"], line["status"]) for line in lines] == [
        ("GetModelMetadata", "OK", 200), *[("Predict", "OK", 200)] * 3,
        ("GetModelMetadata", "NOT_FOUND", 404), ("GetModelStatus", "OK", 200),
    ]  # fmt: skip
    first = lines[1]
    assert (first["model"], first["version"], first["signature"]) == ("m", 123, "serving_default")
    assert first["num_examples"] in (2, None)
    assert first["peer"].startswith("127.0.0.1:")
    assert first["bytes_in"] > 0 < first["bytes_out"]
    assert 0 < first["latency_ms"] < 20_000
