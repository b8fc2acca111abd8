"""TensorFlow Serving's gRPC API as its clients see it: calls to protos, protos to arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.client.arrays import as_bytes, as_text, each
from keras_seqattn.serving.client.calls import Call, Metadata, Target
from keras_seqattn.serving.client.examples import example_proto
from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.models.repository import VersionStatus
from keras_seqattn.serving.models.signature import Signature, signature_from_proto
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["GrpcRequest", "GrpcWire"]

Array = npt.NDArray[Any]

_INIT_OP = "__saved_model_init_op"


@dataclass(frozen=True)
class GrpcRequest:
    """A unary call: the method's full name, the request and the class of the response."""

    method: str
    message: Any
    response_class: Any


class GrpcWire:
    """The `Wire` of gRPC. Making one imports TensorFlow, which the protos need."""

    def __init__(self) -> None:
        with packages_of_extra("serving"):
            from tensorflow_serving.apis import (
                classification_pb2,
                get_model_metadata_pb2,
                get_model_status_pb2,
                predict_pb2,
                regression_pb2,
            )
        import tensorflow as tf

        self._tf = tf
        self._predict, self._classify, self._regress = predict_pb2, classification_pb2, regression_pb2
        self._metadata, self._status = get_model_metadata_pb2, get_model_status_pb2

    def predict(
        self,
        target: Target,
        signature_name: str,
        inputs: Mapping[str, Array],
        signature: Signature | None,
        outputs: tuple[str, ...] | None,
    ) -> Call[dict[str, Array]]:
        request = self._predict.PredictRequest(output_filter=outputs or ())
        _fill_spec(request.model_spec, target, signature_name)
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(self._tensor(array))

        def read(response: Any) -> dict[str, Array]:
            found = {name: self._array(response.outputs[name], name) for name in sorted(response.outputs)}
            return found if outputs is None else {name: found[name] for name in outputs}

        return _call("PredictionService/Predict", request, self._predict.PredictResponse, read)

    def classify(
        self, target: Target, signature_name: str, examples: list[Any], context: Any
    ) -> Call[list[list[tuple[str, float]]]]:
        def read(response: Any) -> list[list[tuple[str, float]]]:
            return [
                [(one.label, float(one.score)) for one in classifications.classes]
                for classifications in response.result.classifications
            ]

        request = self._classify.ClassificationRequest()
        _fill_examples(request, target, signature_name, examples, context)
        return _call("PredictionService/Classify", request, self._classify.ClassificationResponse, read)

    def regress(self, target: Target, signature_name: str, examples: list[Any], context: Any) -> Call[Array]:
        def read(response: Any) -> Array:
            return np.array([one.value for one in response.result.regressions], dtype=np.float32)

        request = self._regress.RegressionRequest()
        _fill_examples(request, target, signature_name, examples, context)
        return _call("PredictionService/Regress", request, self._regress.RegressionResponse, read)

    def status(self, target: Target) -> Call[tuple[VersionStatus, ...]]:
        def read(response: Any) -> tuple[VersionStatus, ...]:
            return tuple(self._version_status(one) for one in response.model_version_status)

        request = self._status.GetModelStatusRequest()
        _fill_spec(request.model_spec, target, "")
        return _call("ModelService/GetModelStatus", request, self._status.GetModelStatusResponse, read)

    def metadata(self, target: Target) -> Call[Metadata]:
        def read(response: Any) -> Metadata:
            signatures = self._metadata.SignatureDefMap()
            response.metadata["signature_def"].Unpack(signatures)
            return Metadata(
                response.model_spec.version.value,
                {
                    name: signature_from_proto(proto)
                    for name, proto in sorted(signatures.signature_def.items())
                    if name != _INIT_OP
                },
            )

        request = self._metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill_spec(request.model_spec, target, "")
        return _call("PredictionService/GetModelMetadata", request, self._metadata.GetModelMetadataResponse, read)

    def _tensor(self, array: Array) -> Any:
        if array.dtype != object:
            return self._tf.make_tensor_proto(array)
        return self._tf.make_tensor_proto(each(as_bytes, array), dtype=self._tf.string, shape=array.shape)

    def _array(self, proto: Any, name: str) -> Array:
        array: Array = np.asarray(self._tf.make_ndarray(proto))
        return as_text(array, name) if array.dtype == object else array

    def _version_status(self, proto: Any) -> VersionStatus:
        code = Code(proto.status.error_code)
        state = self._status.ModelVersionStatus.State.Name(proto.state)
        return VersionStatus(
            proto.version, state, None if code == Code.OK else ServingError(code, proto.status.error_message)
        )


def _call(method: str, message: Any, response_class: Any, read: Any) -> Call[Any]:
    return Call(GrpcRequest(f"/tensorflow.serving.{method}", message, response_class), read)


def _fill_spec(spec: Any, target: Target, signature_name: str) -> None:
    spec.name = target.model
    spec.signature_name = signature_name
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label


def _fill_examples(request: Any, target: Target, signature_name: str, examples: list[Any], context: Any) -> None:
    _fill_spec(request.model_spec, target, signature_name)
    protos = [example_proto(example) for example in examples]
    if context is None:
        request.input.example_list.examples.extend(protos)
    else:
        request.input.example_list_with_context.examples.extend(protos)
        request.input.example_list_with_context.context.CopyFrom(example_proto(context))
