"""The bodies of `:classify` and `:regress`: JSON to serialized `tf.Example`s, and results to JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.inference import Classifications
from keras_seqattn.serving.rest import json_text
from keras_seqattn.serving.rest.base64_json import decode_base64, is_base64
from keras_seqattn.serving.rest.json_dialect import utf8
from keras_seqattn.serving.rest.predict_json import object_from, signature_name_from

__all__ = ["ExamplesRequest", "read_examples", "write_classifications", "write_regressions"]

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class ExamplesRequest:
    """What a body asks for: a signature, and serialized Examples, each with the context in front."""

    signature_name: str
    examples: list[bytes]


def read_examples(body: bytes) -> ExamplesRequest:
    """Reads `{"signature_name"?, "context"?, "examples": [{feature: value or [values]}, ...]}`.

    The literal decides the kind of a feature: a number with fraction or exponent is a float, one without, `true` and
    `false` are int64, a string or `{"b64": ...}` is bytes.

    Raises: ServingError, INVALID_ARGUMENT, with the text of TensorFlow Serving.
    """
    document = object_from(body)
    signature_name = signature_name_from(document)
    context = _example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise _document_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _document_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _document_error(document, "'examples' value is an empty array")
    return ExamplesRequest(signature_name, [context + _example(example) for example in examples])


def write_classifications(results: Classifications) -> bytes:
    """Writes `{"results": [[["label", score], ...], ...]}`."""
    labels = [json_text.string(label.decode("utf-8", "surrogateescape")) for label in results.labels.reshape(-1)]
    scores = json_text.decimals(results.scores.reshape(-1))
    pairs = [f"[{label}, {score}]" for label, score in zip(labels, scores, strict=True)]
    rows = json_text.nested(pairs, len(results), results.labels.shape[1:], 2, single_line=True)
    text = f'{{{json_text.indent(1)}"results": [{", ".join(rows)}{json_text.indent(1)}]\n}}'
    return text.encode("utf-8", "surrogateescape")


def write_regressions(values: npt.NDArray[np.float32]) -> bytes:
    """Writes `{"results": [value, ...]}`."""
    return f'{{{json_text.indent(1)}"results": [{", ".join(json_text.decimals(values))}]\n}}'.encode()


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)


def _document_error(document: Mapping[str, Any], message: str) -> ServingError:
    return _invalid(f"JSON Value: {json_text.quote(document)} {message}")


def _example(value: Any) -> bytes:
    from tensorflow.core.example import example_pb2

    if not isinstance(value, dict):
        raise _invalid(f"Example must be JSON object but got JSON {json_text.type_name(value)}")
    example = example_pb2.Example()
    features = example.features.feature
    for name, content in value.items():
        feature = features[utf8(name).decode("utf-8", "replace")]
        _fill_feature(feature, name, content if isinstance(content, list) else [content])
    serialized: bytes = example.SerializeToString()
    return serialized


def _fill_feature(feature: Any, name: str, values: list[Any]) -> None:
    kind = ""
    converted: list[Any] = []
    for value in values:
        found, element = _element(name, value)
        if kind and kind != found:
            raise _invalid(f"Unexpected element type in feature: {name} expecting type: {kind}")
        if found == "int64" and element not in _INT64:
            raise _invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        kind = found
        converted.append(decode_base64(element) if isinstance(element, dict) else element)
    if kind == "float":
        with np.errstate(over="ignore"):  # beyond float32 is infinity
            feature.float_list.value.extend(np.array(converted, dtype=np.float64).astype(np.float32).tolist())
    elif kind == "int64":
        feature.int64_list.value.extend(converted)
    elif kind == "bytes":
        feature.bytes_list.value.extend(converted)


def _element(name: str, value: Any) -> tuple[str, Any]:
    """The kind of list that a value belongs in, and what goes there; base64 is not decoded yet."""
    if isinstance(value, float):
        return "float", value
    if isinstance(value, int):  # and booleans
        return "int64", int(value)
    if isinstance(value, str):
        return "bytes", utf8(value)
    if is_base64(value):
        return "bytes", value
    raise _invalid(f"Feature: {name} has element with unexpected JSON type: {json_text.type_name(value)}")
