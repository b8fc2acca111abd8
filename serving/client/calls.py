"""What a client wants of the world: calls and pauses. Operations ask for them; transports carry them out."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy.typing as npt

from keras_seqattn.serving.client.retries import Deadline
from keras_seqattn.serving.models.repository import VersionStatus
from keras_seqattn.serving.models.signature import Signature

__all__ = ["Call", "Effect", "Metadata", "Operation", "Pause", "Send", "Target", "Wire"]

Array = npt.NDArray[Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Target:
    """The version of a model to ask; without version and label it is the newest."""

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(
                f"A request goes to a version or to a label, not to both. Received: {self.version=}, {self.label=}."
            )


@dataclass(frozen=True)
class Metadata:
    """The version that answered, and its signatures by name."""

    version: int
    signatures: Mapping[str, Signature]


@dataclass(frozen=True)
class Call(Generic[Result]):
    """A request as its transport has it, and how to read the reply."""

    request: Any
    read: Callable[[Any], Result]


@dataclass(frozen=True)
class Send:
    """Effect: carry out a call, once. Its outcome is the reply as the transport has it, or a ServingError."""

    request: Any
    deadline: Deadline


@dataclass(frozen=True)
class Pause:
    """Effect: wait."""

    seconds: float


Effect: TypeAlias = Send | Pause
Operation: TypeAlias = Generator[Effect, Any, Result]


class Wire(Protocol):
    """How requests and replies look on one kind of transport."""

    def predict(
        self,
        target: Target,
        signature_name: str,
        inputs: Mapping[str, Array],
        signature: Signature | None,
        outputs: tuple[str, ...] | None,
    ) -> Call[dict[str, Array]]:
        """A prediction: arrays as callers get them. Reading raises StaleMetadata when they are not the signature's."""

    def classify(
        self, target: Target, signature_name: str, examples: list[Any], context: Any
    ) -> Call[list[list[tuple[str, float]]]]:
        """Labels and scores, for each example."""

    def regress(self, target: Target, signature_name: str, examples: list[Any], context: Any) -> Call[Array]:
        """A number for each example."""

    def status(self, target: Target) -> Call[tuple[VersionStatus, ...]]:
        """The versions, the newest first."""

    def metadata(self, target: Target) -> Call[Metadata]:
        """The signatures."""
