"""Status and metadata of models as TensorFlow Serving's own protos, and these protos as JSON."""

import json
from typing import Any

from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.models.repository import ModelRepository
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["metadata_json", "model_metadata", "model_status", "status_json"]


def model_status(repository: ModelRepository, name: str, version: int | None = None) -> Any:
    """A GetModelStatusResponse: all versions, the newest first, or the given one. Raises ServingError, NOT_FOUND."""
    with packages_of_extra("serving"):
        from tensorflow_serving.apis import get_model_status_pb2

    response = get_model_status_pb2.GetModelStatusResponse()
    for status in repository.statuses(name, version):
        proto = response.model_version_status.add()
        proto.version = status.version
        proto.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
        proto.status.error_code = int(status.error.code if status.error else Code.OK)
        proto.status.error_message = status.error.message if status.error else ""
    return response


def model_metadata(
    repository: ModelRepository, name: str, version: int | None = None, label: str | None = None
) -> tuple[int, Any]:
    """The version that answers, and its SignatureDefMap. Raises ServingError."""
    with packages_of_extra("serving"):
        from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = get_model_metadata_pb2.SignatureDefMap()
    with repository.lease(name, version, label) as lease:
        for signature_name, proto in sorted(lease.servable.signature_defs.items()):
            signatures.signature_def[signature_name].CopyFrom(proto)
        return lease.version, signatures


def status_json(status: Any) -> bytes:
    """A GetModelStatusResponse as JSON."""
    return _json(_dictionary(status)).encode()


def metadata_json(name: str, version: int, signatures: Any) -> bytes:
    """The answer to `/metadata`: spec and signatures are written apart and put together, line breaks included."""
    spec = _json({"name": name, "signature_name": "", "version": str(version)})
    return (
        f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {_json(_dictionary(signatures))}}}\n}}\n'
    ).encode()


def _dictionary(message: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    values: dict[str, Any] = json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
    return values


def _json(value: dict[str, Any]) -> str:
    """JSON in the layout of protobuf's C++ writer, which also escapes angle brackets."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    return text.replace("<", "\\u003c").replace(">", "\\u003e")
