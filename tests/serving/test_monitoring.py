"""Metrics by TensorFlow Serving's names, in its text format (section 9 of the contract)."""

import threading
import time
from pathlib import Path

import pytest

from keras_seqattn.serving import ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.monitoring.config import DEFAULT_PATH, read_monitoring_config
from keras_seqattn.serving.monitoring.instruments import Counter, Gauge, Histogram, exponential_limits
from keras_seqattn.serving.monitoring.metrics import ServerMetrics
from keras_seqattn.serving.monitoring.record import RequestRecord


def record(api: str = "Predict", entrypoint: str = "REST", code: Code = Code.OK, **others: object) -> RequestRecord:
    return RequestRecord(entrypoint, api, "m", code, 0.000050, **others)  # type: ignore[arg-type]


def samples(metrics: ServerMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """As Prometheus's own client library reads them; it adds `_total` to the names of counters."""
    from prometheus_client.parser import text_string_to_metric_families

    text = metrics.exposition().decode()
    return {
        (
            sample.name if f"{sample.name}{{" in text else sample.name.removesuffix("_total"),
            frozenset(sample.labels.items()),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: ServerMetrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


# The three examples are those of TensorFlow Serving's util/prometheus_exporter_test.cc.


@pytest.mark.rule("monitoring.format")
def test_a_counter_is_written_as_tensorflow_serving_writes_it() -> None:
    counter = Counter(":test:path:total", "name")
    counter.add("abc", amount=2)
    assert list(counter.lines()) == ["# TYPE :test:path:total counter", ':test:path:total{name="abc"} 2']


@pytest.mark.rule("monitoring.format")
def test_a_gauge_is_written_as_tensorflow_serving_writes_it() -> None:
    gauge = Gauge(":test:path:gague", "x", "y")
    gauge.set("abc", "def", value=5)
    assert list(gauge.lines()) == ["# TYPE :test:path:gague gauge", ':test:path:gague{x="abc",y="def"} 5']


@pytest.mark.rule("monitoring.format", "monitoring.buckets")
def test_a_histogram_is_written_as_tensorflow_serving_writes_it() -> None:
    histogram = Histogram(":test:path:histogram", "status", limits=exponential_limits(1, 2, 10))
    for one in (2, 20, 200):
        histogram.observe("good", value=one)
    counts = {"1": 0, "2": 0, "4": 1, "8": 1, "16": 1, "32": 2, "64": 2, "128": 2, "256": 3, "512": 3, "+Inf": 3}
    assert list(histogram.lines()) == [
        "# TYPE :test:path:histogram histogram",
        *(f':test:path:histogram_bucket{{status="good",le="{limit}"}} {count}' for limit, count in counts.items()),
        ':test:path:histogram_sum{status="good"} 222',
        ':test:path:histogram_count{status="good"} 3',
    ]


@pytest.mark.rule("monitoring.format")
def test_label_values_are_escaped() -> None:
    counter = Counter(":test:path:total", "name")
    counter.add('"abc\\"', amount=2)
    assert list(counter.lines())[1] == ':test:path:total{name="\\"abc\\\\\\""} 2'
    metrics = ServerMetrics()
    metrics.observe_request('a"b\\c\nd', "Predict", "REST", Code.OK, 1.0)
    assert value(metrics, ":tensorflow:serving:request_count", model_name='a"b\\c\nd', status="OK") == 1
    metrics.observe_request("\udcff", "Predict", "REST", Code.OK, 1.0)  # a name that is no UTF-8
    metrics.exposition().decode("utf-8")


@pytest.mark.rule("monitoring.request-count")
def test_rest_requests_of_every_kind_count_and_grpc_inferences_do() -> None:
    metrics = ServerMetrics()
    for api in ("Predict", "Classify", "Regress", "GetModelStatus", "GetModelMetadata"):
        metrics.on_request(record(api))
        metrics.on_request(record(api, "GRPC"))
    assert value(metrics, ":tensorflow:serving:request_count", model_name="m", status="OK") == 5 + 3


@pytest.mark.rule("monitoring.request-latency", "monitoring.buckets")
def test_the_latency_is_that_of_successes_by_api_and_entrypoint() -> None:
    metrics = ServerMetrics()
    metrics.on_request(record())
    metrics.on_request(record(entrypoint="GRPC"))
    metrics.on_request(record("GetModelStatus"))
    metrics.on_request(record(code=Code.INVALID_ARGUMENT))
    name = ":tensorflow:serving:request_latency"
    for api, entrypoint in (("predict", "REST"), ("Predict", "GRPC"), ("", "REST")):
        labels = {"model_name": "m", "API": api, "entrypoint": entrypoint}
        assert value(metrics, f"{name}_count", **labels) == 1
        assert value(metrics, f"{name}_sum", **labels) == pytest.approx(50)  # microseconds
        # 10 * 1.8 ** k: 10, 18, 32.4, 58.32, ...
        assert value(metrics, f"{name}_bucket", **labels, le="32.4") == 0
        assert value(metrics, f"{name}_bucket", **labels, le="58.32") == 1
        assert value(metrics, f"{name}_bucket", **labels, le="1.27482e+06") == 1  # as C++ writes 1274823.6
        assert value(metrics, f"{name}_bucket", **labels, le="+Inf") == 1
    assert value(metrics, ":tensorflow:serving:request_count", model_name="m", status="INVALID_ARGUMENT") == 1


@pytest.mark.rule("monitoring.format", "monitoring.examples-loads-warm-ups")
def test_there_are_type_lines_and_no_help() -> None:
    text = ServerMetrics().exposition().decode()
    assert "# HELP" not in text
    assert text.endswith("\n")
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert names == sorted(names)
    for name in (
        ":tensorflow:cc:saved_model:load_attempt_count",
        ":tensorflow:serving:model_warmup_latency",
        ":tensorflow:serving:request_example_count_total",
        ":tensorflow:serving:runtime_latency",
    ):
        assert name in names


@pytest.mark.rule("monitoring.examples-loads-warm-ups")
def test_examples_are_counted_where_requests_have_some() -> None:
    metrics = ServerMetrics()
    metrics.on_request(record("Classify", num_examples=3))
    metrics.on_request(record("Regress", "GRPC", num_examples=2))
    metrics.on_request(record("Regress", "GRPC", code=Code.INVALID_ARGUMENT, num_examples=2))
    metrics.on_request(record("Predict", num_examples=5))  # of tensors
    assert value(metrics, ":tensorflow:serving:request_example_count_total", model="m") == 5
    assert value(metrics, ":tensorflow:serving:request_example_counts_count", model="m") == 2


@pytest.mark.rule("monitoring.runtime-latency", "monitoring.examples-loads-warm-ups")
def test_runs_batches_loads_and_warm_ups_have_metrics() -> None:
    metrics = ServerMetrics()
    metrics.observe_run("m", "serving_default", 0.001, batch_size=3)
    metrics.observe_batch("m", 8, padding_size=2, queueing_seconds=0.002)
    metrics.observe_load("/models/m/1", True, 0.5)
    metrics.observe_load("/models/m/2", False)
    metrics.observe_warmup("/models/m/1", Code.OK, 0.25)
    metrics.set_queue_depth("other", 7)
    metrics.watch_queue_depth(lambda: {"m": 4})
    metrics.watch_access_log(lambda: 11)
    serving, batching = ":tensorflow:serving:", ":tensorflow:serving:batching_session:"
    assert value(metrics, f"{serving}runtime_latency_count", model_name="m", API="Predict", runtime="TF1") == 1
    assert value(metrics, f"{batching}input_batch_size_sum", model_name="m") == 3
    assert value(metrics, f"{batching}processed_batch_size_sum", model_name="m") == 8
    assert value(metrics, f"{batching}padding_size_sum", model_name="m") == 2
    assert value(metrics, f"{batching}queuing_latency_sum", thread_pool_name="m") == 2000
    assert value(metrics, f"{batching}wrapped_run_count") == 1
    loads = ":tensorflow:cc:saved_model:load_attempt_count"
    assert value(metrics, loads, model_path="/models/m/1", status="success") == 1
    assert value(metrics, loads, model_path="/models/m/2", status="fail") == 1
    assert value(metrics, ":tensorflow:cc:saved_model:load_latency", model_path="/models/m/1") == 500_000
    assert value(metrics, f"{serving}model_warmup_latency_sum", model_path="/models/m/1", status="OK") == 250_000
    assert value(metrics, f"{serving}queue_depth", model_name="m") == 4
    assert value(metrics, f"{serving}queue_depth", model_name="other") == 7
    assert value(metrics, f"{serving}access_log_lost_count") == 11


def test_nothing_is_lost_between_threads() -> None:
    metrics, one = ServerMetrics(), record()

    def count() -> None:
        for _ in range(2000):
            metrics.on_request(one)

    threads = [threading.Thread(target=count) for _ in range(7)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.exposition()
    for thread in threads:
        thread.join()
    assert value(metrics, ":tensorflow:serving:request_count", model_name="m", status="OK") == 14_000


def test_model_names_without_end_do_not_fill_the_memory() -> None:
    metrics = ServerMetrics()
    for number in range(3000):
        metrics.observe_request(f"m{number}", "Predict", "REST", Code.NOT_FOUND, 0.0)
    name = ":tensorflow:serving:request_count"
    counts = {key: count for key, count in samples(metrics).items() if key[0] == name}
    assert sum(counts.values()) == 3000
    assert len(counts) <= 1001
    assert value(metrics, name, model_name="m5", status="NOT_FOUND") == 1


def test_counting_a_request_takes_microseconds() -> None:
    metrics, one = ServerMetrics(), record()
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(100):
            metrics.on_request(one)
        best = min(best, (time.perf_counter() - started) / 100)
    assert best < 30e-6


@pytest.mark.rule("monitoring.off", "monitoring.config")
def test_the_monitoring_config_file_turns_metrics_on(tmp_path: Path) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text('prometheus_config { enable: true path: "/metrics" }')
    config = read_monitoring_config(file)
    assert (config.enable, config.path) == (True, "/metrics")
    file.write_text("prometheus_config {\n  enable: true\n}\n# a comment")
    config = read_monitoring_config(file)
    assert (config.enable, config.path) == (True, DEFAULT_PATH)
    file.write_text("")
    assert not read_monitoring_config(file).enable


def test_a_monitoring_config_file_that_does_not_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="Cannot read the monitoring config file") as raised:
        read_monitoring_config(tmp_path / "none")
    assert raised.value.code == Code.NOT_FOUND
    file = tmp_path / "monitoring.config"
    for text in ("prometheus_config { on: true }", "{", "prometheus_config { path: 'metrics' }"):
        file.write_text(text)
        with pytest.raises(ServingError) as raised:
            read_monitoring_config(file)
        assert raised.value.code == Code.INVALID_ARGUMENT
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ServingError, match="Error parsing text-format tensorflow.serving.MonitoringConfig"):
        read_monitoring_config(file)
