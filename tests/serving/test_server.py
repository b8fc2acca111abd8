"""The server on sockets, on loopback: the one file that opens any."""

import concurrent.futures
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from keras_seqattn.serving import EmbeddedServer, ServingError, ask
from keras_seqattn.serving.errors import Code
from tests.serving.conftest import write_scaling_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(
        {"half_plus_two": models / "half_plus_two", "many": models / "many"}, num_threads=3, timeout_seconds=1.0
    ) as server:
        yield server


def call(server: EmbeddedServer | int, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    port = server if isinstance(server, int) else server.port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body)
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


def test_the_wire_carries_what_the_application_answers(server: EmbeddedServer) -> None:
    for method, path, body in (
        ("POST", "/v1/models/half_plus_two:predict", '{"instances": [1, 2]}'),
        ("POST", "/v1/models/half%5Fplus_two:predict", '{"instances": [1, 2]}'),
        ("POST", "/v1/models/a%2Fb:predict", '{"instances": [1, 2]}'),
        ("POST", "/v1/models/half_plus_two:predict?a=b", '{"instances": [1, 2]}'),
        ("POST", "/v1/models/half_plus_two:predict", "x"),
        ("GET", "/v1/models/half_plus_two", None),
        ("GET", "/v1/models/many/metadata", None),
        ("GET", "/v1/models/half_plus_two?a=b", None),
        ("PUT", "/v1/models/half_plus_two", "x"),
        ("GET", "/elsewhere", None),
        ("OPTIONS", "/v1/models/half_plus_two", None),
    ):
        expected = server.application.handle(method, path, body or "")
        assert call(server, method, path, body) == (expected.status, expected.body), path


