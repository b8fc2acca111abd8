"""Clients that are slow, silent, endless or malicious: the right answer quickly, and the others do not notice."""

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_seqattn.serving import EmbeddedServer, RestApplication
from keras_seqattn.serving.models.repository import ModelRepository
from keras_seqattn.serving.rest.asgi import asgi_app
from keras_seqattn.serving.rest.http_server import HttpServer

LIMIT = 100_000
BODY = b'{"instances": [1.0]}'
PATH = "/v1/models/half_plus_two:predict"


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer({"half_plus_two": models / "half_plus_two"}, max_request_bytes=LIMIT) as server:
        yield server


@pytest.fixture
def answers(server: EmbeddedServer) -> Callable[[], None]:
    """A check that the server still answers others, at once."""

    def check() -> None:
        began = time.perf_counter()
        status, body = exchange(server.port, request(BODY))
        assert (status, json.loads(body)) == (200, {"predictions": [2.5]})
        assert time.perf_counter() - began < 5

    return check


def request(body: bytes, path: str = PATH, headers: str = "", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n".encode("latin-1") + body


def exchange(port: int, sent: bytes, seconds: float = 20) -> tuple[int, bytes]:
    """Status and body of the first answer; (0, b"") when the server closes without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
        client.sendall(sent)
        return read_answer(client)


def read_answer(client: socket.socket) -> tuple[int, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = client.recv(65536)
        if not chunk:
            return 0, b""
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        chunk = client.recv(65536)
        if not chunk:
            break
        body += chunk
    return int(head.split(b" ")[1]), body


# Sizes


@pytest.mark.rule("rest.body-size")
def test_a_body_that_says_it_is_too_long_is_refused_before_it_comes(server: EmbeddedServer, answers) -> None:
    status, body = exchange(server.port, request(b"", length=LIMIT + 1))
    assert status == 413
    assert json.loads(body) == {"error": f"The request has {LIMIT + 1} bytes, and the server takes {LIMIT} at most."}
    answers()


@pytest.mark.rule("rest.body-size")
def test_a_body_without_end_is_refused_at_the_limit(server: EmbeddedServer, answers) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head)
        sent = 0
        try:
            while sent < 100 * LIMIT:
                client.sendall(chunk)
                sent += len(chunk)
        except OSError:  # closed by the server
            pass
        assert sent < 100 * LIMIT
    answers()


def test_a_head_without_end_is_refused(server: EmbeddedServer, answers) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        refused = False
        for _ in range(1000):
            try:
                client.sendall(b"X: " + b"a" * 1000 + b"\r\n")
            except OSError:
                refused = True
                break
            time.sleep(0.001)
        assert refused
    answers()


@pytest.mark.rule("rest.gzip")
def test_gzip_that_unpacks_to_very_much_counts_as_empty(app: RestApplication) -> None:
    """Contract section 1: a limit of 100 MiB; what is beyond counts as an empty body."""
    bomb = gzip.compress(b" " * (101 * 2**20))
    assert len(bomb) < 200_000
    began = time.perf_counter()
    response = app.handle("POST", PATH, bomb, {"Content-Encoding": "gzip"})
    assert (response.status, json.loads(response.body)) == (400, {"error": "JSON Parse error: The document is empty"})
    assert time.perf_counter() - began < 10


@pytest.mark.rule("json.deep-nesting")
def test_nesting_of_500000_levels_is_an_error_and_no_crash(app: RestApplication) -> None:
    """Contract section 3."""
    for opening in (b"[", b'{"a":'):
        response = app.handle("POST", PATH, b'{"instances": ' + opening * 500_000)
        assert response.status == 400


# Time


@pytest.mark.rule("rest.body-size")
def test_clients_that_say_nothing_are_closed_and_block_nobody(models: Path, repository: ModelRepository) -> None:
    app = asgi_app(RestApplication(repository), num_threads=2, body_seconds=1)
    server = HttpServer(app, "127.0.0.1", 0, head_seconds=1)
    server.start()
    try:
        address = ("127.0.0.1", server.port)
        silent = [socket.create_connection(address, timeout=20) for _ in range(50)]
        half = [socket.create_connection(address, timeout=20) for _ in range(50)]
        for client in half:
            client.sendall(b"POST /v1/mod")
        slow = [socket.create_connection(address, timeout=20) for _ in range(50)]
        for client in slow:
            client.sendall(request(b'{"inst', length=len(BODY)))
        began = time.perf_counter()
        assert exchange(server.port, request(BODY))[0] == 200  # while they all wait
        assert time.perf_counter() - began < 5
        for client in silent + half:
            assert client.recv(1) == b""  # closed
        for client in slow:
            status, body = read_answer(client)
            assert status == 408
            assert "did not come within 1 s" in json.loads(body)["error"]
        for client in silent + half + slow:
            client.close()
        assert exchange(server.port, request(BODY))[0] == 200
    finally:
        server.stop()


def test_a_client_that_goes_in_the_middle_leaves_nothing(server: EmbeddedServer, answers) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(request(b'{"inst', length=len(BODY)))
    answers()
    deadline = time.monotonic() + 10
    while len(os.listdir("/proc/self/fd")) > before + 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before + 5


@pytest.mark.rule("flags.threads")
def test_more_requests_than_may_wait_are_refused_at_once(repository: ModelRepository) -> None:
    """Bounded queues: 503 rather than a queue that grows; the ones that wait are answered."""
    server = HttpServer(asgi_app(RestApplication(repository), num_threads=1, max_pending_requests=2), "127.0.0.1", 0)
    server.start()
    spin = b'{"signature_name": "spin", "instances": [300000]}'
    found: list[tuple[int, bytes, float]] = []

    def ask() -> None:
        began = time.perf_counter()
        found.append(
            (*exchange(server.port, request(spin, "/v1/models/many:predict"), 60), time.perf_counter() - began)
        )

    try:
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
    finally:
        server.stop()
    answered = [seconds for status, _, seconds in found if status == 200]
    refused = [(body, seconds) for status, body, seconds in found if status == 503]
    assert len(answered) == 3  # one that runs, two that wait
    assert len(refused) == 5
    assert all(b"3 requests at once already" in body for body, _ in refused)
    assert max(seconds for _, seconds in refused) < min(answered)


@pytest.mark.rule("rest.timeout")
def test_what_has_waited_too_long_is_not_run(app: RestApplication) -> None:
    body = b'{"signature_name": "spin", "instances": [100000000]}'
    began = time.perf_counter()
    response = app.handle("POST", "/v1/models/many:predict", body, waited_seconds=31)
    assert (response.status, time.perf_counter() - began < 1) == (504, True)
    assert json.loads(response.body) == {"error": "The request waited 31.0 s for its turn, and was not run."}


# Names and bytes


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../../etc/passwd",
        "/v1/models/..%2F..%2Fetc%2Fpasswd",
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd/metadata",
        "/v1/models/half_plus_two%00.txt",
        "/v1/models/half_plus_two/versions/..%2f2",
        "/../../../etc/passwd",
        "/playground/../../../etc/passwd",
    ],
)
def test_a_name_is_never_a_path(server: EmbeddedServer, path: str, answers) -> None:
    status, body = exchange(server.port, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert status in (400, 404)
    assert b"root:" not in body
    answers()


@pytest.mark.parametrize("sent", [b"\x00\xff" * 100 + b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00" * 9])
def test_what_is_no_http_is_told_so(server: EmbeddedServer, sent: bytes, answers) -> None:
    assert exchange(server.port, sent)[0] in (400, 0)
    answers()


def test_content_length_and_chunks_together_are_refused(server: EmbeddedServer, answers) -> None:
    """Request smuggling: a proxy in front may take the other of the two for the length."""
    sent = request(b"0\r\n\r\n", headers="Transfer-Encoding: chunked\r\n")
    assert exchange(server.port, sent)[0] == 400
    answers()


# Anything

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.fixed_dictionaries({"b64": st.text() | st.binary().map(lambda raw: raw.hex())}),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["x", "b64", "a"]), inner),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["instances", "inputs", "signature_name", "examples", "context"]) | st.text(), VALUES
)
SIGNATURES = [
    "serving_default",
    "several",
    "text",
    "picture",
    "total",
    "matrix",
    "add",
    "same_int64",
    "same_bool",
    "none",
]


def check_answer(app: RestApplication, verb: str, body: bytes) -> None:
    response = app.handle("POST", f"/v1/models/many:{verb}", body)
    assert response.status in (200, 400, 501), (response.status, response.body)
    document = json.loads(response.body.decode("utf-8", "replace"))
    if response.status != 200:
        assert list(document) == ["error"]
        assert isinstance(document["error"], str)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS, verb=st.sampled_from(["predict", "classify", "regress"]))
def test_any_json_has_a_proper_answer(app: RestApplication, document: dict[str, object], verb: str) -> None:
    check_answer(app, verb, json.dumps(document).encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(SIGNATURES), key=st.sampled_from(["instances", "inputs"]), value=VALUES)
def test_any_value_for_any_signature_has_a_proper_answer(
    app: RestApplication, name: str, key: str, value: object
) -> None:
    check_answer(app, "predict", json.dumps({"signature_name": name, key: value}).encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary() | st.text(alphabet='{}[]",:0123456789.eE+-truefalsnN \\u').map(str.encode))
def test_any_bytes_have_a_proper_answer(app: RestApplication, body: bytes) -> None:
    check_answer(app, "predict", body)
    check_answer(app, "predict", b'{"instances": ' + body + b"}")
