"""TensorFlow Serving's REST API as its clients see it: calls to HTTP requests, replies to arrays."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.client.arrays import as_bytes, each, numpy_dtype
from keras_seqattn.serving.client.calls import Call, Metadata, Target
from keras_seqattn.serving.client.examples import features_of
from keras_seqattn.serving.client.failures import code_of_http_status, error_of
from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.models.repository import VersionStatus
from keras_seqattn.serving.models.signature import Signature, TensorSpec
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["HttpReply", "HttpRequest", "RestWire", "StaleMetadata", "document_of", "model_path"]

Array = npt.NDArray[Any]
Result = TypeVar("Result")

_INIT_OP = "__saved_model_init_op"


class StaleMetadata(Exception):
    """The reply is not that of the signature: another version has taken over since it was asked for."""


@dataclass(frozen=True)
class HttpRequest:
    """A request; the path follows the server's base URL."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True)
class HttpReply:
    """A whole reply."""

    status: int
    body: bytes


def model_path(target: Target) -> str:
    """The path of a model, or of one of its versions."""
    path = f"/v1/models/{quote(target.model, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    return path if target.label is None else f"{path}/labels/{quote(target.label, safe='')}"


def document_of(reply: HttpReply) -> dict[str, Any]:
    """The JSON of a reply. Raises ServingError with the code of its HTTP status and the server's own text."""
    try:
        document = _parsed(reply.body)
    except ValueError:
        document = None
    if reply.status == 200 and isinstance(document, dict):
        return document
    message = document.get("error") if isinstance(document, dict) else None
    if reply.status == 200:
        raise ServingError(Code.INTERNAL, f"The reply is no JSON object: {reply.body[:100]!r}")
    raise error_of(code_of_http_status(reply.status), str(message or f"HTTP status {reply.status}."))


class RestWire:
    """The `Wire` of REST. Predictions go in columns, which hold tensors of any rank."""

    def __init__(self) -> None:
        with packages_of_extra("serving"):
            import orjson
        self._dumps: Callable[..., bytes] = orjson.dumps
        self._numpy_option = orjson.OPT_SERIALIZE_NUMPY

    def predict(
        self,
        target: Target,
        signature_name: str,
        inputs: Mapping[str, Array],
        signature: Signature | None,
        outputs: tuple[str, ...] | None,
    ) -> Call[dict[str, Array]]:
        tensors = b",".join(self._dumps(name) + b":" + self._tensor(array) for name, array in inputs.items())
        body = b'{"signature_name":' + self._dumps(signature_name) + b',"inputs":{' + tensors + b"}}"

        def read(document: dict[str, Any]) -> dict[str, Array]:
            found = _outputs(document["outputs"], signature)
            unknown = sorted(set(outputs or ()) - set(found))
            if unknown:
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"output tensor alias not found in signature: {unknown[0]} Outputs expected to be in the set "
                    f"{{{','.join(sorted(found))}}}.",
                )
            return found if outputs is None else {name: found[name] for name in outputs}

        return _call("POST", f"{model_path(target)}:predict", body, read)

    def classify(
        self, target: Target, signature_name: str, examples: list[Any], context: Any
    ) -> Call[list[list[tuple[str, float]]]]:
        def read(document: dict[str, Any]) -> list[list[tuple[str, float]]]:
            return [[(str(label), float(np.float32(score))) for label, score in one] for one in document["results"]]

        body = self._examples(signature_name, examples, context)
        return _call("POST", f"{model_path(target)}:classify", body, read)

    def regress(self, target: Target, signature_name: str, examples: list[Any], context: Any) -> Call[Array]:
        def read(document: dict[str, Any]) -> Array:
            return np.array(document["results"], dtype=np.float32)

        body = self._examples(signature_name, examples, context)
        return _call("POST", f"{model_path(target)}:regress", body, read)

    def status(self, target: Target) -> Call[tuple[VersionStatus, ...]]:
        def read(document: dict[str, Any]) -> tuple[VersionStatus, ...]:
            return tuple(_version_status(one) for one in document["model_version_status"])

        return _call("GET", model_path(target), b"", read)

    def metadata(self, target: Target) -> Call[Metadata]:
        def read(document: dict[str, Any]) -> Metadata:
            signatures = document["metadata"]["signature_def"]["signature_def"]
            return Metadata(
                int(document["model_spec"]["version"]),
                {name: _signature(one) for name, one in signatures.items() if name != _INIT_OP},
            )

        return _call("GET", f"{model_path(target)}/metadata", b"", read)

    def _tensor(self, array: Array) -> bytes:
        if array.dtype == object:
            return self._dumps(each(_string, array).tolist())
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return json.dumps(array.tolist()).encode()  # NaN and Infinity, which JSON proper does not know
        if array.ndim == 0 or array.dtype.kind not in "biuf":
            return self._dumps(array.tolist())
        return self._dumps(np.ascontiguousarray(array), option=self._numpy_option)

    def _examples(self, signature_name: str, examples: list[Any], context: Any) -> bytes:
        def sent(example: Any) -> dict[str, Any]:
            return {name: [_sent_value(one) for one in values] for name, values in features_of(example).items()}

        body: dict[str, Any] = {"signature_name": signature_name}
        if context is not None:
            body["context"] = sent(context)
        body["examples"] = [sent(example) for example in examples]
        return json.dumps(body).encode()


