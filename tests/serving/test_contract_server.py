"""Rules of docs/serving-contract.md about the whole server, its flags and its files, that have no better place."""

import dataclasses
import logging
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from keras_seqattn.serving import EmbeddedServer, ModelConfig, ModelRepository, ServerFlags, ServingError, parse_flags
from keras_seqattn.serving.grpc.server import GrpcServer
from keras_seqattn.serving.models.session_config import session_config
from keras_seqattn.serving.monitoring.config import DEFAULT_PATH
from keras_seqattn.serving.server import DEFAULT_REST_PORT, _configs, _follow_config_file, _server, start_profiler
from tests.serving.conftest import write_scaling_model
from tests.serving.test_grpc import Client
from tests.serving.test_repository import Shop


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def text_of(*configs: ModelConfig) -> str:
    entries = (
        f"config {{ name: '{config.name}' base_path: '{config.base_path}' model_platform: 'tensorflow' }}"
        for config in configs
    )
    return f"model_config_list {{ {' '.join(entries)} }}"


@pytest.mark.rule("flags.grpc-port", "flags.rest-port", "flags.addresses", "flags.one-model")
def test_the_defaults_of_addresses() -> None:
    flags = parse_flags(["--model_base_path=/m"])
    assert (flags.port, flags.rest_api_port, DEFAULT_REST_PORT) == (8500, None, 8501)
    assert (flags.host, flags.grpc_socket_path, flags.ssl_config_file) == ("127.0.0.1", "", "")
    assert _configs(flags) == (ModelConfig("default", "/m"),)
    assert parse_flags(["--model_base_path=/m", "--port=0", "--grpc_socket_path=/s"]).port == 0


@pytest.mark.rule("flags.config-file-wins")
def test_with_a_config_file_name_and_base_path_are_ignored(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(text_of(ModelConfig("a", "/a"), ModelConfig("b", "/b")))
    flags = parse_flags([f"--model_config_file={file}", "--model_name=c", "--model_base_path=/c"])
    assert _configs(flags) == (ModelConfig("a", "/a"), ModelConfig("b", "/b"))


@pytest.mark.slow
@pytest.mark.rule("flags.rest-port", "grpc.services", "start.waits")
def test_rest_can_be_off(tmp_path: Path) -> None:
    write_scaling_model(tmp_path / "1", 3.0)
    flags = parse_flags([f"--model_base_path={tmp_path}", "--rest_api_port=0", f"--port={free_port()}"])
    server = _server(flags, _configs(flags), 0)
    with pytest.raises(ValueError, match="no HTTP port"):
        _ = server.port
    with server, grpc.insecure_channel(server.grpc_target) as channel:
        client = Client(channel)
        assert client.predict("default", x=np.float32([2]))["y"].tolist() == [6]
        status = client.models.GetModelStatus(client.GetModelStatusRequest(model_spec={"name": "default"}))
        assert [one.version for one in status.model_version_status] == [1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="where 127.0.0.2 is an address without being set up")
@pytest.mark.rule("flags.addresses")
def test_it_listens_on_this_machine_alone_and_on_others_when_told(tmp_path: Path) -> None:
    for host, address in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2")):
        with EmbeddedServer([], host=host, grpc_port=0) as server:
            grpc_port = int(server.grpc_target.rpartition(":")[2])
            for port in (server.port, grpc_port):
                socket.create_connection((address, port), timeout=20).close()
                if host == "127.0.0.1":
                    with pytest.raises(ConnectionRefusedError):
                        socket.create_connection(("127.0.0.2", port), timeout=20)


@pytest.mark.slow
@pytest.mark.rule("monitoring.off", "monitoring.page", "monitoring.core")
def test_the_page_of_metrics_is_there_when_it_is_asked_for() -> None:
    with (
        EmbeddedServer([]) as server,
        pytest.raises(urllib.error.HTTPError, match="404"),
        urllib.request.urlopen(server.url + DEFAULT_PATH, timeout=20),
    ):
        pass
    with (
        EmbeddedServer([], metrics_path="/metrics") as server,
        urllib.request.urlopen(server.url + "/metrics", timeout=20) as response,
    ):
        assert response.headers["Content-Type"].startswith("text/plain")
        text = response.read().decode()
    assert "# TYPE :tensorflow:serving:request_count counter\n" in text
    assert ":tensorflow:core:" not in text


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.rule("config.followed", "config.unparsable-later", "config.platform", "labels.available-versions")
def test_the_config_file_is_followed_and_a_bad_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = Shop(tmp_path / "old"), Shop(tmp_path / "new")
    old.add("1")
    new.add("2")
    old_config, new_config = ModelConfig("old", str(old.folder)), ModelConfig("new", str(new.folder))
    file = tmp_path / "models.config"
    file.write_text(text_of(old_config))
    flags = dataclasses.replace(
        ServerFlags(model_config_file=str(file)),
        model_config_file_poll_wait_seconds=0.05,  # type: ignore[arg-type]
    )
    repository, stopping = ModelRepository(_configs(flags), old.load), threading.Event()
    repository.poll()
    try:
        with caplog.at_level(logging.ERROR):
            _follow_config_file(flags, repository, stopping)
            for text, message in (
                ("model_config_list {", "Error parsing text-format tensorflow.serving.ModelServerConfig"),
                (text_of(new_config, new_config), "Illegal to list model new multiple times"),
                (text_of(ModelConfig("new", "relative")), "Expected model new to have an absolute path or URI"),
                (text_of(new_config).replace("tensorflow", "other"), "unsupported platform other"),
                (
                    text_of(new_config).replace(" }", " version_labels { key: 'a' value: 2 } }", 1),
                    "Request to assign label to version 2 of model new, which is not currently available",
                ),
            ):
                file.write_text(text)
                until(lambda: message in caplog.text)  # noqa: B023
                assert repository.names() == ["old"]
            file.unlink()
            until(lambda: "Cannot read the model config file" in caplog.text)
            assert repository.names() == ["old"]
        file.write_text(text_of(new_config))
        until(lambda: repository.names() == ["new"])
        until(lambda: [status.state for status in repository.statuses("old")] == ["END"])
        with repository.lease("new") as lease:
            assert lease.version == 2
    finally:
        stopping.set()
        repository.close()


@pytest.mark.rule("config.unparsable-at-the-start")
def test_a_config_file_that_does_not_parse_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text("model_config_list {")
    flags = parse_flags([f"--model_config_file={file}"])
    with pytest.raises(ServingError, match=r"Error parsing text-format tensorflow\.serving\.ModelServerConfig"):
        _configs(flags)


@pytest.mark.rule("flags.gpu-memory")
def test_a_share_of_the_memory_of_gpus_is_asked_for() -> None:
    flags = parse_flags(["--model_base_path=/m", "--per_process_gpu_memory_fraction=0.25"])
    config = session_config(per_process_gpu_memory_fraction=flags.per_process_gpu_memory_fraction)
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.25
    assert parse_flags(["--model_base_path=/m"]).per_process_gpu_memory_fraction == 0


@pytest.mark.rule("grpc.profiler")
def test_the_profiler_has_a_port_of_its_own_and_is_off(repository: ModelRepository) -> None:
    assert parse_flags(["--model_base_path=/m"]).profiler_port == 0
    server = GrpcServer(repository)
    server.start()
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/tensorflow.ProfilerService/Profile")(b"", timeout=20)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
    server.stop(0)
    port = free_port()
    start_profiler(port)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/tensorflow.ProfilerService/None")(b"", timeout=20)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
