"""From a version folder to what answers requests: loaded, batched where asked for, warmed up, and measured."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_seqattn.serving.errors import Code, as_serving_error
from keras_seqattn.serving.models.batching_parameters import BatchingParameters, parameters_for_version
from keras_seqattn.serving.models.repository import Loader
from keras_seqattn.serving.models.servable import Array, RunResult, Servable, WrappedServable
from keras_seqattn.serving.monitoring.metrics import ServerMetrics

__all__ = ["MeasuredServable", "saved_model_loader"]


def saved_model_loader(
    tags: Sequence[str] = ("serve",),
    *,
    enable_warmup: bool = True,
    num_warmup_iterations: int = 1,
    batching: BatchingParameters | None = None,
    per_model_batching: bool = False,
    session_config: Any = None,
    metrics: ServerMetrics | None = None,
) -> Loader:
    """A loader for `ModelRepository`: a SavedModel with its warm-up requests replayed.

    Args:
        tags: of the graph to load.
        enable_warmup: replays the requests that a version brings along.
        num_warmup_iterations: times that each of them runs.
        batching: runs requests together that come together; None runs each alone.
        per_model_batching: takes the parameters in a version's own `batching_params.pbtxt`, and runs one that has none
            without batching.
        session_config: a `tensorflow.ConfigProto` for the model's session.
        metrics: told of loads, warm-ups and batches.
    """

    def load(path: str, name: str = "") -> Servable:
        from keras_seqattn.serving.models.batching import batched
        from keras_seqattn.serving.models.servable import load_saved_model

        began = time.perf_counter()
        is_loaded = False
        try:
            loaded = load_saved_model(path, tags, session_config)
            is_loaded = True
        finally:
            if metrics is not None:
                metrics.observe_load(path, is_loaded, time.perf_counter() - began)
        servable: Servable = loaded
        parameters = None
        try:
            if batching is not None:
                parameters = parameters_for_version(path, batching, per_model=per_model_batching)
            if parameters is not None:
                servable = batched(loaded, parameters, None if metrics is None else _batch_observer(metrics, name))
            if enable_warmup:
                _warm_up(servable, path, num_warmup_iterations, metrics)
        except BaseException:
            servable.close()
            raise
        return servable if metrics is None else MeasuredServable(servable, name, metrics)

    return load


class MeasuredServable(WrappedServable[Servable]):
    """A servable whose runs are told to the metrics.

    Args:
        servable: what is run; belongs to this one.
        name: of the model.
        metrics: told how long each run took, and of how many rows it was.
    """

    def __init__(self, servable: Servable, name: str, metrics: ServerMetrics) -> None:
        super().__init__(servable)
        self._name = name
        self._metrics = metrics

    @property
    def queue_depth(self) -> int:
        """Rows that wait for a batch; none without batching."""
        return getattr(self._servable, "queue_depth", 0)

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        timeout_seconds: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Runs a signature, and measures it where it does not fail."""
        began = time.perf_counter()
        results = self._servable.run(signature_name, inputs, timeout_seconds, outputs)
        self._observe(signature_name, inputs, time.perf_counter() - began)
        return results

    def submit(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        done: Callable[[RunResult], None],
        timeout_seconds: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Callable[[], None] | None:
        """Lets a signature run in a batch, as `BatchedServable.submit` does; None without batching."""
        submit = getattr(self._servable, "submit", None)
        if submit is None:
            return None
        began = time.perf_counter()

        def measured(result: RunResult) -> None:
            if not isinstance(result, Exception):
                self._observe(signature_name, inputs, time.perf_counter() - began)
            done(result)

        return submit(signature_name, inputs, measured, timeout_seconds, outputs)

    def _observe(self, signature_name: str, inputs: Mapping[str, Array], seconds: float) -> None:
        rows = next((len(array) for array in inputs.values() if array.ndim), None)
        self._metrics.observe_run(self._name, signature_name, seconds, rows)


def _batch_observer(metrics: ServerMetrics, name: str) -> Callable[[str, int], None]:
    return lambda signature, rows: metrics.observe_batch(name, rows)


def _warm_up(servable: Servable, path: str, num_iterations: int, metrics: ServerMetrics | None) -> None:
    from keras_seqattn.serving.models.warmup import replay_warmup

    began, code = time.perf_counter(), Code.UNKNOWN
    try:
        replayed = replay_warmup(servable, path, num_iterations=num_iterations)
        code = Code.OK if replayed else Code.NOT_FOUND
    except Exception as error:
        code = as_serving_error(error).code
        raise
    finally:
        if metrics is not None and code != Code.NOT_FOUND:
            metrics.observe_warmup(path, code, time.perf_counter() - began)
