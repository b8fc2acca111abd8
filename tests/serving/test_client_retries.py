"""The client against servers that refuse, break off, say that they are busy, or are slow."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from keras_seqattn.serving import ServingError
from keras_seqattn.serving.client.async_client import AsyncClient
from keras_seqattn.serving.client.client import Client
from keras_seqattn.serving.client.retries import Retries
from keras_seqattn.serving.errors import Code

pytestmark = pytest.mark.slow

QUICK = Retries(max_attempts=4, first_pause_seconds=0.01, max_pause_seconds=0.02)
SPEC = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}, "name": "x:0"}
METADATA = {
    "model_spec": {"name": "m", "version": "1"},
    "metadata": {"signature_def": {"signature_def": {
        "serving_default": {"inputs": {"x": SPEC}, "outputs": {"y": SPEC}}
    }}},
}  # fmt: skip


def reply(status: int, document: object, headers: str = "") -> bytes:
    body = json.dumps(document).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


Behaviour = Callable[[socket.socket], None]


def sends(data: bytes) -> Behaviour:
    return lambda connection: connection.sendall(data)


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    raise ConnectionAbortedError


def hangs_up(connection: socket.socket) -> None:
    raise ConnectionAbortedError


def breaks_off(connection: socket.socket) -> None:
    connection.sendall(reply(200, {"outputs": [7.0]})[:-3])
    raise ConnectionAbortedError


def dribbles(connection: socket.socket) -> None:
    head, end, body = reply(200, {"outputs": [7.0]}).partition(b"\r\n\r\n")
    connection.sendall(head + end)
    for byte in body:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def is_silent(connection: socket.socket) -> None:
    time.sleep(3)


GOOD = sends(reply(200, {"outputs": [7.0]}))
BUSY = sends(reply(503, {"error": "busy"}))


class FlakyServer:
    """Answers predictions by its behaviours one after the other, the last again and again; metadata always."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.behaviours: list[Behaviour] = [GOOD]
        self.num_predictions = 0
        self.bodies: list[bytes] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            try:
                while line := file.readline():
                    length = 0
                    while header := file.readline().strip():
                        name, _, value = header.partition(b":")
                        length = int(value) if name.lower() == b"content-length" else length
                    body = file.read(length)
                    if line.startswith(b"GET"):
                        connection.sendall(reply(200, METADATA))
                        continue
                    index = min(self.num_predictions, len(self.behaviours) - 1)
                    self.num_predictions += 1
                    self.bodies.append(body)
                    self.behaviours[index](connection)
            except OSError:
                return


@pytest.fixture
def flaky() -> Iterator[FlakyServer]:
    server = FlakyServer()
    yield server
    server.listener.close()


def predict(kind: str, url: str, **settings: Any) -> Any:
    """One prediction by a client of its own."""
    timeout_seconds = settings.pop("timeout_seconds", 10.0)
    settings = {"retries": QUICK, **settings}
    if kind == "sync":
        with Client(url, **settings) as client:
            return client.predict("m", [1.0], timeout_seconds=timeout_seconds)["y"].tolist()

    async def ask() -> Any:
        async with AsyncClient(url, **settings) as client:
            return (await client.predict("m", [1.0], timeout_seconds=timeout_seconds))["y"].tolist()

    return asyncio.run(ask())


kinds = pytest.mark.parametrize("kind", ["sync", "async"])


@kinds
@pytest.mark.parametrize(
    "first",
    [BUSY, sends(reply(429, {"error": "busy"})), sends(reply(502, "bad gateway")), resets, hangs_up, breaks_off],
    ids=["503", "429", "502", "reset", "hang up", "break off"],
)
def test_what_may_pass_is_tried_again(kind: str, first: Behaviour, flaky: FlakyServer) -> None:
    flaky.behaviours = [first, first, GOOD]
    assert predict(kind, flaky.url) == [7.0]
    assert flaky.num_predictions == 3
    assert len(set(flaky.bodies)) == 1


@kinds
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_ARGUMENT), (404, Code.NOT_FOUND), (413, Code.INVALID_ARGUMENT), (500, Code.INTERNAL),
        (501, Code.UNIMPLEMENTED), (504, Code.DEADLINE_EXCEEDED),
    ],
)  # fmt: skip
def test_what_will_not_pass_is_told_at_once(kind: str, status: int, code: Code, flaky: FlakyServer) -> None:
    flaky.behaviours = [sends(reply(status, {"error": "the server's own text"}))]
    with pytest.raises(ServingError, match="the server's own text") as raised:
        predict(kind, flaky.url)
    assert raised.value.code == code
    assert flaky.num_predictions == 1


@kinds
def test_retries_come_to_an_end(kind: str, flaky: FlakyServer) -> None:
    flaky.behaviours = [BUSY]
    with pytest.raises(ServingError, match="busy") as raised:
        predict(kind, flaky.url)
    assert raised.value.code == Code.UNAVAILABLE
    assert flaky.num_predictions == QUICK.max_attempts
    flaky.behaviours, flaky.num_predictions = [hangs_up], 0
    with pytest.raises(ConnectionError, match="The connection to http://127.0.0.1:.* broke") as broken:
        predict(kind, flaky.url, retries=Retries(max_attempts=1))
    assert isinstance(broken.value, ServingError)
    assert flaky.num_predictions == 1


@kinds
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_at_the_address_is_said(kind: str, scheme: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ConnectionError, match=str(port)) as raised:
            predict(kind, f"{scheme}://127.0.0.1:{port}")
    assert isinstance(raised.value, ServingError)
    assert raised.value.code == Code.UNAVAILABLE