def _call(method: str, path: str, body: bytes, read: Callable[[dict[str, Any]], Result]) -> Call[Result]:
    def read_reply(reply: HttpReply) -> Result:
        try:
            return read(document_of(reply))
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(
                Code.INTERNAL, f"The reply is not of TensorFlow Serving's form ({error!r}): {reply.body[:100]!r}"
            ) from None

    return Call(HttpRequest(method, path, body), read_reply)


def _string(element: str | bytes) -> str | dict[str, str]:
    """JSON of a string: plain when it is text, by base64 when it is bytes."""
    if isinstance(element, str):
        try:
            element.encode()
            return str(element)
        except UnicodeEncodeError:
            pass
    return {"b64": base64.b64encode(as_bytes(element)).decode()}


def _sent_value(value: Any) -> Any:
    return _string(value) if isinstance(value, str | bytes) else value


def _parsed(body: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(body)
    except ValueError:  # NaN, infinities, or strings that are no UTF-8
        return json.loads(body.decode("utf-8", "surrogateescape"), strict=False)


def _outputs(value: Any, signature: Signature | None) -> dict[str, Array]:
    if signature is None:
        raise StaleMetadata
    specs = signature.outputs
    if len(specs) == 1:  # comes without its name
        (name,) = specs
        if isinstance(value, dict) and value.keys() != {"b64"}:
            raise StaleMetadata
        return {name: _array(value, specs[name], name)}
    if not isinstance(value, dict) or value.keys() != specs.keys():
        raise StaleMetadata
    return {name: _array(value[name], specs[name], name) for name in specs}


def _array(value: Any, spec: TensorSpec, name: str) -> Array:
    try:
        if spec.dtype != "string":
            array = np.array(value, dtype=numpy_dtype(spec.dtype))
        else:
            array = each(lambda element: _element(element, name), np.array(value, dtype=object))
    except (TypeError, ValueError, OverflowError):
        raise StaleMetadata from None
    if array.size == 0 and spec.shape is not None and array.ndim < len(spec.shape):
        # JSON says nothing of the dimensions behind an empty one.
        array = array.reshape((*array.shape, *(max(size, 0) for size in spec.shape[array.ndim :])))
    return array


def _element(element: Any, name: str) -> str | bytes:
    if isinstance(element, dict):
        return base64.b64decode(element["b64"])
    if not isinstance(element, str):
        raise TypeError
    return as_bytes(element) if name.endswith("_bytes") else element


def _version_status(document: Mapping[str, Any]) -> VersionStatus:
    status = document.get("status", {})
    code = Code[status.get("error_code", "OK")]
    error = None if code == Code.OK else ServingError(code, status.get("error_message", ""))
    return VersionStatus(int(document["version"]), document["state"], error)


def _signature(document: Mapping[str, Any]) -> Signature:
    """A SignatureDef in the JSON of protos; read by hand, for a client over REST does without TensorFlow."""

    def spec(info: Mapping[str, Any]) -> TensorSpec:
        shape = info.get("tensor_shape", {})
        sizes = tuple(int(dim.get("size", 0)) for dim in shape.get("dim", ()))
        dtype = str(info["dtype"]).removeprefix("DT_").lower()
        return TensorSpec(info.get("name", ""), dtype, None if shape.get("unknown_rank") else sizes)

    inputs, outputs = document.get("inputs", {}), document.get("outputs", {})
    return Signature(
        inputs={name: spec(inputs[name]) for name in sorted(inputs)},
        outputs={name: spec(outputs[name]) for name in sorted(outputs)},
        method_name=document.get("method_name", ""),
    )
