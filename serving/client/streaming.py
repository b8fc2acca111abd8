"""A text piece by piece, over the signatures `init` and `step` of a model that streams."""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.client.calls import Operation, Target
from keras_seqattn.serving.client.operations import Operations
from keras_seqattn.serving.errors import Code, ServingError

__all__ = ["Streaming"]

Array = npt.NDArray[Any]


class Streaming:
    """One stream; holds its state, which the server does not keep.

    All steps go to the version that `init` has been asked of: another one could not go on with its state.

    Args:
        operations: of the client.
        target: the model.
        inputs: of `init`: one text, a list of them, or a dictionary with the one input.
        timeout_seconds: for each piece; None is the client's own.
    """

    def __init__(self, operations: Operations, target: Target, inputs: Any, timeout_seconds: float | None) -> None:
        self._operations = operations
        self._target = target
        self._is_single = isinstance(inputs, str | bytes)
        self._inputs = [inputs] if self._is_single else inputs
        self._timeout_seconds = timeout_seconds
        self._names: tuple[str, ...] = ()
        self._tensors: dict[str, Array] = {}

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return bool(self._tensors) and bool(np.all(self._tensors["finished"]))

    def next(self) -> Operation[Any]:
        """The next piece: a `str` for one text, a list of them for several."""
        deadline = self._operations.deadline(self._timeout_seconds)
        if not self._tensors:
            metadata = yield from self._operations.metadata(self._target, deadline)
            if not {"init", "step"} <= metadata.signatures.keys():
                raise ServingError(
                    Code.UNIMPLEMENTED,
                    f"Model {self._target.model} does not stream: it has no signatures `init` and `step`.",
                )
            self._target = Target(self._target.model, metadata.version)
            self._names = tuple(metadata.signatures["step"].inputs)
            signature_name, inputs = "init", self._inputs
        else:
            signature_name, inputs = "step", {name: self._tensors[name] for name in self._names}
        found = yield from self._operations.predict(self._target, signature_name, inputs, None, deadline)
        self._tensors = {**self._tensors, **found}
        pieces = found["piece"].tolist()
        return pieces[0] if self._is_single else pieces
