"""`tensorflow.serving.PredictionService`: Predict, Classify, Regress, MultiInference and GetModelMetadata."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.grpc.calls import Call, Method, lease_arguments
from keras_seqattn.serving.grpc.tensors import array_from_proto, write_proto
from keras_seqattn.serving.inference import (
    Classifications,
    Task,
    check_predict_method,
    classify,
    examples_of,
    multi_inference,
    regress,
)
from keras_seqattn.serving.models.model_info import model_metadata
from keras_seqattn.serving.models.repository import Lease, ModelRepository
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE, Signature
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["PREDICTION_SERVICE", "PredictionService"]

Array = npt.NDArray[Any]

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
_METADATA_FIELD = "signature_def"


class PredictionService:
    """Answers the five RPCs from a repository.

    Args:
        repository: the models.
        tensor_content: writes outputs into `tensor_content` rather than into the field of their dtype.
        check_method_names: asks of each signature that it was made for what is asked of it.
    """

    def __init__(
        self, repository: ModelRepository, *, tensor_content: bool = False, check_method_names: bool = False
    ) -> None:
        with packages_of_extra("serving"):
            from tensorflow_serving.apis import (
                classification_pb2,
                get_model_metadata_pb2,
                inference_pb2,
                predict_pb2,
                regression_pb2,
            )

        self._repository = repository
        self._tensor_content = tensor_content
        self._check_method_names = check_method_names
        self._predict_response = predict_pb2.PredictResponse
        self._classification_response = classification_pb2.ClassificationResponse
        self._regression_response = regression_pb2.RegressionResponse
        self._multi_inference_response = inference_pb2.MultiInferenceResponse
        self._metadata_response = get_model_metadata_pb2.GetModelMetadataResponse
        self.methods: Mapping[str, Method] = {
            "Predict": Method(predict_pb2.PredictRequest, self._predict),
            "Classify": Method(classification_pb2.ClassificationRequest, self._classify),
            "Regress": Method(regression_pb2.RegressionRequest, self._regress),
            "MultiInference": Method(inference_pb2.MultiInferenceRequest, self._multi_inference),
            "GetModelMetadata": Method(get_model_metadata_pb2.GetModelMetadataRequest, self._metadata),
        }

    def _predict(self, request: Any, call: Call) -> Any:
        arguments = lease_arguments(request, call)
        name = call.signature = call.signature or DEFAULT_SIGNATURE
        with self._repository.lease(*arguments) as lease:
            call.version = lease.version
            signature = lease.servable.signatures.get(name)
            if signature is None:
                raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
            if self._check_method_names:
                check_predict_method(signature)
            inputs = _inputs(request.inputs, signature, lease.servable.signature_defs.get(name))
            call.num_examples = min((len(array) for array in inputs.values() if array.ndim), default=None)
            if request.output_filter:
                wanted = _filtered(request.output_filter, signature)
                outputs = lease.servable.run(name, inputs, call.timeout_seconds, outputs=wanted)
            else:
                outputs = lease.servable.run(name, inputs, call.timeout_seconds)
        response = self._predict_response()
        _fill_spec(response.model_spec, lease, name)
        for output, array in outputs.items():
            dtype = signature.outputs[output].dtype
            write_proto(response.outputs[output], array, dtype, as_content=self._tensor_content)
        return response

    def _classify(self, request: Any, call: Call) -> Any:
        arguments = lease_arguments(request, call)
        name = call.signature = call.signature or DEFAULT_SIGNATURE
        examples = examples_of(request.input)
        call.num_examples = len(examples)
        with self._repository.lease(*arguments) as lease:
            call.version = lease.version
            classifications = classify(
                lease.servable, name, examples, call.timeout_seconds, check_method_name=self._check_method_names
            )
        response = self._classification_response()
        _fill_spec(response.model_spec, lease, name)
        _fill_classifications(response.result, classifications)
        return response

    def _regress(self, request: Any, call: Call) -> Any:
        arguments = lease_arguments(request, call)
        name = call.signature = call.signature or DEFAULT_SIGNATURE
        examples = examples_of(request.input)
        call.num_examples = len(examples)
        with self._repository.lease(*arguments) as lease:
            call.version = lease.version
            values = regress(
                lease.servable, name, examples, call.timeout_seconds, check_method_name=self._check_method_names
            )
        response = self._regression_response()
        _fill_spec(response.model_spec, lease, name)
        _fill_regressions(response.result, values)
        return response

    def _multi_inference(self, request: Any, call: Call) -> Any:
        if not request.tasks or not request.tasks[0].model_spec.name:
            raise ServingError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        arguments = lease_arguments(request.tasks[0], call)
        examples = examples_of(request.input)
        call.num_examples = len(examples)
        tasks = [Task(task.model_spec.name, task.model_spec.signature_name, task.method_name) for task in request.tasks]
        call.signature = ",".join(task.signature_name or DEFAULT_SIGNATURE for task in tasks)
        with self._repository.lease(*arguments) as lease:
            call.version = lease.version
            results = multi_inference(
                lease.servable, tasks, examples, call.timeout_seconds, check_method_name=self._check_method_names
            )
        response = self._multi_inference_response()
        for task, result in zip(tasks, results, strict=True):
            proto = response.results.add()
            _fill_spec(proto.model_spec, lease, task.signature_name or DEFAULT_SIGNATURE)
            if isinstance(result, Classifications):
                _fill_classifications(proto.classification_result, result)
            else:
                _fill_regressions(proto.regression_result, result)
        return response

    def _metadata(self, request: Any, call: Call) -> Any:
        if not request.HasField("model_spec"):
            raise ServingError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
        call.model = request.model_spec.name
        if not request.metadata_field:
            raise ServingError(
                Code.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _METADATA_FIELD:
                raise ServingError(Code.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
        arguments = lease_arguments(request, call)
        version, signatures = model_metadata(self._repository, *arguments)
        call.version = version
        response = self._metadata_response()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.metadata[_METADATA_FIELD].Pack(signatures)
        return response


def _inputs(given: Mapping[str, Any], signature: Signature, signature_def: Any) -> dict[str, Array]:
    """The arrays of all inputs; those that the client leaves out come from the signature's defaults, if it has any."""
    defaults: Mapping[str, Any] = {} if len(given) == len(signature.inputs) else signature_def.defaults
    if len(given) > len(signature.inputs) or (len(given) < len(signature.inputs) and not defaults):
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"input size does not match signature: {len(given)}!={len(signature.inputs)} len({_set(given)}) != "
            f"len({_set(signature.inputs)}). Sent extra: {_set(given.keys() - signature.inputs.keys())}. "
            f"Missing but required: {_set(signature.inputs.keys() - given.keys())}.",
        )
    arrays = {}
    for name, spec in signature.inputs.items():
        if name in given:
            arrays[name] = array_from_proto(given[name], name)
        elif name in (known := signature_def.defaults):
            arrays[name] = array_from_proto(known[name], name)
        else:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Signature input alias: {name}(feed name: {spec.tensor_name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {_set(given)}, or default input alias set: "
                f"{','.join(sorted(known))}",
            )
    extra = given.keys() - signature.inputs.keys()
    if extra:
        used = ",".join(sorted(given.keys() - extra))
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Inputs contains invalid name. Used request inputs: {used}, request input: {','.join(sorted(given))}",
        )
    return arrays


def _filtered(output_filter: Any, signature: Signature) -> list[str]:
    wanted: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}.",
            )
        if alias in wanted:
            raise ServingError(Code.INVALID_ARGUMENT, f"duplicate output tensor alias: {alias}")
        wanted.append(alias)
    return wanted


def _set(names: Any) -> str:
    return f"{{{','.join(sorted(names))}}}"


def _fill_spec(spec: Any, lease: Lease, signature_name: str) -> None:
    spec.name, spec.signature_name = lease.name, signature_name
    spec.version.value = lease.version


def _fill_classifications(result: Any, classifications: Classifications) -> None:
    for row in classifications:
        classes = result.classifications.add().classes
        for label, score in row:
            classes.add(label=label.decode("utf-8", "replace"), score=score)


def _fill_regressions(result: Any, values: Array) -> None:
    for value in np.asarray(values).tolist():
        result.regressions.add().value = value
