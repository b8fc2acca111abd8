"""Binary data in JSON: an object with the one key `b64`, which may stand wherever a string may."""

import base64
import binascii
from typing import Any

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.rest import json_text
from keras_seqattn.serving.rest.json_dialect import utf8

__all__ = ["decode_base64", "is_base64"]


def is_base64(value: Any) -> bool:
    """Whether a parsed JSON value is `{"b64": "..."}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """Decodes `{"b64": "..."}`: standard alphabet, white space skipped, padding optional.

    Raises: ServingError, INVALID_ARGUMENT, for any other object or text.
    """
    if not is_base64(value):
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"JSON Value: {json_text.quote(value)} not formatted correctly for base64 data",
        )
    encoded = b"".join(utf8(value["b64"]).split())
    digits = encoded.rstrip(b"=")
    missing = -len(digits) % 4
    if len(encoded) - len(digits) not in (0, missing):
        raise ServingError(Code.INVALID_ARGUMENT, "Unable to base64 decode")
    try:
        return base64.b64decode(digits + b"=" * missing, validate=True)
    except binascii.Error:
        raise ServingError(Code.INVALID_ARGUMENT, "Unable to base64 decode") from None
