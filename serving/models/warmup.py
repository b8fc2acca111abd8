"""The requests that a model brings along to be run before its first client comes."""

import logging
import os
from collections.abc import Iterator

import numpy as np

from keras_seqattn.serving.errors import Code, ServingError, as_serving_error
from keras_seqattn.serving.models.servable import Servable
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["replay_warmup"]

_LOG = logging.getLogger(__name__)
_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_MAX_RECORDS = 1000
_LATER = ("classify_log", "regress_log", "multi_inference_log")  # with classify and regress themselves


def replay_warmup(servable: Servable, path: str) -> int:
    """Runs the requests in `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLog, in order.

    Args:
        servable: the version that was loaded from `path`.
        path: its folder. Without such a file nothing happens.
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
        if kind in _LATER:
            _LOG.warning("%s: record %d is a %s, which this server does not replay yet", file, number, kind)
        elif kind != "predict_log":
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind} in record {number}")
        else:
            _replay(servable, log.predict_log.request, f"{file}, record {number}")
            replayed += 1
    return replayed


def _records(file: str) -> Iterator[bytes]:
    import tensorflow as tf

    try:
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            yield bytes(record)
    except tf.errors.OpError as error:
        raise as_serving_error(error) from error


def _replay(servable: Servable, request: object, where: str) -> None:
    import tensorflow as tf

    name = request.model_spec.signature_name or DEFAULT_SIGNATURE  # type: ignore[attr-defined]
    if name not in servable.signatures:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found. ({where})')
    inputs = {key: np.asarray(tf.make_ndarray(proto)) for key, proto in request.inputs.items()}  # type: ignore[attr-defined]
    try:
        servable.run(name, inputs)
    except ServingError as error:
        raise ServingError(error.code, f"{error.message} ({where})") from error
