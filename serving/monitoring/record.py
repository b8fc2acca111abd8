"""What is known of one request once it is answered: the metrics and the access log are made of it."""

from dataclasses import dataclass

from keras_seqattn.serving.errors import Code

__all__ = ["RequestRecord"]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One answered request.

    Args:
        entrypoint: `REST` or `GRPC`.
        api: `Predict`, `Classify`, `Regress`, `MultiInference`, `GetModelMetadata`, `GetModelStatus`,
            `HandleReloadConfigRequest`; empty for a request that names none.
        model: as the request names it; empty when it names none.
        code: OK, or what went wrong.
        seconds: from the first byte that the application saw to the whole answer.
        version: of the model that answered, or that the request names; None is unknown.
        signature: as the request names it; empty when it names none.
        num_examples: rows or Examples of the request; None is unknown.
        peer: who asked, `127.0.0.1:40404`; empty is unknown.
        bytes_in: of the request's body, as received.
        bytes_out: of the answer's body.
    """

    entrypoint: str
    api: str
    model: str
    code: Code
    seconds: float
    version: int | None = None
    signature: str = ""
    num_examples: int | None = None
    peer: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
