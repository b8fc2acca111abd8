"""What can go wrong with a request, in the codes that TensorFlow Serving uses over REST and gRPC alike."""

import enum

__all__ = ["Code", "ServingError", "as_serving_error"]


class Code(enum.IntEnum):
    """The canonical status codes; the numbers are those of gRPC and of `tf.errors`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        """The HTTP status of a reply with this code."""
        return _HTTP_STATUS[self]


_HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class ServingError(Exception):
    """A request, a model or a setting that cannot be served; transports turn it into their own kind of error reply.

    Args:
        code: what kind of error it is.
        message: the text that the client sees, whole.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """Code and message as TensorFlow writes a status inside another message."""
        return f"{self.code.name}: {self.message}"


def as_serving_error(error: BaseException) -> ServingError:
    """Turns what TensorFlow raised into a `ServingError`, keeping code and text; anything else is INTERNAL."""
    if isinstance(error, ServingError):
        return error
    code = getattr(error, "error_code", None)  # of tf.errors.OpError; read by name: this module needs no TensorFlow
    if isinstance(code, int):
        return ServingError(Code(code), str(getattr(error, "message", error)))
    if isinstance(error, UnicodeDecodeError):
        # An op's message that quotes bytes of the request which are no UTF-8; its code got lost on the way to Python.
        return ServingError(Code.INVALID_ARGUMENT, error.object.decode("utf-8", "replace"))
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