@kinds
def test_a_server_that_starts_meanwhile_is_found(kind: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found: list[Any] = []
    patient = Retries(max_attempts=100, first_pause_seconds=0.05, max_pause_seconds=0.05)
    thread = threading.Thread(target=lambda: found.append(predict(kind, f"grpc://127.0.0.1:{port}", retries=patient)))
    thread.start()
    time.sleep(0.3)
    server, _ = grpc_server(Servicer(), port)
    thread.join(15)
    server.stop(None)
    assert found == [[7.0]]


@kinds
@pytest.mark.parametrize("behaviour", [is_silent, dribbles], ids=["silent", "dribbling"])
def test_the_deadline_is_one_for_the_whole_answer(kind: str, behaviour: Behaviour, flaky: FlakyServer) -> None:
    flaky.behaviours = [behaviour]
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"gave no answer in 0\.4 s") as raised:
        predict(kind, flaky.url, timeout_seconds=0.4)
    assert 0.35 < time.monotonic() - started < 0.9
    assert isinstance(raised.value, ServingError)
    assert raised.value.code == Code.DEADLINE_EXCEEDED
    assert flaky.num_predictions == 1


@kinds
def test_the_deadline_is_one_for_all_tries(kind: str, flaky: FlakyServer) -> None:
    def slow_and_busy(connection: socket.socket) -> None:
        time.sleep(0.15)
        BUSY(connection)

    flaky.behaviours = [slow_and_busy]
    started = time.monotonic()
    with pytest.raises(ServingError) as raised:
        predict(kind, flaky.url, timeout_seconds=0.5, retries=Retries(1000, 0.01, 0.01))
    assert time.monotonic() - started < 1.0
    assert raised.value.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
    assert 2 <= flaky.num_predictions <= 4


def test_a_reply_of_something_else_is_told(flaky: FlakyServer) -> None:
    html = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    for wrong, message in (
        (html, "The reply is no JSON object"),
        (reply(200, [1]), "The reply is no JSON object"),
        (reply(200, {"predictions": [1]}), "The reply is not of TensorFlow Serving's form"),
    ):
        flaky.behaviours = [sends(wrong)]
        with pytest.raises(ServingError, match=message) as raised:
            predict("sync", flaky.url)
        assert raised.value.code == Code.INTERNAL
    for document in ({"outputs": {"a": 1, "b": 2}}, {"outputs": ["text"]}, {"outputs": [[1], [2, 3]]}):
        flaky.behaviours = [sends(reply(200, document))]
        with pytest.raises(ServingError, match="answers with other outputs than its metadata tells"):
            predict("sync", flaky.url)


# gRPC, against the official stubs.


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """One model, which answers 7; before that it fails with the codes that it is given."""

    def __init__(self, *codes: grpc.StatusCode, seconds: float = 0.0) -> None:
        self.codes, self.seconds, self.requests = list(codes), seconds, 0
        self.seen: list[Any] = []

    def Predict(self, request: Any, context: Any) -> Any:
        self.requests += 1
        self.seen.append((request, dict(context.invocation_metadata()), context.time_remaining()))
        time.sleep(self.seconds)
        if self.codes:
            context.abort(self.codes.pop(0), "the server's own text")
        response = predict_pb2.PredictResponse()
        response.outputs["y"].CopyFrom(tf.make_tensor_proto(np.float32([7])))
        return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        signature = signatures.signature_def["serving_default"]
        for info in (signature.inputs["x"], signature.outputs["y"]):
            info.dtype = 1
            info.tensor_shape.dim.add().size = -1
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.version.value = 3
        response.metadata["signature_def"].Pack(signatures)
        return response


def grpc_server(servicer: Servicer, port: int = 0) -> tuple[Any, str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, f"grpc://127.0.0.1:{port}"


@kinds
def test_what_may_pass_is_tried_again_over_grpc(kind: str) -> None:
    servicer = Servicer(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    server, url = grpc_server(servicer)
    assert predict(kind, url, headers={"Authorization": "Bearer a"}) == [7.0]
    assert servicer.requests == 3
    request, metadata, seconds = servicer.seen[0]
    assert (request.model_spec.name, request.model_spec.signature_name) == ("m", "serving_default")
    assert not request.model_spec.HasField("version")
    assert metadata["authorization"] == "Bearer a"
    assert 5 < seconds <= 10  # the client's deadline is the server's
    server.stop(None)


@kinds
def test_what_will_not_pass_is_told_at_once_over_grpc(kind: str) -> None:
    for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
        servicer = Servicer(code)
        server, url = grpc_server(servicer)
        with pytest.raises(ServingError, match="the server's own text") as raised:
            predict(kind, url)
        assert raised.value.code == Code(code.value[0])
        assert servicer.requests == 1
        server.stop(None)


@kinds
def test_the_deadline_holds_over_grpc(kind: str) -> None:
    servicer = Servicer(seconds=2.0)
    server, url = grpc_server(servicer)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"gave no answer in 0\.4 s"):
        predict(kind, url, timeout_seconds=0.4)
    assert time.monotonic() - started < 1.5
    server.stop(None)


def test_answers_beyond_four_mebibytes_are_taken() -> None:
    class Large(Servicer):
        def Predict(self, request: Any, context: Any) -> Any:
            response = predict_pb2.PredictResponse()
            response.outputs["y"].CopyFrom(tf.make_tensor_proto(np.zeros(2_000_000, np.float32)))
            return response

    server, url = grpc_server(Large())
    with Client(url) as client:
        assert client.predict("m", [1.0])["y"].shape == (2_000_000,)
    server.stop(None)
