"""The client against the embedded server, over REST and gRPC, waiting and in an event loop: all give the same."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import EmbeddedServer, ServingError
from keras_seqattn.serving.client.async_client import AsyncClient
from keras_seqattn.serving.client.client import Client
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.grpc.server import GrpcServer
from tests.serving.conftest import DTYPES, function, write_saved_model, write_scaling_model
from tests.serving.examples import example, write_examples_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    examples = tmp_path_factory.mktemp("examples")
    write_examples_model(examples / "1")
    folders = {"half_plus_two": models / "half_plus_two", "many": models / "many", "examples": examples}
    with EmbeddedServer(folders, timeout_seconds=5.0, poll_wait_seconds=0.05) as server:
        yield server


@pytest.fixture(scope="module")
def urls(server: EmbeddedServer) -> Iterator[dict[str, str]]:
    grpc_server = GrpcServer(server.repository)
    grpc_server.start()
    yield {"rest": server.url, "grpc": f"grpc://{grpc_server.target}"}
    grpc_server.stop()


class Awaited:
    """`AsyncClient` with the methods of `Client`, each run to its end."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = self.run(self.make(url, settings))

    async def make(self, url: str, settings: dict[str, Any]) -> AsyncClient:
        return AsyncClient(url, **settings)

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self.run(getattr(self.client, name)(*arguments, **named))

    def close(self) -> None:
        self.run(self.client.close())
        self.loop.close()


@pytest.fixture(scope="module")
def clients(urls: dict[str, str]) -> Iterator[dict[str, Any]]:
    found = {f"{kind}_{name}": make(url) for name, url in urls.items() for kind, make in KINDS.items()}
    yield found
    for client in found.values():
        client.close()


KINDS: dict[str, Any] = {"sync": Client, "async": Awaited}


@pytest.fixture(params=["sync_rest", "sync_grpc", "async_rest", "async_grpc"])
def client(clients: dict[str, Any], request: pytest.FixtureRequest) -> Any:
    return clients[request.param]


def assert_same(found: dict[str, np.ndarray[Any, Any]], expected: dict[str, np.ndarray[Any, Any]]) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found[name], array)


def in_process(server: EmbeddedServer, signature_name: str, **inputs: Any) -> dict[str, np.ndarray[Any, Any]]:
    with server.repository.lease("many") as lease:
        return lease.servable.run(signature_name, inputs)


def test_a_bare_value_is_the_one_input(client: Any) -> None:
    expected = {"y": np.array([2.5, 3.0], np.float32)}
    assert_same(client.predict("half_plus_two", [1, 2]), expected)
    assert_same(client.predict("half_plus_two", np.array([1, 2], np.int64)), expected)
    assert_same(client.predict("half_plus_two", {"x": (1.0, 2.0)}), expected)
    assert_same(client.predict("half_plus_two", np.float64([1, 2])[::1]), expected)


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_each_dtype_comes_back_as_it_went(name: str, client: Any, server: EmbeddedServer) -> None:
    dtype = DTYPES[name]
    for shape in ((), (3,), (2, 0), (2, 3, 5)):
        if dtype == "string":
            array = np.empty(shape, dtype=object)
            array[...] = 'é\x00\n\u2028"\\'
        else:
            size = int(np.prod(shape, dtype=int))
            array = (np.arange(size) * 7 % 120).astype(dtype).reshape(shape)
        assert_same(client.predict("many", array, signature_name=f"same_{dtype}"), {"y": array})


def test_numbers_at_the_ends_come_back(client: Any) -> None:
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"):
        ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
        assert_same(client.predict("many", ends, signature_name=f"same_{dtype}"), {"y": ends})
        assert_same(client.predict("many", ends.tolist(), signature_name=f"same_{dtype}"), {"y": ends})
    for dtype in ("float32", "float64"):
        limits = np.finfo(dtype)
        numbers = np.array([limits.max, limits.tiny, -0.0, 1 / 3, np.nan, np.inf, -np.inf], dtype)
        assert_same(client.predict("many", numbers, signature_name=f"same_{dtype}"), {"y": numbers})


def test_several_inputs_and_outputs(client: Any, server: EmbeddedServer) -> None:
    inputs = {"a": np.float32([[1, 2], [3, 4]]), "b": np.int32([5, 6]), "s": ["ab", b"\xc3\xa9"]}
    found = client.predict("many", inputs, signature_name="several")
    expected = in_process(server, "several", **{**inputs, "s": np.array([b"ab", "é".encode()], dtype=object)})
    expected["text"] = np.array([one.decode() for one in expected["text"]], dtype=object)
    assert_same(found, expected)
    some = client.predict("many", inputs, signature_name="several", outputs=["next", "text"])
    assert list(some) == ["next", "text"]
    assert_same(some, {name: expected[name] for name in ("next", "text")})


