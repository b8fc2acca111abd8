"""A client of model servers, over REST and gRPC alike."""

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy.typing as npt

from keras_seqattn.serving.client.address import parse_address
from keras_seqattn.serving.client.calls import Metadata, Operation, Pause, Target
from keras_seqattn.serving.client.operations import Operations
from keras_seqattn.serving.client.retries import DEFAULT_RETRIES, Retries
from keras_seqattn.serving.client.security import DEFAULT_TLS, ClientTls
from keras_seqattn.serving.client.streaming import Streaming
from keras_seqattn.serving.client.transports import transport_of, wire_of
from keras_seqattn.serving.errors import ServingError
from keras_seqattn.serving.models.repository import VersionStatus
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE

__all__ = ["Client"]

Array = npt.NDArray[Any]
Result = TypeVar("Result")


class Client:
    """Asks a model server, ours or TensorFlow Serving itself, over REST or gRPC.

    A request is tried again, after a pause that grows, when nothing answers, the connection breaks, or the server says
    that it is too busy (UNAVAILABLE, RESOURCE_EXHAUSTED; 503 and 429 over REST). Nothing that this client asks for
    changes the server, so that a request which was computed after all does no harm. Other errors come at once.

    Safe to use from many threads.

    Args:
        url: `http://host:8501`, `https://host`, `grpc://host:8500` or `grpcs://host:8500`.
        timeout_seconds: for each request, all tries together; None waits for ever.
        retries: how often, and after which pauses.
        tls: certificates, for `https` and `grpcs`.
        headers: sent with each request, as for a proxy that asks who you are.
    Raises: ServingError, from each method, with the server's own code and text; UNAVAILABLE, also when nobody answers,
        is a `ConnectionError` as well, and DEADLINE_EXCEEDED, also when no answer comes in time, a `TimeoutError`.
    Example:
        >>> with Client("grpc://localhost:8500") as client:  # doctest: +SKIP
        ...     client.predict("dates", ["7 May 2024"])["answer"]
        array(['2024-05-07'], dtype=object)
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float | None = 30.0,
        retries: Retries = DEFAULT_RETRIES,
        tls: ClientTls = DEFAULT_TLS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        address = parse_address(url)
        self._transport = transport_of(address, tls, headers or {})
        self._operations = Operations(wire_of(address), retries, timeout_seconds, str(address))

    def predict(
        self,
        model: str,
        inputs: Any,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout_seconds: float | None = None,
    ) -> dict[str, Array]:
        """Runs a model.

        Args:
            model: its name.
            inputs: a dictionary of arrays or plain values, by the names of the inputs; or the value itself where there
                is one input. They are converted to the signature's dtypes where that loses nothing.
            signature_name: what to run.
            version: of the model; None is the newest.
            label: in place of a version.
            outputs: names of those that are wanted; None is all.
            timeout_seconds: for the answer, retries included; None is the client's own.
        Returns: an array for each output, in the signature's dtype. Strings are objects: `bytes` where the output's
            name ends in `_bytes`, else `str`.
        Raises:
            ServingError: with the server's code and text.
            ValueError: the inputs cannot be those of the signature.
        """
        target, deadline = Target(model, version, label), self._operations.deadline(timeout_seconds)
        operation = self._operations.predict(target, signature_name, inputs, outputs, deadline)
        return self._run(operation)

    def classify(
        self,
        model: str,
        examples: Sequence[Any],
        *,
        context: Any = None,
        signature_name: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Runs a signature of classification.

        Args:
            model: its name.
            examples: dictionaries of features, each a value, a list of values or an array; or `tf.train.Example`s. A
                `float` is a feature of floats and an `int` one of integers.
            context: an example whose features all of them have.
            signature_name: what to run.
            version: of the model; None is the newest.
            label: in place of a version.
            timeout_seconds: for the answer, retries included; None is the client's own.
        Returns: for each example a list of labels with scores.
        Raises: ServingError with the server's code and text.
        """
        target, deadline = Target(model, version, label), self._operations.deadline(timeout_seconds)
        return self._run(self._operations.classify(target, signature_name, examples, context, deadline))

    def regress(
        self,
        model: str,
        examples: Sequence[Any],
        *,
        context: Any = None,
        signature_name: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Array:
        """Runs a signature of regression; the arguments are those of `classify`.

        Returns: (B,) float32, a number for each example.
        Raises: ServingError with the server's code and text.
        """
        target, deadline = Target(model, version, label), self._operations.deadline(timeout_seconds)
        return self._run(self._operations.regress(target, signature_name, examples, context, deadline))

    def status(
        self, model: str, *, version: int | None = None, timeout_seconds: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """Where the versions of a model stand, the newest first; with `version` that one.

        Raises: ServingError with the server's code and text, NOT_FOUND for an unknown model.
        """
        deadline = self._operations.deadline(timeout_seconds)
        return self._run(self._operations.status(Target(model, version), deadline))

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Metadata:
        """The version that answers, and its signatures by name.

        Raises: ServingError with the server's code and text.
        """
        target, deadline = Target(model, version, label), self._operations.deadline(timeout_seconds)
        return self._run(self._operations.metadata(target, deadline))

    def wait_until_ready(self, model: str, *, version: int | None = None, timeout_seconds: float | None = 60.0) -> None:
        """Returns once a version of the model, or the given one, answers; the server may still be starting.

        Raises: ServingError, DEADLINE_EXCEEDED with what the model waits for.
        """
        self._run(self._operations.wait_until_ready(Target(model, version), timeout_seconds))

    def stream(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Iterator[Any]:
        """Writes a text piece by piece, by the signatures `init` and `step`.

        Args:
            model: its name.
            inputs: one text, a list of texts, or a dictionary with the one input of `init`.
            version: of the model; None is the newest when the stream begins, which then stays with it.
            label: in place of a version.
            timeout_seconds: for each piece, retries included; None is the client's own.
        Yields: for one text each piece as `str`; for several a list with the next piece of each, empty where one is
            over.
        Raises: ServingError with the server's code and text, UNIMPLEMENTED for a model that does not stream.
        """
        streaming = Streaming(self._operations, Target(model, version, label), inputs, timeout_seconds)
        while not streaming.is_over:
            yield self._run(streaming.next())

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, operation: Operation[Result]) -> Result:
        """Carries out the effects that an operation asks for."""
        outcome: Any = None
        failure: ServingError | None = None
        while True:
            try:
                effect = operation.send(outcome) if failure is None else operation.throw(failure)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            outcome = failure = None
            if isinstance(effect, Pause):
                time.sleep(effect.seconds)
                continue
            try:
                outcome = self._transport.send(effect.request, effect.deadline)
            except ServingError as error:
                failure = error
