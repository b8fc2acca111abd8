"""The blocks of README.md and docs/ are run: Python as it stands, commands with a training cut short."""

import re
import shlex
import sys

import pytest

from tests.pages import ROOT, blocks, commands, run_python

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What makes the trainings of the page short enough for a test; everything else runs as it is printed.
SHORT = ["--epochs=1", "--units=8", "--embedding-dim=8", "--xla=off"]
SHORT_DATES = ["--num-train=600", "--num-validation=40", "--num-test=60"]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run_in_their_order(page):
    run_python(page)


def test_make_targets_of_the_pages_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = {line.split()[1] for page in PAGES for line in commands(page) if line.startswith("make ")}
    assert used and used <= targets


@pytest.mark.slow
def test_commands_of_the_readme_run_in_their_order(tmp_path, monkeypatch, capfd):
    """Train, evaluate, export, serve, ask and curl, as the README prints them, on a training of seconds."""
    import subprocess
    import threading

    from keras_seqattn.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "pairs.tsv").write_text("".join(f"word {n}\tpalabra {n}\n" for n in range(400)), encoding="utf-8")
    server, ran, port = None, [], free_port()
    try:
        for line in commands(ROOT / "README.md"):
            words = [word.replace("$PWD", str(tmp_path)) for word in shlex.split(line, comments=True)]
            if words[0] == "make":
                continue
            if words[:2] == ["seqattn", "train"] and words[2] != "RECIPE":
                extra = SHORT_DATES if words[2] == "dates" else ["--vocabulary-size=300"]
                assert main([*words[1:], *SHORT, *extra]) == 0, line
            elif words[:2] == ["seqattn", "serve"]:
                server = subprocess.Popen(
                    [
                        sys.executable,
                        str(ROOT / "seqattn.py"),
                        *words[1:],
                        f"--rest_api_port={port}",
                        f"--port={free_port()}",
                    ]
                )
                wait_for_port(port, server)
            elif words[:2] == ["seqattn", "ask"]:
                assert main([*words[1:], f"--url=http://localhost:{port}"]) == 0, line
            elif words[0] == "seqattn":
                assert main(words[1:]) == 0, line
            else:
                assert words[0] == "curl"
                body, url = words[words.index("-d") + 1], words[-1]
                assert '"predictions"' in post(url.replace("8501", str(port)), body)
            ran.append(" ".join(words[:2]))
    finally:
        if server is not None:
            server.terminate()
            killer = threading.Timer(30, server.kill)
            killer.start()
            server.wait()
            killer.cancel()
    assert {"seqattn train", "seqattn evaluate", "seqattn export", "seqattn serve", "seqattn ask"} <= set(ran)
    assert "exact_match" in capfd.readouterr().out


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process):
    import socket
    import time

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"nothing listens on {port}")


def post(url, body):
    import httpx

    return httpx.post(url, content=body.encode("utf-8"), timeout=60, trust_env=False).raise_for_status().text