def test_strings_are_text_and_bytes_by_the_name_of_the_output(client: Any) -> None:
    found = client.predict("many", ["é", b"\xff\x00", "a\x00"], signature_name="pictures")
    assert found["plain"].tolist() == ["é", "\udcff\x00", "a\x00"]
    assert found["plain"][1].encode("utf-8", "surrogateescape") == b"\xff\x00"
    assert found["rows_bytes"].tolist() == [[one, one] for one in ("é".encode(), b"\xff\x00", b"a\x00")]
    assert found["numbers_bytes"].tolist() == [2, 2, 2]
    again = client.predict("many", found["plain"], signature_name="pictures")
    assert_same(again, found)
    picture = bytes(range(256))
    assert client.predict("many", picture, signature_name="picture")["image_bytes"][()] == picture


def test_a_scalar_output_is_an_array_without_dimensions(client: Any) -> None:
    assert_same(client.predict("many", [1, 2, 3], signature_name="total"), {"y": np.float32(6)[()].reshape(())})


def test_versions_are_chosen(client: Any) -> None:
    assert client.metadata("half_plus_two").version == 123
    assert [(one.version, one.state) for one in client.status("half_plus_two")] == [(123, "AVAILABLE")]
    assert client.predict("half_plus_two", [1], version=123)["y"].tolist() == [2.5]
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(half_plus_two, 2\)") as raised:
        client.predict("half_plus_two", [1], version=2)
    assert raised.value.code == Code.NOT_FOUND
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary") as raised:
        client.predict("half_plus_two", [1], label="canary")
    assert raised.value.code == Code.INVALID_ARGUMENT
    with pytest.raises(ValueError, match="not to both"):
        client.predict("half_plus_two", [1], version=1, label="canary")


def test_metadata_tells_the_signatures(client: Any, server: EmbeddedServer) -> None:
    signatures = client.metadata("many").signatures
    with server.repository.lease("many") as lease:
        assert dict(signatures) == dict(lease.servable.signatures)


def test_the_server_s_own_errors_come_through(client: Any) -> None:
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(m\)") as raised:
        client.predict("m", [1])
    assert raised.value.code == Code.NOT_FOUND
    with pytest.raises(ServingError, match="Could not find any versions of model m") as raised:
        client.status("m")
    assert raised.value.code == Code.NOT_FOUND
    for inputs in ([1.0], {"x": [1.0]}):
        with pytest.raises(ServingError, match='Serving signature (name: "none"|key "none") not found') as raised:
            client.predict("many", inputs, signature_name="none")
        assert raised.value.code in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
    with pytest.raises(ServingError, match="Incompatible shapes") as raised:
        client.predict("many", {"a": [1, 2], "b": [1, 2, 3]}, signature_name="add")
    assert raised.value.code == Code.INVALID_ARGUMENT
    with pytest.raises(ServingError, match="x") as raised:
        client.predict("half_plus_two", {"z": [1.0]})
    assert raised.value.code == Code.INVALID_ARGUMENT
    with pytest.raises(ServingError, match="output tensor alias not found in signature: q") as raised:
        client.predict("half_plus_two", [1], outputs=["q"])
    assert raised.value.code == Code.INVALID_ARGUMENT


