"""The access log: a line of JSON for each request, and no request that waits for it."""

import io
import json
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.monitoring.access_log import AccessLog
from keras_seqattn.serving.monitoring.record import RequestRecord


def record(model: str = "m", code: Code = Code.OK, entrypoint: str = "REST") -> RequestRecord:
    return RequestRecord(
        entrypoint, "Predict", model, code, 0.0012345, 3, "serving_default", 2, "127.0.0.1:40404", 17, 23
    )


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_tells_all_of_a_request(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with AccessLog(tmp_path / "access.jsonl") as log:
        log.on_request(record())
        log.on_request(record(code=Code.INVALID_ARGUMENT))
        log.on_request(record(code=Code.INVALID_ARGUMENT, entrypoint="GRPC"))
        log.on_request(RequestRecord("REST", "", "", Code.NOT_FOUND, 0.0))
    first, *others = lines((tmp_path / "access.jsonl").read_text())
    told = first.pop("time")
    assert first == {
        "entrypoint": "REST", "api": "Predict", "model": "m", "version": 3, "signature": "serving_default",
        "code": "OK", "status": 200, "latency_ms": 1.234, "bytes_in": 17, "bytes_out": 23, "num_examples": 2,
        "peer": "127.0.0.1:40404",
    }  # fmt: skip
    assert len(told) == len("2026-01-02T03:04:05.678Z")
    assert told.endswith("Z")
    age = (datetime.fromisoformat(told.replace("Z", "+00:00")) - before).total_seconds()
    assert -0.001 <= age < 10
    assert [(one["code"], one["status"]) for one in others] == [
        ("INVALID_ARGUMENT", 400), ("INVALID_ARGUMENT", 3), ("NOT_FOUND", 404),
    ]  # fmt: skip
    assert others[2]["version"] is others[2]["num_examples"] is others[2]["peer"] is None


def test_names_cannot_break_lines() -> None:
    stream = io.StringIO()
    with AccessLog(stream) as log:
        for name in ('a\n{"code": "OK"}\r\u2028', "é", "\udcff"):
            log.on_request(record(name))
    written = stream.getvalue()
    assert written.count("\n") == 3
    assert [json.loads(line)["model"] for line in written.split("\n")[:-1]] == [
        'a\n{"code": "OK"}\r\u2028', "é", "?",
    ]  # fmt: skip


def test_lines_are_added_to_a_file(tmp_path: Path) -> None:
    for _ in range(2):
        with AccessLog(tmp_path / "access.jsonl") as log:
            log.on_request(record())
    assert len(lines((tmp_path / "access.jsonl").read_text())) == 2


def test_many_threads_write_whole_lines() -> None:
    stream = io.StringIO()
    with AccessLog(stream, max_waiting_lines=100_000) as log:

        def ask(name: str) -> None:
            for _ in range(500):
                log.on_request(record(name))

        threads = [threading.Thread(target=ask, args=(str(number),)) for number in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [line["model"] for line in lines(stream.getvalue())]
    assert sorted(found) == sorted(str(number) for number in range(7) for _ in range(500))
    assert log.num_lost == 0


class SlowStream(io.StringIO):
    """Writes only while it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Event()

    def write(self, text: str) -> int:
        self.may_write.wait(20)
        return super().write(text)


def test_a_slow_disk_loses_lines_and_says_so_and_slows_no_request(caplog: pytest.LogCaptureFixture) -> None:
    stream, one = SlowStream(), record()
    with caplog.at_level(logging.WARNING), AccessLog(stream, max_waiting_lines=10) as log:
        log.on_request(one)
        time.sleep(0.05)  # the writer has it, and waits
        started = time.perf_counter()
        for _ in range(1000):
            log.on_request(one)
        assert (time.perf_counter() - started) / 1000 < 50e-6
        assert log.num_lost == 990
        stream.may_write.set()
    told = lines(stream.getvalue())
    assert [line["lost_lines"] for line in told if "lost_lines" in line] == [990]
    assert sum("model" in line for line in told) == 11
    assert "The access log lost 990 lines." in caplog.text


class FullDisk(io.StringIO):
    """Fails until there is room."""

    has_room = False

    def write(self, text: str) -> int:
        if not self.has_room:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_full_disk_is_said_once_and_the_log_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    stream = FullDisk()
    with caplog.at_level(logging.WARNING), AccessLog(stream) as log:
        for number in range(3):
            log.on_request(record())
            while log.num_lost <= number:
                time.sleep(0.001)
        stream.has_room = True
        log.on_request(record())
    assert caplog.text.count("No space left on device") == 1
    first, second = lines(stream.getvalue())
    assert first["model"] == "m"
    assert second["lost_lines"] == 3


def test_a_closed_log_takes_no_more() -> None:
    stream = io.StringIO()
    log = AccessLog(stream)
    log.close()
    log.close()
    log.on_request(record())
    assert stream.getvalue() == ""
    assert log.num_lost == 1
