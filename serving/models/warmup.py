"""The requests that a model brings along to be run before its first client comes."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_seqattn.serving.errors import Code, ServingError, as_serving_error
from keras_seqattn.serving.inference import Task, classify, examples_of, multi_inference, regress
from keras_seqattn.serving.models.servable import Servable
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["replay_warmup"]

_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_MAX_RECORDS = 1000


def replay_warmup(servable: Servable, path: str, *, num_iterations: int = 1) -> int:
    """Runs the requests in `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLog, in order.

    Args:
        servable: the version that was loaded from `path`.
        path: its folder. Without such a file nothing happens.
        num_iterations: how often each request runs.
    Returns: how many requests ran.
    Raises: ServingError when the file cannot be read, a record is of a kind that no server replays, there are more than
        1000, or a request fails.
    """
    import tensorflow as tf

    with packages_of_extra("serving"):
        from tensorflow_serving.apis import prediction_log_pb2

    file = os.path.join(path, _FILE)
    if not tf.io.gfile.exists(file):
        return 0
    replayed = 0
    for number, record in enumerate(_records(file)):
        if number >= _MAX_RECORDS:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}). Please reduce the records in {file}",
            )
        log = prediction_log_pb2.PredictionLog()
        try:
            log.ParseFromString(record)
        except Exception:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Failed to parse warmup record: {number} of {file} is no PredictionLog"
            ) from None
        kind = log.WhichOneof("log_type")
        if kind not in _REPLAYS:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind} in record {number}")
        for _ in range(num_iterations):
            try:
                _REPLAYS[kind](servable, getattr(log, kind).request)
            except ServingError as error:
                raise ServingError(error.code, f"{error.message} ({file}, record {number})") from error
        replayed += 1
    return replayed


def _records(file: str) -> Iterator[bytes]:
    import tensorflow as tf

    try:
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            yield bytes(record)
    except tf.errors.OpError as error:
        raise as_serving_error(error) from error


def _predict(servable: Servable, request: Any) -> None:
    import tensorflow as tf

    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    servable.run(name, {key: np.asarray(tf.make_ndarray(proto)) for key, proto in request.inputs.items()})


def _classify(servable: Servable, request: Any) -> None:
    classify(servable, request.model_spec.signature_name, examples_of(request.input))


def _regress(servable: Servable, request: Any) -> None:
    regress(servable, request.model_spec.signature_name, examples_of(request.input))


def _multi_inference(servable: Servable, request: Any) -> None:
    tasks = [Task(task.model_spec.name, task.model_spec.signature_name, task.method_name) for task in request.tasks]
    multi_inference(servable, tasks, examples_of(request.input))


_REPLAYS: Mapping[str, Callable[[Servable, Any], None]] = {
    "predict_log": _predict,
    "classify_log": _classify,
    "regress_log": _regress,
    "multi_inference_log": _multi_inference,
}
