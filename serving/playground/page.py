"""What the page is served by: itself, and the list of models that TensorFlow Serving's API does not have."""

import importlib.resources
from typing import TYPE_CHECKING, Any

from keras_seqattn.serving.errors import ServingError
from keras_seqattn.serving.models.repository import ModelRepository
from keras_seqattn.serving.models.signature import Signature, TensorSpec
from keras_seqattn.serving.optional import packages_of_extra

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["known_models", "playground_routes"]

# The page brings its script and style along, asks this server alone, and cannot be framed by another.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def playground_routes(repository: ModelRepository) -> "list[Route]":
    """`/`, the page, and `/playground/models`, what it lets a person choose from."""
    with packages_of_extra("serving"):
        from starlette.responses import HTMLResponse, JSONResponse
        from starlette.routing import Route

    page = importlib.resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")

    def show(_: "Request") -> "Response":
        return HTMLResponse(page, headers=_HEADERS)

    def models(_: "Request") -> "Response":
        return JSONResponse(known_models(repository), headers=_HEADERS)

    return [Route("/", show), Route("/playground/models", models)]


def known_models(repository: ModelRepository) -> list[dict[str, Any]]:
    """The configured models by name, each with its versions, the newest first.

    Returns: of each model `name` and `versions`; of each version `version` (a string, as in the status), `state`,
        `labels`, and the `signatures` of one that answers: inputs and outputs with dtype and shape.
    """
    return [{"name": name, "versions": _versions(repository, name)} for name in sorted(repository.names())]


def _versions(repository: ModelRepository, name: str) -> list[dict[str, Any]]:
    try:
        statuses = repository.statuses(name)
    except ServingError:  # no version has been seen yet
        return []
    labels = repository.labels(name)
    return [
        {
            "version": str(status.version),
            "state": status.state,
            "labels": sorted(label for label, version in labels.items() if version == status.version),
            "signatures": _signatures(repository, name, status.version) if status.state == "AVAILABLE" else {},
        }
        for status in statuses
    ]


def _signatures(repository: ModelRepository, name: str, version: int) -> dict[str, Any]:
    try:
        with repository.lease(name, version) as lease:
            return {key: _described(signature) for key, signature in lease.servable.signatures.items()}
    except ServingError:  # unloaded meanwhile
        return {}


def _described(signature: Signature) -> dict[str, Any]:
    def tensors(specs: "dict[str, TensorSpec]") -> dict[str, Any]:
        return {name: {"dtype": spec.dtype, "shape": spec.shape} for name, spec in specs.items()}

    return {"inputs": tensors(dict(signature.inputs)), "outputs": tensors(dict(signature.outputs))}
