"""The REST API of TensorFlow Serving, apart from sockets: a method, a path and a body in, a response out."""

import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from keras_seqattn.serving.errors import Code, ServingError, as_serving_error
from keras_seqattn.serving.models.model_info import metadata_json, model_metadata, model_status, status_json
from keras_seqattn.serving.models.repository import ModelRepository
from keras_seqattn.serving.rest import predict_json
from keras_seqattn.serving.rest.json_text import error_document

__all__ = ["Response", "RestApplication"]

_LOG = logging.getLogger(__name__)

_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?:(classify|regress|predict)", re.IGNORECASE
)
_STATUS = re.compile(r"/v1/models(?:/([^/:]+))?(?:/versions/([0-9]+)|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE)
_JSON = {"Content-Type": "application/json"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_MAX_INFLATED_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Response:
    """What goes back to the client."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class _Target:
    """The model that a URL names; `verb` is the part after it."""

    name: str
    version: int | None
    label: str | None
    verb: str


class RestApplication:
    """Answers REST requests from a repository; safe to call from many threads.

    Args:
        repository: the models.
        timeout_seconds: after which a run is cancelled and answered with 504; None waits for ever.
        enable_cors: adds the headers that let pages of any origin call the server.
    """

    def __init__(
        self, repository: ModelRepository, *, timeout_seconds: float | None = 30.0, enable_cors: bool = False
    ) -> None:
        self._repository = repository
        self._timeout_seconds = timeout_seconds
        self._enable_cors = enable_cors

    def handle(
        self, method: str, path: str, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Answers one request; never raises.

        Args:
            method: the HTTP verb, in capitals.
            path: as it stands in the request line, percent-encoded, with the query if there is one.
            body: as received.
            headers: `Content-Encoding` and `Origin` are read, by any case.
        """
        if not path.lower().startswith("/v1/"):
            return Response(404, {"Content-Type": "text/plain"}, b"Not Found\n")
        given = {name.lower(): value for name, value in (headers or {}).items()}
        extra = _CORS if self._enable_cors else {}
        if method == "OPTIONS":
            origin = given.get("origin", "")
            is_web = "http://" in origin or "https://" in origin
            return Response(200 if is_web else 400, extra)
        content = body.encode() if isinstance(body, str) else body
        if "gzip" in given.get("content-encoding", "").lower():
            content = _inflate(content)
        try:
            return Response(200, {**_JSON, **extra}, self._answer(method, path, content))
        except _BadVersion:
            return Response(400, {**_JSON, **extra})
        except Exception as raised:
            error = as_serving_error(raised)
            if not isinstance(raised, ServingError):
                _LOG.exception("%s %s failed inside the server.", method, path)
            return Response(error.code.http_status, {**_JSON, **extra}, error_document(error.message))

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        if method == "POST":
            target = _target(_PREDICTION.fullmatch(path))
            if target is not None and target.verb == "predict":
                return self._predict(target, body)
            if target is not None and target.verb in ("classify", "regress"):
                raise ServingError(
                    Code.UNIMPLEMENTED, f"The embedded server does not answer :{target.verb} yet; use :predict."
                )
        elif method == "GET":
            target = _target(_STATUS.fullmatch(path))
            if target is not None:
                if not target.name:
                    raise ServingError(Code.INVALID_ARGUMENT, "Missing model name in request.")
                return self._metadata(target) if target.verb == "metadata" else self._status(target)
        raise ServingError(Code.INVALID_ARGUMENT, f"Malformed request: {method} {path}")

    def _predict(self, target: _Target, body: bytes) -> bytes:
        document = predict_json.object_from(body)
        signature_name = predict_json.signature_name_from(document)
        with self._repository.lease(target.name, target.version, target.label) as lease:
            signature = lease.servable.signatures.get(signature_name)
            if signature is None:
                raise ServingError(
                    Code.INVALID_ARGUMENT, f'Serving signature name: "{signature_name}" not found in signature def'
                )
            inputs = predict_json.read_predict(document, signature, signature_name)
            outputs = lease.servable.run(signature_name, inputs.arrays, self._timeout_seconds)
        return predict_json.write_predict(outputs, signature.outputs, by_row=inputs.by_row)

    def _status(self, target: _Target) -> bytes:
        return status_json(model_status(self._repository, target.name, target.version))  # a label is ignored

    def _metadata(self, target: _Target) -> bytes:
        version, signatures = model_metadata(self._repository, target.name, target.version, target.label)
        return metadata_json(target.name, version, signatures)


class _BadVersion(Exception):
    """A version beyond int64, which is answered by 400 without a body."""


def _target(match: re.Match[str] | None) -> _Target | None:
    if match is None:
        return None
    name, version, label, verb = match.groups()
    if version is not None and (len(version.lstrip("0")) > 19 or int(version) >= 2**63):
        raise _BadVersion
    return _Target(
        name=_decoded(name) or "",
        version=None if version is None else int(version),
        label=_decoded(label),
        verb=verb or "",
    )


def _decoded(part: str | None) -> str | None:
    return None if part is None else unquote_to_bytes(part).decode("utf-8", "surrogateescape")


def _inflate(body: bytes) -> bytes:
    """Unpacks gzip; what is corrupt or too large counts as an empty body."""
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        content = inflater.decompress(body, _MAX_INFLATED_BYTES)
    except zlib.error:
        return b""
    return content if inflater.eof else b""
