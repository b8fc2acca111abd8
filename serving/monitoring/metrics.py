"""What the server counts and measures, under TensorFlow Serving's own names."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.monitoring.instruments import Counter, Gauge, Histogram, Instrument, exponential_limits
from keras_seqattn.serving.monitoring.record import RequestRecord

__all__ = ["CONTENT_TYPE", "ServerMetrics"]

CONTENT_TYPE = "text/plain"

_SERVING = ":tensorflow:serving:"
_BATCHING = f"{_SERVING}batching_session:"
_SAVED_MODEL = ":tensorflow:cc:saved_model:"
_LATENCIES = exponential_limits(10, 1.8, 33)  # microseconds, to some 20 minutes
_QUEUEING_LATENCIES = exponential_limits(100, 1.2, 52)  # microseconds, to some second
_COUNTS = exponential_limits(1, 2, 15)
_INFERENCES = ("Predict", "Classify", "Regress")
_OF_EXAMPLES = ("Classify", "Regress", "MultiInference")

_Kind = TypeVar("_Kind", bound=Instrument)


class ServerMetrics:
    """The metrics of a server; its `on_request` may be called from many threads and takes a few microseconds.

    Names, labels and buckets are TensorFlow Serving's, so that its dashboards work. Two gauges are ours:
    `:tensorflow:serving:queue_depth` and `:tensorflow:serving:access_log_lost_count`.
    """

    def __init__(self) -> None:
        self._instruments: list[Instrument] = []
        self._readings: list[Callable[[], object]] = []

        def counter(name: str, *labels: str) -> Counter:
            return self._added(Counter(name, *labels))

        def histogram(name: str, *labels: str, limits: Sequence[float] = _LATENCIES) -> Histogram:
            return self._added(Histogram(name, *labels, limits=limits))

        self._load_attempts = counter(f"{_SAVED_MODEL}load_attempt_count", "model_path", "status")
        self._load_latency = counter(f"{_SAVED_MODEL}load_latency", "model_path")
        self._warmup = histogram(f"{_SERVING}model_warmup_latency", "model_path", "status")
        self._requests = counter(f"{_SERVING}request_count", "model_name", "status")
        self._request_latency = histogram(f"{_SERVING}request_latency", "model_name", "API", "entrypoint")
        self._examples_total = counter(f"{_SERVING}request_example_count_total", "model")
        self._examples = histogram(f"{_SERVING}request_example_counts", "model", limits=_COUNTS)
        self._runtime = histogram(f"{_SERVING}runtime_latency", "model_name", "API", "runtime")
        self._input_batch = histogram(f"{_BATCHING}input_batch_size", "model_name", limits=_COUNTS)
        self._batch = histogram(f"{_BATCHING}processed_batch_size", "model_name", limits=_COUNTS)
        self._padding = histogram(f"{_BATCHING}padding_size", "model_name", limits=_COUNTS)
        self._queueing = histogram(f"{_BATCHING}queuing_latency", "thread_pool_name", limits=_QUEUEING_LATENCIES)
        self._wrapped_runs = counter(f"{_BATCHING}wrapped_run_count")
        self._queue_depth = self._added(Gauge(f"{_SERVING}queue_depth", "model_name"))
        self._lost_lines = self._added(Gauge(f"{_SERVING}access_log_lost_count"))

    def on_request(self, record: RequestRecord) -> None:
        """Counts one answered request, REST or gRPC."""
        self.observe_request(record.model, record.api, record.entrypoint, record.code, record.seconds)
        if record.num_examples is not None and record.code == Code.OK and record.api in _OF_EXAMPLES:
            self._examples_total.add(record.model, amount=record.num_examples)
            self._examples.observe(record.model, value=record.num_examples)

    def observe_request(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """Counts one answered request; `RequestRecord` says what the arguments are.

        Over REST every request counts, over gRPC Predict, Classify and Regress do. The latency is that of successes.
        """
        is_inference = api in _INFERENCES
        if entrypoint == "REST":
            api = api.lower() if is_inference else ""
        elif not is_inference:
            return
        self._requests.add(model, code.name)
        if code == Code.OK:
            self._request_latency.observe(model, api, entrypoint, value=_microseconds(seconds))

    def observe_run(
        self, model: str, signature: str, seconds: float, batch_size: int | None = None, api: str = "Predict"
    ) -> None:
        """Counts one run of a model's graph.

        Args:
            model: its name.
            signature: that ran; TensorFlow Serving does not tell these apart, and so there is no label for it.
            seconds: in TensorFlow, the wait for a batch included.
            batch_size: rows of the run; None is unknown.
            api: `Predict`, `Classify`, `Regress` or `MultiInference`.
        """
        self._runtime.observe(model, api, "TF1", value=_microseconds(seconds))
        if batch_size is not None:
            self._input_batch.observe(model, value=batch_size)

    def observe_batch(
        self, model: str, batch_size: int, padding_size: int = 0, queueing_seconds: float | None = None
    ) -> None:
        """Counts one batch that several requests made.

        Args:
            model: its name.
            batch_size: rows that ran, padding included.
            padding_size: rows of it that nobody sent.
            queueing_seconds: that the first of its requests waited; None is unknown.
        """
        self._wrapped_runs.add()
        self._batch.observe(model, value=batch_size)
        self._padding.observe(model, value=padding_size)
        if queueing_seconds is not None:
            self._queueing.observe(model, value=_microseconds(queueing_seconds))

    def observe_load(self, model_path: str, ok: bool, seconds: float = 0.0) -> None:
        """Counts one try to load a version folder, and the time that it took."""
        self._load_attempts.add(model_path, "success" if ok else "fail")
        self._load_latency.add(model_path, amount=round(_microseconds(seconds)))

    def observe_warmup(self, model_path: str, code: Code, seconds: float) -> None:
        """Counts one replay of the warm-up requests of a version folder."""
        self._warmup.observe(model_path, code.name, value=_microseconds(seconds))

    def set_queue_depth(self, model: str, depth: int) -> None:
        """Tells how many requests of a model wait to be run."""
        self._queue_depth.set(model, value=depth)

    def watch_queue_depth(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Asks `read` for the depths of queues, by model, whenever the metrics are read."""

        def update() -> None:
            for model, depth in read().items():
                self._queue_depth.set(model, value=depth)

        self._readings.append(update)

    def watch_access_log(self, read: Callable[[], int]) -> None:
        """Asks `read` for the number of lost lines whenever the metrics are read."""
        self._readings.append(lambda: self._lost_lines.set(value=read()))

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format, sorted by name."""
        for read in self._readings:
            read()
        lines = [line for one in sorted(self._instruments, key=lambda one: one.name) for line in one.lines()]
        return ("\n".join(lines) + "\n").encode("utf-8", "replace")

    def _added(self, instrument: _Kind) -> _Kind:
        self._instruments.append(instrument)
        return instrument


def _microseconds(seconds: float) -> float:
    return max(0.0, seconds * 1e6)
