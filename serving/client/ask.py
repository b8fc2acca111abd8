"""Asks a model server over REST in one line; works with TensorFlow Serving itself as well."""

import json
from collections.abc import Sequence
from typing import Any

from keras_seqattn.serving.client.address import parse_address
from keras_seqattn.serving.client.calls import Target
from keras_seqattn.serving.client.failures import DeadlineExceeded, ServiceUnavailable
from keras_seqattn.serving.client.http_transport import HttpTransport
from keras_seqattn.serving.client.rest_wire import HttpReply, HttpRequest, RestWire, document_of, model_path
from keras_seqattn.serving.client.retries import Deadline
from keras_seqattn.serving.client.security import DEFAULT_TLS
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE

__all__ = ["ask"]


def ask(
    url_or_host: str,
    model: str,
    texts: Sequence[Any],
    *,
    signature_name: str = DEFAULT_SIGNATURE,
    version: int | None = None,
    timeout_seconds: float = 30.0,
) -> list[dict[str, Any]]:
    """Asks a model for its answers to texts, once; `Client` tries again, speaks gRPC and gives arrays.

    Args:
        url_or_host: `http://localhost:8501`, `localhost:8501` or `localhost` (port 8501).
        model: its name on the server.
        texts: one instance each; for models that take something else than one text, whatever JSON they take.
        signature_name: of the model.
        version: of the model; None is the newest.
        timeout_seconds: for the whole answer.
    Returns: for each text a dictionary from the names of the outputs to their values.
    Raises:
        ServingError: the server's own message, with the code that belongs to its HTTP status.
        ConnectionError: nothing answers there; says what to start.
        TimeoutError: no answer in time.
        ValueError: no URL of a server that speaks HTTP.
    """
    address = parse_address(url_or_host)
    if address.is_grpc:
        raise ValueError(f"`ask` speaks HTTP, `Client` speaks gRPC as well. Received: {url_or_host!r}.")
    target, deadline = Target(model, version), Deadline(timeout_seconds, str(address))
    transport = HttpTransport(address, DEFAULT_TLS, {})

    def send(request: HttpRequest) -> HttpReply:
        try:
            return transport.send(request, deadline)
        except DeadlineExceeded as error:
            raise TimeoutError(error.message) from None
        except ServiceUnavailable as error:
            raise ConnectionError(
                f"{error.message} Is there a server? This starts one: "
                f"seqattn serve --model_name={model} --model_base_path=saved_models/{model}"
            ) from None

    try:
        body = json.dumps({"signature_name": signature_name, "instances": list(texts)}).encode()
        predictions = document_of(send(HttpRequest("POST", f"{model_path(target)}:predict", body)))["predictions"]
        if all(isinstance(prediction, dict) for prediction in predictions):
            return list(predictions)
        # One output comes without its name; the metadata has it.
        call = RestWire().metadata(target)
        (output,) = call.read(send(call.request)).signatures[signature_name].outputs
        return [{output: prediction} for prediction in predictions]
    finally:
        transport.close()
