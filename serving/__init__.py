"""Serves SavedModels as TensorFlow Serving does, and asks such servers.

Importing this package imports none of TensorFlow, grpc and Starlette; the names below do when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_seqattn.serving.client.ask import ask
    from keras_seqattn.serving.client.async_client import AsyncClient
    from keras_seqattn.serving.client.client import Client
    from keras_seqattn.serving.client.retries import Retries
    from keras_seqattn.serving.client.security import ClientTls
    from keras_seqattn.serving.errors import Code, ServingError
    from keras_seqattn.serving.flags import ServerFlags, parse_flags
    from keras_seqattn.serving.models.batching_parameters import BatchingParameters
    from keras_seqattn.serving.models.model_config import ModelConfig, VersionPolicy
    from keras_seqattn.serving.models.repository import ModelRepository
    from keras_seqattn.serving.rest.application import RestApplication
    from keras_seqattn.serving.server import EmbeddedServer, serve

__all__ = [
    "AsyncClient",
    "BatchingParameters",
    "Client",
    "ClientTls",
    "Code",
    "EmbeddedServer",
    "ModelConfig",
    "ModelRepository",
    "RestApplication",
    "Retries",
    "ServerFlags",
    "ServingError",
    "VersionPolicy",
    "ask",
    "parse_flags",
    "serve",
]

_ROOMS = {
    "AsyncClient": "client.async_client",
    "BatchingParameters": "models.batching_parameters",
    "Client": "client.client",
    "ClientTls": "client.security",
    "Code": "errors",
    "EmbeddedServer": "server",
    "ModelConfig": "models.model_config",
    "ModelRepository": "models.repository",
    "RestApplication": "rest.application",
    "Retries": "client.retries",
    "ServerFlags": "flags",
    "ServingError": "errors",
    "VersionPolicy": "models.model_config",
    "ask": "client.ask",
    "parse_flags": "flags",
    "serve": "server",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