@pytest.mark.rule("rest.keep-alive", "rest.plain-replies", "rest.content-type")
def test_a_connection_is_kept_and_takes_chunked_bodies(server: EmbeddedServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for value in (1, 2, 3):
        connection.request(
            "POST", "/v1/models/half_plus_two:predict", iter([b'{"inst', b'ances": [', str(value).encode(), b"]}"])
        )
        response = connection.getresponse()
        assert json.loads(response.read()) == {"predictions": [value / 2 + 2]}
        assert response.getheader("Content-Type") == "application/json"
        assert response.getheader("Content-Encoding") is None
        assert connection.sock is not None  # still open
    connection.close()


def test_small_replies_are_not_held_back(server: EmbeddedServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    started = time.monotonic()
    for _ in range(20):
        connection.request("GET", "/v1/models/half_plus_two")
        connection.getresponse().read()
    connection.close()
    assert time.monotonic() - started < 20 * 0.03  # a delayed acknowledgement alone takes 0.04 s


def test_concurrent_requests_get_their_own_answers(server: EmbeddedServer) -> None:
    def one(value: int) -> bool:
        status, body = call(server, "POST", "/v1/models/half_plus_two:predict", f'{{"instances": [{value}]}}')
        return status == 200 and json.loads(body) == {"predictions": [value / 2 + 2]}

    with concurrent.futures.ThreadPoolExecutor(13) as threads:
        assert all(threads.map(one, range(101)))


@pytest.mark.rule("rest.timeout")
def test_a_long_run_leaves_the_event_loop_free_and_times_out(server: EmbeddedServer) -> None:
    spin = '{"signature_name": "spin", "instances": [100000000000]}'
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        long = threads.submit(call, server, "POST", "/v1/models/many:predict", spin)
        time.sleep(0.1)
        started = time.monotonic()
        assert call(server, "GET", "/v1/models/many")[0] == 200
        assert time.monotonic() - started < 0.8
        assert not long.done()
        assert long.result()[0] == 504


@pytest.mark.rule("rest.body-size")
def test_a_large_body_is_taken(server: EmbeddedServer) -> None:
    status, body = call(server, "POST", "/v1/models/half_plus_two:predict", json.dumps({"instances": [0.5] * 500_000}))
    assert status == 200
    assert len(json.loads(body)["predictions"]) == 500_000


def test_ask_gives_a_dictionary_for_each_text(server: EmbeddedServer) -> None:
    assert ask(server.url, "many", ["a", "b"], signature_name="text") == [{"upper": "A"}, {"upper": "B"}]
    assert ask(f"127.0.0.1:{server.port}", "many", ["é"], signature_name="pictures", version=1) == [
        {"rows_bytes": [{"b64": "w6k="}, {"b64": "w6k="}], "plain": "é", "numbers_bytes": 2}
    ]
    assert ask(server.url + "/", "half_plus_two", [1, 2]) == [{"y": 2.5}, {"y": 3.0}]


def test_ask_tells_what_is_wrong(server: EmbeddedServer) -> None:
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(m\)") as raised:
        ask(server.url, "m", ["a"])
    assert raised.value.code == Code.NOT_FOUND
    with pytest.raises(ServingError, match="is not of expected type: float") as raised:
        ask(server.url, "half_plus_two", ["a"])
    assert raised.value.code == Code.INVALID_ARGUMENT
    with pytest.raises(TimeoutError, match=r"gave no answer in 0\.2 s"):
        ask(server.url, "many", [10**11], signature_name="spin", timeout_seconds=0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match="seqattn serve --model_name=dates"):
        ask(f"localhost:{port}", "dates", ["a"])


@pytest.mark.rule("change.available")
def test_a_new_version_takes_over_between_requests(tmp_path: Path) -> None:
    write_scaling_model(tmp_path / "m" / "1", 2.0)
    with EmbeddedServer({"m": tmp_path / "m"}, poll_wait_seconds=0.05) as server:
        answers: list[float] = []
        stopped = threading.Event()

        def keep_asking() -> None:
            while not stopped.is_set():
                answers.append(ask(server.url, "m", [1])[0]["y"])

        client = threading.Thread(target=keep_asking)
        client.start()
        write_scaling_model(tmp_path / "m" / ".2", 3.0).rename(tmp_path / "m" / "2")
        deadline = time.monotonic() + 20
        while 3.0 not in answers and time.monotonic() < deadline:
            time.sleep(0.02)
        stopped.set()
        client.join()
    assert sorted(set(answers)) == [2.0, 3.0]
    assert answers == sorted(answers)


def test_a_taken_port_is_said_before_anything_is_loaded(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=rf"Cannot listen on 127\.0\.0\.1, port {server.port}"):
        EmbeddedServer({"m": tmp_path}, port=server.port)


@pytest.mark.rule("start.fails")
def test_a_model_that_does_not_load_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    with pytest.raises(ServingError, match="Version 1 of model m does not load: Could not find SavedModel"):
        EmbeddedServer({"m": tmp_path / "m"}).start()


class Process:
    """`python -m keras_seqattn.serving` with its messages."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "keras_seqattn.serving", "--engine=embedded", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.messages: IO[str] = self.process.stderr
        self.printed = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        killer = threading.Timer(
            120, self.process.kill
        )  # a process that says something else would be waited for for ever
        killer.start()
        try:
            return self._find(pattern)
        finally:
            killer.cancel()

    def _find(self, pattern: str) -> re.Match[str]:
        while True:
            line = self.messages.readline()
            assert line, self.printed
            self.printed += line
            match = re.search(pattern, line)
            if match:
                return match

    def end(self) -> int:
        code = self.process.wait(90)
        self.printed += self.messages.read()
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.messages.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.rule("config.file")
def test_the_process_serves_several_models_and_ends_well_on_sigterm(models: Path, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    entries = (
        f"config {{ name: '{name}' base_path: '{models / name}' model_platform: 'tensorflow' }}"
        for name in ("half_plus_two", "many")
    )
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    port, grpc_port = free_port(), free_port()
    process = Process(f"--model_config_file={config}", f"--rest_api_port={port}", f"--port={grpc_port}",
                      "--rest_api_timeout_in_ms=20000")  # fmt: skip
    try:
        ready = process.wait_for(r"Serving half_plus_two, many at (\S+) and over gRPC (\S+)\. Try:")
        url, target = ready.groups()
        assert (url, target) == (f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}")
        assert ask(url, "half_plus_two", [1]) == [{"y": 2.5}]
        assert ask(url, "many", ["a"], signature_name="text") == [{"upper": "A"}]
        # A request that is under way when the signal comes is answered.
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            body = '{"signature_name": "spin", "instances": [200000]}'
            long = threads.submit(call, port, "POST", "/v1/models/many:predict", body)
            time.sleep(0.3)
            assert not long.done()
            process.process.send_signal(signal.SIGTERM)
            status, answer = long.result()
            assert (status, json.loads(answer)) == (200, {"predictions": [200_000]})
        assert process.end() == 0, process.printed
        assert "Stopping" in process.printed
        assert "Traceback" not in process.printed
    finally:
        process.close()


@pytest.mark.rule("start.fails")
def test_the_process_ends_with_1_when_a_model_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    process = Process(
        f"--model_base_path={tmp_path / 'm'}",
        f"--rest_api_port={free_port()}",
        f"--port={free_port()}",
        "--max_num_load_retries=0",
    )
    try:
        assert process.end() == 1
        assert "The server does not start: Version 1 of model default does not load: Could not" in process.printed
        assert "Traceback" not in process.printed
    finally:
        process.close()


@pytest.mark.rule("start.waits", "versions.none-yet")
def test_the_process_waits_for_a_version_and_can_be_interrupted(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    port = free_port()
    process = Process(f"--model_base_path={tmp_path / 'm'}", f"--rest_api_port={port}", f"--port={free_port()}")
    try:
        process.wait_for("no version in .* yet")
        with pytest.raises(ConnectionError):  # it listens only once it can answer
            ask(f"127.0.0.1:{port}", "default", ["a"])
        process.process.send_signal(signal.SIGINT)
        assert process.end() == 0
    finally:
        process.close()


@pytest.mark.slow
def test_a_profile_is_captured_as_tensorboard_captures_it(models: Path, tmp_path: Path) -> None:
    """By the client that TensorBoard's button "Capture profile" calls."""
    import tensorflow as tf

    profiler_port = free_port()
    process = Process(
        f"--model_base_path={models / 'many'}",
        "--model_name=many",
        f"--rest_api_port={free_port()}",
        f"--port={free_port()}",
        f"--profiler_port={profiler_port}",
    )
    try:
        url = process.wait_for(r"Serving many at (\S+) and").group(1)
        process.wait_for(f"TensorBoard can capture profiles at localhost:{profiler_port}")
        stop = threading.Event()

        def ask_on() -> None:
            while not stop.is_set():
                ask(url, "many", ["a"], signature_name="text")

        asking = threading.Thread(target=ask_on)
        asking.start()
        try:
            tf.profiler.experimental.client.trace(f"grpc://localhost:{profiler_port}", str(tmp_path), 1000)
        finally:
            stop.set()
            asking.join()
    finally:
        process.close()
    (trace,) = tmp_path.rglob("*.xplane.pb")
    assert b"StringUpper" in trace.read_bytes()  # the model's own op
