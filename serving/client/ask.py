"""Asks a model server over REST; works with TensorFlow Serving itself as well."""

import ipaddress
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.models.signature import DEFAULT_SIGNATURE
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["ask"]

_DEFAULT_PORT = 8501


def ask(
    url_or_host: str,
    model: str,
    texts: Sequence[Any],
    *,
    signature_name: str = DEFAULT_SIGNATURE,
    version: int | None = None,
    timeout_seconds: float = 30.0,
) -> list[dict[str, Any]]:
    """Asks a model for its answers to texts.

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
    """
    with packages_of_extra("serving"):
        import httpx

    base = _base_url(url_or_host)
    path = f"{base}/v1/models/{quote(model, safe='')}" + ("" if version is None else f"/versions/{version}")
    try:
        # A proxy that the environment names is for other machines.
        with httpx.Client(timeout=timeout_seconds, trust_env=not _is_loopback(base)) as client:
            body = {"signature_name": signature_name, "instances": list(texts)}
            predictions = _json(client.post(f"{path}:predict", json=body))["predictions"]
            if all(isinstance(prediction, dict) for prediction in predictions):
                return list(predictions)
            # One output comes without its name; the metadata has it.
            metadata = _json(client.get(f"{path}/metadata"))["metadata"]["signature_def"]["signature_def"]
            (output,) = metadata[signature_name]["outputs"]
            return [{output: prediction} for prediction in predictions]
    except httpx.TimeoutException:
        raise TimeoutError(f"{base} gave no answer in {timeout_seconds:g} s.") from None
    except httpx.ConnectError as error:
        raise ConnectionError(
            f"Nothing answers at {base} ({error}). Start a server: "
            f"seqattn serve --model_name={model} --model_base_path=saved_models/{model}"
        ) from None
    except httpx.TransportError as error:
        raise ConnectionError(f"The connection to {base} broke: {error}") from None
    except httpx.InvalidURL as error:
        raise ValueError(f"`url_or_host` is not a URL: {error}. Received: {url_or_host!r}.") from None


def _base_url(url_or_host: str) -> str:
    url = url_or_host if "://" in url_or_host else f"http://{url_or_host}"
    parts = urlsplit(url)
    netloc = parts.netloc
    if parts.scheme == "http" and parts.port is None:
        netloc += f":{_DEFAULT_PORT}"
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def _is_loopback(base: str) -> bool:
    host = urlsplit(base).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json(response: Any) -> Any:
    try:
        document = response.json()
    except ValueError:
        document = {}
    if response.status_code == 200 and isinstance(document, dict):
        return document
    message = document.get("error") if isinstance(document, dict) else None
    code = next((code for code in Code if code.http_status == response.status_code), Code.UNKNOWN)
    if response.status_code == 400:
        code = Code.INVALID_ARGUMENT
    raise ServingError(code, message or f"{response.url} answered with HTTP status {response.status_code}.")
