"""Classify, regress and multi-inference: what a signature says about serialized `tf.Example`s.

The three share their input, a vector of serialized Examples that goes to the one input `inputs`, and differ in the
outputs that they read. REST, gRPC and the warm-up all come here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.models.servable import Servable
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE, Signature

__all__ = [
    "CLASSIFY_METHOD",
    "PREDICT_METHOD",
    "REGRESS_METHOD",
    "Classifications",
    "Task",
    "check_predict_method",
    "classify",
    "examples_of",
    "multi_inference",
    "regress",
]

Array = npt.NDArray[Any]

CLASSIFY_METHOD = "tensorflow/serving/classify"
PREDICT_METHOD = "tensorflow/serving/predict"
REGRESS_METHOD = "tensorflow/serving/regress"

_INPUTS = "inputs"
_CLASSES, _SCORES = "classes", "scores"
_OUTPUTS = "outputs"


@dataclass(frozen=True)
class Classifications:
    """The classes of each example; iterating gives a list of (label, score) an example.

    Args:
        labels: (N, C) bytes, empty ones where the model names no classes.
        scores: (N, C) float32, zeros where the model gives none.
    """

    labels: Array
    scores: Array

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[list[tuple[bytes, float]]]:
        for labels, scores in zip(self.labels.tolist(), self.scores.tolist(), strict=True):
            yield list(zip(labels, scores, strict=True))


@dataclass(frozen=True)
class Task:
    """One question of a multi-inference.

    Args:
        model: its name; all tasks name the same.
        signature_name: empty means `serving_default`.
        method_name: `CLASSIFY_METHOD` or `REGRESS_METHOD`.
    """

    model: str
    signature_name: str
    method_name: str


def check_predict_method(signature: Signature) -> None:
    """Refuses, with INTERNAL, a signature that was made for none of the three methods."""
    if signature.method_name not in (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD):
        raise ServingError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{PREDICT_METHOD}, {CLASSIFY_METHOD}, "
            f"{REGRESS_METHOD}}}. Was: {signature.method_name}",
        )


def examples_of(request_input: Any) -> list[bytes]:
    """The serialized Examples of a `tensorflow.serving.Input`, each with the context before it if there is one.

    Two serialized messages, one after the other, are the message of both; so a feature of the example replaces the
    context's feature of that name.
    """
    kind = request_input.WhichOneof("kind")
    if kind is None:
        return []
    if kind == "example_list":
        return [example.SerializeToString() for example in request_input.example_list.examples]
    given = request_input.example_list_with_context
    context = given.context.SerializeToString()
    return [context + example.SerializeToString() for example in given.examples]


def classify(
    servable: Servable,
    signature_name: str,
    examples: Sequence[bytes],
    timeout_seconds: float | None = None,
    *,
    check_method_name: bool = False,
) -> Classifications:
    """Asks a signature for the classes of each example.

    Args:
        servable: what runs.
        signature_name: empty means `serving_default`. Its one input is `inputs`; its outputs are `classes`, `scores` or
            both, (N, C) each.
        examples: serialized; at least one.
        timeout_seconds: of the run.
        check_method_name: refuses signatures that were not made for classification.
    Raises: ServingError with the code and text of TensorFlow Serving.
    """
    name, signature = _signature(servable, signature_name)
    outputs = _check_classification(servable, name, signature, check_method_name)
    return _classify(servable, name, signature, outputs, examples, timeout_seconds)


def regress(
    servable: Servable,
    signature_name: str,
    examples: Sequence[bytes],
    timeout_seconds: float | None = None,
    *,
    check_method_name: bool = False,
) -> Array:
    """Asks a signature for a number for each example.

    Args:
        servable: what runs.
        signature_name: empty means `serving_default`. Its one input is `inputs`, its one output
            `outputs`, (N) or (N, 1).
        examples: serialized; at least one.
        timeout_seconds: of the run.
        check_method_name: refuses signatures that were not made for regression.
    Returns: (N) float32.
    Raises: ServingError with the code and text of TensorFlow Serving.
    """
    name, signature = _signature(servable, signature_name)
    _check_regression(servable, name, signature, check_method_name)
    return _regress(servable, name, signature, examples, timeout_seconds)


def multi_inference(
    servable: Servable,
    tasks: Sequence[Task],
    examples: Sequence[bytes],
    timeout_seconds: float | None = None,
    *,
    check_method_name: bool = False,
) -> list[Classifications | Array]:
    """Asks several signatures of one model about the same examples; all tasks are checked before one runs.

    Args:
        servable: the model that all tasks name.
        tasks: at least one. Their signatures differ, and read the same tensor.
        examples: serialized; at least one.
        timeout_seconds: of each run.
        check_method_name: refuses signatures that were not made for their task.
    Returns: for each task what `classify` or `regress` returns.
    Raises: ServingError with the code and text of TensorFlow Serving.
    """
    if not tasks:
        raise _invalid("ModelSpec has no name specified.")  # the spec of the first task, which is not there
    seen: set[str] = set()
    tensor_names: set[str] = set()
    checked: list[tuple[str, Signature, list[str] | None]] = []
    for task in tasks:
        if not task.model:
            raise _invalid("Found ModelSpec with an empty model name.")
        if task.model != tasks[0].model:
            raise _invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise _invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        signature = servable.signatures.get(name)
        if signature is None:
            raise _invalid(f"Requested signature not found in model graph: {name}")
        outputs = None
        if task.method_name == CLASSIFY_METHOD:
            outputs = _check_classification(servable, name, signature, check_method_name)
        elif task.method_name == REGRESS_METHOD:
            _check_regression(servable, name, signature, check_method_name)
        else:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        tensor_names.add(signature.inputs[_INPUTS].tensor_name)
        if len(tensor_names) > 1:
            raise _invalid("Input tensor must be the same for all Signatures.")
        checked.append((name, signature, outputs))
    return [
        _regress(servable, name, signature, examples, timeout_seconds)
        if outputs is None
        else _classify(servable, name, signature, outputs, examples, timeout_seconds)
        for name, signature, outputs in checked
    ]


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)


def _signature(servable: Servable, signature_name: str) -> tuple[str, Signature]:
    name = signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise _invalid(f"No signature was found with the name: {name}")
    return name, signature


def _check_classification(servable: Servable, name: str, signature: Signature, check_method_name: bool) -> list[str]:
    """The outputs to read, `classes`, `scores` or both."""
    if check_method_name and signature.method_name != CLASSIFY_METHOD:
        raise _invalid(
            f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise _invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise _invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise _not_made_for("No classification inputs found in SignatureDef: ", servable, name)
    outputs = [output for output in (_CLASSES, _SCORES) if output in signature.outputs]
    if not outputs:
        raise _not_made_for(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            "Signature was: ",
            servable,
            name,
        )
    return outputs


def _check_regression(servable: Servable, name: str, signature: Signature, check_method_name: bool) -> None:
    if check_method_name and signature.method_name != REGRESS_METHOD:
        raise _invalid(
            f"Expected regression signature method_name to be {REGRESS_METHOD}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise _invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise _invalid("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise _not_made_for("No regression inputs found in SignatureDef: ", servable, name)
    if _OUTPUTS not in signature.outputs:
        raise _not_made_for("No regression outputs found in SignatureDef: ", servable, name)


def _not_made_for(message: str, servable: Servable, name: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, f"{message}{servable.signature_defs.get(name, '')}")


def _classify(
    servable: Servable,
    name: str,
    signature: Signature,
    outputs: Sequence[str],
    examples: Sequence[bytes],
    timeout_seconds: float | None,
) -> Classifications:
    results = _run(servable, name, signature, outputs, examples, timeout_seconds)
    for output, dtype in ((_CLASSES, "string"), (_SCORES, "float")):
        array = results.get(output)
        if array is None:
            continue
        if array.ndim != 2:
            raise _invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if signature.outputs[output].dtype != dtype:
            raise _invalid(
                f"Expected {output} Tensor of DT_{dtype.upper()}. Got: DT_{signature.outputs[output].dtype.upper()}"
            )
        if len(array) != len(examples):
            raise _invalid(f"Expected {output} output batch size of {len(examples)}. Got: {len(array)}")
    labels, scores = results.get(_CLASSES), results.get(_SCORES)
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise _invalid(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    if labels is None:
        assert scores is not None  # one of them is there, or the check before the run fails
        labels = np.full(scores.shape, b"", dtype=object)
    if scores is None:
        scores = np.zeros(labels.shape, dtype=np.float32)
    return Classifications(labels, scores)


def _regress(
    servable: Servable, name: str, signature: Signature, examples: Sequence[bytes], timeout_seconds: float | None
) -> Array:
    array = _run(servable, name, signature, [_OUTPUTS], examples, timeout_seconds)[_OUTPUTS]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise _invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array)}"
        )
    if len(array) != len(examples):
        raise _invalid(f"Input batch size did not match output batch size: {len(examples)} vs. {len(array)}")
    if signature.outputs[_OUTPUTS].dtype != "float":
        raise _invalid(f"Expected output Tensor of DT_FLOAT.  Got: DT_{signature.outputs[_OUTPUTS].dtype.upper()}")
    return array.reshape(-1)


def _run(
    servable: Servable,
    name: str,
    signature: Signature,
    outputs: Sequence[str],
    examples: Sequence[bytes],
    timeout_seconds: float | None,
) -> dict[str, Array]:
    if not examples:
        raise _invalid("Input is empty.")
    array = np.empty(len(examples), dtype=object)
    array[:] = examples
    if len(outputs) < len(signature.outputs):
        return servable.run(name, {_INPUTS: array}, timeout_seconds, outputs=outputs)
    return servable.run(name, {_INPUTS: array}, timeout_seconds)


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"
