"""What all RPCs share: bytes to a request, errors to a status, deadlines to timeouts, and a record of each call."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from keras_seqattn.serving.errors import Code, ServingError, as_serving_error
from keras_seqattn.serving.monitoring.record import RequestRecord
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["Call", "Method", "lease_arguments", "method_handlers"]

_LOG = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 1024  # of an error; the rest is cut
_TRUNCATED = "...TRUNCATED"
_LONGEST_SECONDS = 1e6  # a fortnight: as good as no deadline, and within what fits into a timeout in ms


@dataclass(slots=True)
class Call:
    """One RPC: the time that it may take, and what its record will say, filled in as it becomes known.

    Args:
        timeout_seconds: until the client's deadline; None without one.
        model, version, signature, num_examples: as in `RequestRecord`.
    """

    timeout_seconds: float | None
    model: str = ""
    version: int | None = None
    signature: str = ""
    num_examples: int | None = None


@dataclass(frozen=True)
class Method:
    """An RPC with one request and one response: the class of the request, and what makes the response from it."""

    request_class: Any
    answer: Callable[[Any, Call], Any]


def lease_arguments(request: Any, call: Call) -> tuple[str, int | None, str | None]:
    """Name, version and label of a request's `model_spec`, also noted in the call.

    Raises: ServingError, INVALID_ARGUMENT, without a spec or a name.
    """
    if not request.HasField("model_spec"):
        raise ServingError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
    spec = request.model_spec
    call.model, call.signature = spec.name, spec.signature_name
    if not spec.name:
        raise ServingError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        call.version = spec.version.value
        return spec.name, spec.version.value, None
    return spec.name, None, spec.version_label if choice else None


def method_handlers(methods: Mapping[str, Method], on_request: Callable[[RequestRecord], None] | None) -> Any:
    """`grpc.RpcMethodHandler`s by name of the method. They read and write the messages themselves, and never raise."""
    with packages_of_extra("serving"):
        import grpc

    return {
        name: grpc.unary_unary_rpc_method_handler(_behaviour(name, method, on_request))
        for name, method in methods.items()
    }


def _behaviour(
    name: str, method: Method, on_request: Callable[[RequestRecord], None] | None
) -> Callable[[bytes, Any], bytes]:
    import grpc
    from google.protobuf.message import DecodeError

    status_codes = {code.value[0]: code for code in grpc.StatusCode}
    parse, answer = method.request_class.FromString, method.answer

    def behave(content: bytes, context: Any) -> bytes:
        started = time.perf_counter()
        call = Call(None)
        response, error = b"", None
        try:
            call.timeout_seconds = _timeout(context)
            try:
                request = parse(content)
            except DecodeError:
                raise ServingError(
                    Code.INTERNAL, f"The message is no {method.request_class.DESCRIPTOR.name}."
                ) from None
            response = answer(request, call).SerializeToString()
        except Exception as raised:
            error = as_serving_error(raised)
            if not isinstance(raised, ServingError):
                _LOG.exception("%s failed inside the server.", name)
        if on_request is not None:
            record = RequestRecord(
                entrypoint="GRPC",
                api=name,
                model=call.model,
                code=Code.OK if error is None else error.code,
                seconds=time.perf_counter() - started,
                version=call.version,
                signature=call.signature,
                num_examples=call.num_examples,
                peer=_peer(context.peer()),
                bytes_in=len(content),
                bytes_out=len(response),
            )
            try:
                on_request(record)
            except Exception:  # what watches requests must not fail them
                _LOG.exception("A request could not be recorded.")
        if error is not None:
            context.abort(status_codes[int(error.code)], _cut(error.message))
        return response

    return behave


def _timeout(context: Any) -> float | None:
    """Seconds until the client's deadline.

    Raises: ServingError when nobody waits for the answer any more, so that it is not computed.
    """
    remaining: float | None = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise ServingError(Code.DEADLINE_EXCEEDED, "The deadline passed before the request was looked at.")
    if not context.is_active():
        raise ServingError(Code.CANCELLED, "The client cancelled the request before it was looked at.")
    return None if remaining is None or remaining > _LONGEST_SECONDS else remaining


def _peer(peer: str) -> str:
    """`ipv6:%5B::1%5D:40404` as `[::1]:40404`."""
    kind, _, address = unquote(peer).partition(":")
    return address if kind in ("ipv4", "ipv6") else peer


def _cut(message: str) -> str:
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return encoded.decode()
    return encoded[:_MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + _TRUNCATED
