"""The errors of a client: `ServingError`s, of which two are Python's own errors as well."""

from keras_seqattn.serving.errors import Code, ServingError

__all__ = ["DeadlineExceeded", "ServiceUnavailable", "code_of_http_status", "error_of"]

_CODES = {
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,  # of proxies, as 408 and 504
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


class ServiceUnavailable(ServingError, ConnectionError):
    """UNAVAILABLE: nothing answers at the address, the connection broke, or the server says so.

    Args:
        message: what happened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(Code.UNAVAILABLE, message)


class DeadlineExceeded(ServingError, TimeoutError):
    """DEADLINE_EXCEEDED: no answer in time, or the server says that the run took too long.

    Args:
        message: what happened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(Code.DEADLINE_EXCEEDED, message)


def error_of(code: Code, message: str) -> ServingError:
    """The error of a code."""
    if code == Code.UNAVAILABLE:
        return ServiceUnavailable(message)
    if code == Code.DEADLINE_EXCEEDED:
        return DeadlineExceeded(message)
    return ServingError(code, message)


def code_of_http_status(status: int) -> Code:
    """The code of an error reply; one HTTP status may stand for several codes, of which this is the likeliest."""
    return _CODES.get(status, Code.INVALID_ARGUMENT if 400 <= status < 500 else Code.UNKNOWN)
