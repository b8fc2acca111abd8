"""What a client does, apart from sockets: each operation is a generator that yields effects and returns its result."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy.typing as npt

from keras_seqattn.serving.client.arrays import as_input
from keras_seqattn.serving.client.calls import Call, Metadata, Operation, Pause, Send, Target, Wire
from keras_seqattn.serving.client.failures import DeadlineExceeded
from keras_seqattn.serving.client.rest_wire import StaleMetadata
from keras_seqattn.serving.client.retries import Deadline, Retries
from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.models.repository import VersionStatus
from keras_seqattn.serving.models.signature import Signature

__all__ = ["Operations"]

Array = npt.NDArray[Any]
Result = TypeVar("Result")

_METADATA_SECONDS = 60.0  # for which the signatures of a model are remembered; it may change at any time
_LOOK_SECONDS = 0.2  # between two looks whether a model is ready
_OF_REQUEST = (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
_NOT_READY_YET = (Code.NOT_FOUND, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


class Operations:
    """The operations of a client.

    Args:
        wire: how requests and replies look.
        retries: when to ask again.
        timeout_seconds: for an operation that is given none; None is without end.
        address: of the server, for messages.
    """

    def __init__(self, wire: Wire, retries: Retries, timeout_seconds: float | None, address: str) -> None:
        self._wire = wire
        self._retries = retries
        self._timeout_seconds = timeout_seconds
        self._address = address
        self._known: dict[Target, tuple[float, Metadata]] = {}

    def deadline(self, timeout_seconds: float | None) -> Deadline:
        """The deadline of an operation that begins now."""
        return Deadline(self._timeout_seconds if timeout_seconds is None else timeout_seconds, self._address)

    def predict(
        self,
        target: Target,
        signature_name: str,
        inputs: Any,
        outputs: Sequence[str] | None,
        deadline: Deadline,
    ) -> Operation[dict[str, Array]]:
        """Asks for the metadata if it is not known, converts the inputs, asks for the prediction."""
        wanted = None if outputs is None else tuple(outputs)
        _, known = self._known.get(target, (0.0, None))
        metadata = yield from self.known_metadata(target, deadline)
        try:
            return (yield from self._predict_once(target, signature_name, inputs, wanted, metadata, deadline))
        except (ServingError, StaleMetadata, ValueError) as error:
            if metadata is not known or (isinstance(error, ServingError) and error.code not in _OF_REQUEST):
                raise self._as_error(error) from None
            first = error
        metadata = yield from self.metadata(target, deadline)
        if known.signatures.get(signature_name) == metadata.signatures.get(signature_name):
            raise self._as_error(first)
        try:  # another version has taken over
            return (yield from self._predict_once(target, signature_name, inputs, wanted, metadata, deadline))
        except StaleMetadata as error:
            raise self._as_error(error) from None

    def classify(
        self, target: Target, signature_name: str, examples: Sequence[Any], context: Any, deadline: Deadline
    ) -> Operation[list[list[tuple[str, float]]]]:
        """Labels and scores, for each example."""
        return (yield from self._ask(self._wire.classify(target, signature_name, list(examples), context), deadline))

    def regress(
        self, target: Target, signature_name: str, examples: Sequence[Any], context: Any, deadline: Deadline
    ) -> Operation[Array]:
        """A number for each example."""
        return (yield from self._ask(self._wire.regress(target, signature_name, list(examples), context), deadline))

    def status(self, target: Target, deadline: Deadline) -> Operation[tuple[VersionStatus, ...]]:
        """The versions, the newest first."""
        return (yield from self._ask(self._wire.status(target), deadline))

    def metadata(self, target: Target, deadline: Deadline) -> Operation[Metadata]:
        """The signatures, asked for anew."""
        metadata = yield from self._ask(self._wire.metadata(target), deadline)
        for known in (target, Target(target.model, metadata.version)):
            self._known[known] = (time.monotonic() + _METADATA_SECONDS, metadata)
        return metadata

    def wait_until_ready(self, target: Target, timeout_seconds: float | None) -> Operation[None]:
        """Looks at the status until a version is available; servers that do not answer yet are waited for too."""
        deadline = Deadline(timeout_seconds, self._address)
        state = "it has not answered yet"
        while True:
            try:
                deadline.seconds_left()
                call = self._wire.status(target)
                versions = call.read((yield Send(call.request, deadline)))
                if any(version.state == "AVAILABLE" for version in versions):
                    return
                state = ", ".join(f"version {one.version} is {one.state}" for one in versions) or "it has no version"
                failed = [f"{one.error.message}" for one in versions if one.error]
                state += f" ({failed[0]})" if failed else ""
            except ServingError as error:
                if error.code == Code.DEADLINE_EXCEEDED:
                    message = f"{error.message} Model {target.model} is not ready: {state}."
                    raise DeadlineExceeded(message) from None
                if error.code not in _NOT_READY_YET:
                    raise
                state = error.message
            yield Pause(_LOOK_SECONDS)

    def known_metadata(self, target: Target, deadline: Deadline) -> Operation[Metadata]:
        """The signatures, asked for when they are not known or too old."""
        until, metadata = self._known.get(target, (0.0, None))
        if metadata is None or time.monotonic() > until:
            return (yield from self.metadata(target, deadline))
        return metadata

    def _predict_once(
        self,
        target: Target,
        signature_name: str,
        inputs: Any,
        outputs: tuple[str, ...] | None,
        metadata: Metadata,
        deadline: Deadline,
    ) -> Operation[dict[str, Array]]:
        signature = metadata.signatures.get(signature_name)
        arrays = _arrays(inputs, signature, signature_name)
        call = self._wire.predict(target, signature_name, arrays, signature, outputs)
        return (yield from self._ask(call, deadline))

    def _ask(self, call: Call[Result], deadline: Deadline) -> Operation[Result]:
        """Sends until it succeeds or retries make no sense."""
        attempt = 0
        while True:
            attempt += 1
            deadline.seconds_left()
            try:
                return call.read((yield Send(call.request, deadline)))
            except ServingError as error:
                pause = self._retries.pause_seconds(attempt, error)
                if pause is None:
                    raise
                left = deadline.seconds_left()
                if left is not None and pause >= left:
                    raise
            yield Pause(pause)

    def _as_error(self, error: Exception) -> Exception:
        if isinstance(error, StaleMetadata):
            return ServingError(Code.INTERNAL, f"{self._address} answers with other outputs than its metadata tells.")
        return error


def _arrays(inputs: Any, signature: Signature | None, signature_name: str) -> dict[str, Array]:
    """The inputs in the signature's dtypes. What it does not know goes along, for the server to say what it thinks."""
    specs = {} if signature is None else signature.inputs
    if not isinstance(inputs, Mapping):
        if signature is None:
            return {}  # the server says that there is no such signature
        if len(specs) != 1:
            raise ValueError(
                f"Signature {signature_name} takes a dictionary with {', '.join(specs) or 'nothing'}. "
                f"Received: {inputs!r:.100}."
            )
        inputs = {next(iter(specs)): inputs}
    return {name: as_input(value, specs[name].dtype if name in specs else None, name) for name, value in inputs.items()}
