"""The REST API of TensorFlow Serving, apart from sockets: a method, a path and a body in, a response out."""

import logging
import re
import time
import zlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from keras_seqattn.serving.errors import Code, ServingError, as_serving_error
from keras_seqattn.serving.inference import check_predict_method, classify, regress
from keras_seqattn.serving.models.model_info import metadata_json, model_metadata, model_status, status_json
from keras_seqattn.serving.models.repository import ModelRepository
from keras_seqattn.serving.models.servable import Array, RunResult, Servable
from keras_seqattn.serving.monitoring.record import RequestRecord
from keras_seqattn.serving.rest import examples_json, predict_json
from keras_seqattn.serving.rest.json_text import error_document

__all__ = ["Response", "RestApplication", "Run", "Steps", "finish"]

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
_APIS = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}  # by the verb, which is in lower case
_MAX_INFLATED_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Response:
    """What goes back to the client."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Run:
    """What a request asks of a model."""

    servable: Servable
    signature_name: str
    inputs: Mapping[str, Array]
    timeout_seconds: float | None

    def __call__(self) -> RunResult:
        """The outputs, or what went wrong; waits for them."""
        try:
            return self.servable.run(self.signature_name, self.inputs, self.timeout_seconds)
        except Exception as error:
            return error

    def submit(self, done: Callable[[RunResult], None]) -> Callable[[], None] | None:
        """Has it run in a batch and `done` called with its result, in another thread.

        Returns: a function that takes it back, to be called after the timeout; None where it runs in no batch, and
            nothing is done.
        """
        submit = getattr(self.servable, "submit", None)
        if submit is None:
            return None
        try:
            return submit(self.signature_name, self.inputs, done, self.timeout_seconds)
        except Exception as error:
            done(error)
            return lambda: None


Steps = Generator[Run | Response, RunResult, None]


def finish(steps: Steps, step: Run | Response) -> Response:
    """The response of a request that has come to `step`; runs what is to run."""
    while isinstance(step, Run):
        step = steps.send(step())
    return step


@dataclass(frozen=True)
class _Target:
    """The model that a URL names; `verb` is the part after it."""

    name: str
    version: int | None
    label: str | None
    verb: str


@dataclass
class _Noted:
    """What the record of a request will say; filled in as it becomes known."""

    api: str = ""
    model: str = ""
    version: int | None = None
    signature: str = ""
    num_examples: int | None = None


class RestApplication:
    """Answers REST requests from a repository; safe to call from many threads.

    Args:
        repository: the models.
        timeout_seconds: after which a run is cancelled and answered with 504; None waits for ever.
        enable_cors: adds the headers that let pages of any origin call the server.
        check_method_names: asks of each signature that it was made for what is asked of it.
        on_request: called with the record of each request of the API, in the thread that answered it.
    """

    def __init__(
        self,
        repository: ModelRepository,
        *,
        timeout_seconds: float | None = 30.0,
        enable_cors: bool = False,
        check_method_names: bool = False,
        on_request: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self._repository = repository
        self._timeout_seconds = timeout_seconds
        self._enable_cors = enable_cors
        self._check_method_names = check_method_names
        self._on_request = on_request

    def handle(
        self,
        method: str,
        path: str,
        body: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
        *,
        peer: str = "",
        waited_seconds: float = 0.0,
    ) -> Response:
        """Answers one request; never raises.

        Args:
            method: the HTTP verb, in capitals.
            path: as it stands in the request line, percent-encoded, with the query if there is one.
            body: as received.
            headers: `Content-Encoding` and `Origin` are read, by any case.
            peer: who asks, for the record: `127.0.0.1:40404`.
            waited_seconds: since the request came; one that has waited longer than a run may take is not computed.
        """
        steps = self.steps(method, path, body, headers, peer=peer, waited_seconds=waited_seconds)
        return finish(steps, next(steps))

    def steps(
        self,
        method: str,
        path: str,
        body: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
        *,
        peer: str = "",
        waited_seconds: float = 0.0,
    ) -> Steps:
        """Answers one request, as `handle`, stopping where a model is to run: for who does not want to wait there.

        Yields: a `Run`, whose outputs or error are to be sent, or, at the end, the response.
        """
        if not path.lower().startswith("/v1/"):
            yield Response(404, {"Content-Type": "text/plain"}, b"Not Found\n")
            return
        given = {name.lower(): value for name, value in (headers or {}).items()}
        extra = _CORS if self._enable_cors else {}
        if method == "OPTIONS":
            origin = given.get("origin", "")
            is_web = "http://" in origin or "https://" in origin
            yield Response(200 if is_web else 400, extra)
            return
        received = body.encode() if isinstance(body, str) else body
        started = time.perf_counter() - waited_seconds
        noted = _Noted()
        if self._timeout_seconds is not None and waited_seconds >= self._timeout_seconds:
            code = Code.DEADLINE_EXCEEDED
            answer = error_document(f"The request waited {waited_seconds:.1f} s for its turn, and was not run.")
        else:
            content = _inflate(received) if "gzip" in given.get("content-encoding", "").lower() else received
            code, answer = yield from self._answer(method, path, content, noted)
        self._record(noted, code, time.perf_counter() - started, peer, len(received), len(answer))
        yield Response(code.http_status, {**_JSON, **extra}, answer)

    def refuse(self, code: Code, message: str, status: int | None = None, *, peer: str = "") -> Response:
        """The answer to a request that the transport does not take; counted like any other.

        Args:
            code: what kind of error it is.
            message: what the client is told.
            status: of HTTP; None is that of the code.
            peer: who asks.
        """
        answer = error_document(message)
        self._record(_Noted(), code, 0.0, peer, 0, len(answer))
        return Response(status or code.http_status, {**_JSON, **(_CORS if self._enable_cors else {})}, answer)

    def _record(self, noted: _Noted, code: Code, seconds: float, peer: str, bytes_in: int, bytes_out: int) -> None:
        if self._on_request is None:
            return
        record = RequestRecord(
            entrypoint="REST",
            api=noted.api,
            model=noted.model,
            code=code,
            seconds=seconds,
            version=noted.version,
            signature=noted.signature,
            num_examples=noted.num_examples,
            peer=peer,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
        )
        try:
            self._on_request(record)
        except Exception:  # what watches requests must not fail them
            _LOG.exception("A request could not be recorded.")

    def _answer(
        self, method: str, path: str, body: bytes, noted: _Noted
    ) -> Generator[Run, RunResult, tuple[Code, bytes]]:
        try:
            return Code.OK, (yield from self._answer_or_raise(method, path, body, noted))
        except _BadVersion:
            return Code.INVALID_ARGUMENT, b""
        except Exception as raised:
            error = as_serving_error(raised)
            if not isinstance(raised, ServingError):
                _LOG.exception("%s %s failed inside the server.", method, path)
            return error.code, error_document(error.message)

    def _answer_or_raise(self, method: str, path: str, body: bytes, noted: _Noted) -> Generator[Run, RunResult, bytes]:
        if method == "POST":
            target = _target(_PREDICTION.fullmatch(path))
            if target is not None and target.verb in _APIS:
                _note(noted, target, _APIS[target.verb])
                if target.verb == "predict":
                    return (yield from self._predict(target, body, noted))
                return self._infer(target, body, noted)
        elif method == "GET":
            target = _target(_STATUS.fullmatch(path))
            if target is not None:
                if not target.name:
                    raise ServingError(Code.INVALID_ARGUMENT, "Missing model name in request.")
                is_metadata = target.verb == "metadata"
                _note(noted, target, "GetModelMetadata" if is_metadata else "GetModelStatus")
                return self._metadata(target, noted) if is_metadata else self._status(target)
        raise ServingError(Code.INVALID_ARGUMENT, f"Malformed request: {method} {path}")

    def _predict(self, target: _Target, body: bytes, noted: _Noted) -> Generator[Run, RunResult, bytes]:
        document = predict_json.object_from(body)
        signature_name = noted.signature = predict_json.signature_name_from(document)
        with self._repository.lease(target.name, target.version, target.label) as lease:
            noted.version = lease.version
            signature = lease.servable.signatures.get(signature_name)
            if signature is None:
                raise ServingError(
                    Code.INVALID_ARGUMENT, f'Serving signature name: "{signature_name}" not found in signature def'
                )
            if self._check_method_names:
                check_predict_method(signature)
            inputs = predict_json.read_predict(document, signature, signature_name)
            noted.num_examples = min((len(array) for array in inputs.arrays.values() if array.ndim), default=None)
            outputs = yield Run(lease.servable, signature_name, inputs.arrays, self._timeout_seconds)
        if isinstance(outputs, Exception):
            raise outputs
        return predict_json.write_predict(outputs, signature.outputs, by_row=inputs.by_row)

    def _infer(self, target: _Target, body: bytes, noted: _Noted) -> bytes:
        request = examples_json.read_examples(body)  # whole, before the model is looked up
        noted.signature, noted.num_examples = request.signature_name, len(request.examples)
        with self._repository.lease(target.name, target.version, target.label) as lease:
            noted.version = lease.version
            arguments = lease.servable, request.signature_name, request.examples, self._timeout_seconds
            if target.verb == "classify":
                classifications = classify(*arguments, check_method_name=self._check_method_names)
                return examples_json.write_classifications(classifications)
            return examples_json.write_regressions(regress(*arguments, check_method_name=self._check_method_names))

    def _status(self, target: _Target) -> bytes:
        return status_json(model_status(self._repository, target.name, target.version))  # a label is ignored

    def _metadata(self, target: _Target, noted: _Noted) -> bytes:
        version, signatures = model_metadata(self._repository, target.name, target.version, target.label)
        noted.version = version
        return metadata_json(target.name, version, signatures)


class _BadVersion(Exception):
    """A version beyond int64, which is answered by 400 without a body."""


def _note(noted: _Noted, target: _Target, api: str) -> None:
    noted.api, noted.model, noted.version = api, target.name, target.version


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