def test_values_that_cannot_be_meant_are_not_sent(client: Any) -> None:
    for inputs in (["a"], [None], [[1], [2, 3]], [1j]):
        with pytest.raises(ValueError, match="Input `x` takes a regular tensor of float"):
            client.predict("half_plus_two", inputs)
    for signature_name, inputs in (
        ("same_int32", [1.5]), ("same_int32", [2**31]), ("same_int8", np.array([128])), ("same_bool", [1]),
        ("same_uint8", [-1]), ("same_string", [1]), ("same_string", [["a"], ["b", "c"]]), ("same_int64", [2**63]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="Input `x` takes a regular tensor of"):
            client.predict("many", inputs, signature_name=signature_name)
    with pytest.raises(ValueError, match="takes a dictionary with a, b, s"):
        client.predict("many", [1], signature_name="several")


def test_a_run_that_takes_too_long_ends_at_the_deadline(client: Any) -> None:
    with pytest.raises(TimeoutError) as raised:
        client.predict("many", [10**11], signature_name="spin", timeout_seconds=0.3)
    assert isinstance(raised.value, ServingError)
    assert raised.value.code == Code.DEADLINE_EXCEEDED


def test_examples_are_classified_and_regressed(client: Any) -> None:
    examples = [{"x": 2.0, "name": "a"}, {"x": np.float32([3]), "name": [b"\xc3\xa9"]}, example(x=5.0, name=b"c")]
    assert client.classify("examples", examples, signature_name="classify") == [
        [("a", 3.0), ("other", -3.0)], [("é", 3.5), ("other", -3.5)], [("c", 4.5), ("other", -4.5)],
    ]  # fmt: skip
    assert_same({"y": client.regress("examples", examples)}, {"y": np.float32([3.0, 3.5, 4.5])})
    with_context = client.classify("examples", [{"x": 2.0}], context={"name": "a"}, signature_name="classify")
    assert with_context == [[("a", 3.0), ("other", -3.0)]]
    (odd,) = client.classify("examples", [{"x": 1.0}], signature_name="odd")
    assert {label for label, _ in odd} == {'"\\é'}
    np.testing.assert_array_equal([score for _, score in odd], np.float32([np.nan, np.inf, -np.inf, 1 / 3]))
    with pytest.raises(ServingError, match="No signature was found with the name: none") as raised:
        client.regress("examples", examples, signature_name="none")
    assert raised.value.code == Code.INVALID_ARGUMENT


def test_waiting_until_a_model_is_ready(client: Any) -> None:
    client.wait_until_ready("half_plus_two", timeout_seconds=5)
    client.wait_until_ready("half_plus_two", version=123, timeout_seconds=5)
    with pytest.raises(TimeoutError, match="Model m is not ready: .*Could not find any versions of model m"):
        client.wait_until_ready("m", timeout_seconds=0.3)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_a_server_that_still_starts_is_waited_for(kind: str, transport: str, models: Path) -> None:
    server = EmbeddedServer({"half_plus_two": models / "half_plus_two"}, poll_wait_seconds=0.05)
    grpc_server = GrpcServer(server.repository)
    client = KINDS[kind](server.url if transport == "rest" else f"grpc://{grpc_server.target}")
    with pytest.raises(TimeoutError, match="Model half_plus_two is not ready: Nothing answers at"):
        client.wait_until_ready("half_plus_two", timeout_seconds=0.3)
    starts = threading.Timer(0.3, lambda: (server.start(), grpc_server.start()))
    starts.start()
    client.wait_until_ready("half_plus_two", timeout_seconds=20)
    assert client.predict("half_plus_two", [1])["y"].tolist() == [2.5]
    client.close()
    starts.join()
    grpc_server.stop()
    server.stop()


def test_a_model_without_init_and_step_does_not_stream(clients: dict[str, Any]) -> None:
    for name in ("sync_rest", "sync_grpc"):
        with pytest.raises(ServingError, match="has no signatures `init` and `step`") as raised:
            list(clients[name].stream("half_plus_two", "a"))
        assert raised.value.code == Code.UNIMPLEMENTED


def test_a_client_serves_many_threads(clients: dict[str, Any]) -> None:
    for name in ("sync_rest", "sync_grpc"):
        wrong: list[float] = []

        def ask(number: int, client: Any = clients[name], wrong: list[float] = wrong) -> None:
            for value in range(number, number + 20):
                if client.predict("half_plus_two", [value])["y"].tolist() != [value / 2 + 2]:
                    wrong.append(value)

        threads = [threading.Thread(target=ask, args=(100 * number,)) for number in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_an_async_client_asks_many_at_once(urls: dict[str, str]) -> None:
    async def ask(url: str) -> list[float]:
        async with AsyncClient(url) as client:
            answers = await asyncio.gather(*(client.predict("half_plus_two", [value]) for value in range(40)))
        return [answer["y"].item() for answer in answers]

    for url in urls.values():
        assert asyncio.run(ask(url)) == [value / 2 + 2 for value in range(40)]


def test_a_new_version_with_other_signatures_is_noticed(tmp_path: Path) -> None:
    write_scaling_model(tmp_path / "m" / "1", 2.0)
    with EmbeddedServer({"m": tmp_path / "m"}, poll_wait_seconds=0.05) as server, Client(server.url) as client:
        assert client.predict("m", [1])["y"].tolist() == [2.0]
        text = function(lambda t, n: {"u": t, "v": n + 1}, t=([None], "string"), n=([None], "int32"))
        write_saved_model(tmp_path / "m" / ".2", {"serving_default": text}).rename(tmp_path / "m" / "2")
        client.wait_until_ready("m", version=2, timeout_seconds=20)
        assert_same(
            client.predict("m", {"t": ["a"], "n": [4]}),
            {"u": np.array(["a"], dtype=object), "v": np.int32([5])},
        )
