"""Texts piece by piece: joined, they are the text of `serving_default`, over REST and gRPC, waiting and not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keras_seqattn.serving import EmbeddedServer, ServingError
from keras_seqattn.serving.client.async_client import AsyncClient
from keras_seqattn.serving.client.client import Client
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.export.saved_model import export_text_generation
from keras_seqattn.serving.grpc.server import GrpcServer
from tests.export.generating import generation

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow_only]
TEXTS = ["abc", "é€ a", "", "a"]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streaming")
    return Path(export_text_generation(generation(), folder / "stories", {"recipe": "none"}, ["abc"]))


@pytest.fixture(scope="module")
def urls(version: Path) -> Iterator[dict[str, str]]:
    with EmbeddedServer({"stories": version.parent}) as server:
        grpc_server = GrpcServer(server.repository)
        grpc_server.start()
        yield {"rest": server.url, "grpc": f"grpc://{grpc_server.target}"}
        grpc_server.stop()


def streamed(kind: str, url: str, inputs: Any) -> list[Any]:
    if kind == "sync":
        with Client(url) as client:
            return list(client.stream("stories", inputs))

    async def ask() -> list[Any]:
        async with AsyncClient(url) as client:
            return [piece async for piece in client.stream("stories", inputs)]

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_the_pieces_joined_are_the_whole_text(kind: str, transport: str, urls: dict[str, str]) -> None:
    url = urls[transport]
    with Client(url) as client:
        whole = client.predict("stories", TEXTS)["text"].tolist()
    several = streamed(kind, url, TEXTS)
    assert ["".join(pieces) for pieces in zip(*several, strict=True)] == whole
    pieces = streamed(kind, url, TEXTS[1])
    assert all(isinstance(piece, str) for piece in pieces)
    assert len(pieces) > 1
    assert "".join(pieces) == whole[1] != ""
    assert "".join(piece for (piece,) in streamed(kind, url, {"prompt": [TEXTS[1]]})) == whole[1]


def test_a_stream_stays_with_its_version(urls: dict[str, str], version: Path) -> None:
    for url in urls.values():
        with Client(url) as client:
            assert "".join(client.stream("stories", "abc", version=int(version.name)))
            with pytest.raises(ServingError, match="Servable not found") as raised:
                next(client.stream("stories", "abc", version=77))
            assert raised.value.code == Code.NOT_FOUND
