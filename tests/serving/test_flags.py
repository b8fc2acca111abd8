"""tensorflow_model_server's flags."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from keras_seqattn.serving import parse_flags, serve
from keras_seqattn.serving.real_server import IMAGE, arguments_for_binary


@pytest.mark.rule("flags.one-model", "flags.poll-intervals", "flags.rest-defaults", "flags.load-defaults")
def test_defaults_are_those_of_tensorflow_serving() -> None:
    flags = parse_flags(["--model_base_path=/m"])
    assert (flags.model_name, flags.file_system_poll_wait_seconds, flags.model_config_file_poll_wait_seconds) == (
        "default", 1, 0,
    )  # fmt: skip
    assert (flags.rest_api_port, flags.rest_api_timeout_in_ms, flags.rest_api_enable_cors_support) == (
        None,
        30000,
        False,
    )
    assert (flags.max_num_load_retries, flags.load_retry_interval_micros, flags.saved_model_tags) == (
        5, 60_000_000, "serve",
    )  # fmt: skip
    assert flags.enable_model_warmup
    assert (flags.engine, flags.not_supported) == ("auto", ())


def test_values_follow_an_equals_sign_or_a_space_and_booleans_may_stand_alone() -> None:
    flags = parse_flags(
        [
            "--model_base_path",
            "/m",
            "--rest_api_port=0",
            "--enable_model_warmup=false",
            "--rest_api_enable_cors_support",
        ]
    )
    assert (flags.model_base_path, flags.rest_api_port) == ("/m", 0)
    assert not flags.enable_model_warmup
    assert flags.rest_api_enable_cors_support


@pytest.mark.rule("flags.tensorflow-alone")
def test_flags_that_are_not_supported_yet_are_reported() -> None:
    flags = parse_flags(["--model_base_path=/m", "--port=1", "--mixed_precision=bfloat16", "--num_load_threads", "3"])
    assert set(flags.not_supported) == {"mixed_precision", "num_load_threads"}


@pytest.mark.rule("flags.unknown", "flags.version")
def test_an_unknown_flag_is_complained_of_and_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = parse_flags(["--model_base_path=/m", "--modle_name=x", "--version"])
    assert flags.unknown == ("--modle_name=x",)
    monkeypatch.setenv("PATH", "")
    assert serve(flags) == 0
    printed = capsys.readouterr().err
    assert "Unknown arguments: --modle_name=x. Known flags: " in printed


def test_our_own_flags_stay_here() -> None:
    arguments = [
        "--host",
        "0.0.0.0",
        "--access_log=-",
        "--enable_playground",
        "false",
        "--model_base_path=/m",
        "--port=3",
    ]
    flags = parse_flags(arguments)
    assert (flags.host, flags.access_log, flags.enable_playground) == ("0.0.0.0", "-", False)
    assert arguments_for_binary(flags, 8501) == ["--port=3", "--model_base_path=/m", "--rest_api_port=8501"]


@pytest.mark.rule(
    "flags.grpc-port", "flags.rest-port", "flags.batching-parameters-need-batching", "flags.session-threads"
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batching_parameters_file=/b"], "--batching_parameters_file is set without --enable_batching"),
        (["--port=0"], "--port=0 needs --grpc_socket_path"),
        (["--port=7", "--rest_api_port=7"], "--port and --rest_api_port must differ. Received: 7 for both"),
        (
            ["--tensorflow_session_parallelism=2", "--tensorflow_intra_op_parallelism=1"],
            "--tensorflow_session_parallelism goes without --tensorflow_intra_op_parallelism",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        parse_flags(["--model_base_path=/m", *arguments])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.rule("flags.container")
def test_the_command_of_the_container_serves_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    config = tmp_path / "my models.config"
    entry = "config { name: 'm' base_path: '/data/m' model_platform: 'tensorflow' }"
    config.write_text(f"model_config_list {{ {entry} }}")
    assert (
        serve(parse_flags(["--engine=tensorflow-serving", f"--model_config_file={config}", "--enable_batching"])) == 1
    )
    printed = capsys.readouterr()
    assert "not on the PATH" in printed.err
    words = shlex.split(printed.out)
    assert words[:2] == ["docker", "run"]
    assert f"--mount=type=bind,source={config},target={config},readonly" in words
    assert "--mount=type=bind,source=/data/m,target=/data/m,readonly" in words
    assert {"--publish=127.0.0.1:8500:8500", "--publish=127.0.0.1:8501:8501"} <= set(words)
    assert words[words.index(IMAGE) - 1] == "--entrypoint=tensorflow_model_server"
    assert words[words.index(IMAGE) + 1 :] == [
        "--enable_batching", f"--model_config_file={config}", "--rest_api_port=8501"
    ]  # fmt: skip


@pytest.mark.rule("flags.something-to-serve")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_base_path=/m", "--rest_api_port=x"], "expected a whole number, at least 0. Received: 'x'."),
        (["--model_base_path=/m", "--enable_model_warmup=maybe"], "expected true or false. Received: 'maybe'."),
        (["--model_base_path=/m", "--engine=none"], "invalid choice: 'none'"),
        (["--model_name=x"], "either --model_base_path or --model_config_file is needed"),
    ],
)
def test_wrong_flags_end_with_2_and_the_known_ones(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        parse_flags(arguments)
    assert raised.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "--model_base_path" in printed
    assert "--enable_batching" in printed


def test_the_real_server_gets_the_same_flags() -> None:
    flags = parse_flags(["--engine=auto", "--model_base_path", "m", "--model_name", "x", "--enable_batching"])
    assert arguments_for_binary(flags, 8501) == [
        "--model_name=x",
        "--enable_batching",
        f"--model_base_path={Path.cwd() / 'm'}",
        "--rest_api_port=8501",
    ]
    assert arguments_for_binary(parse_flags(["--version", "--engine", "auto"]), 8501) == ["--version"]
    flags = parse_flags(["--model_config_file=/c", "--rest_api_port=1"])
    assert arguments_for_binary(flags, 8501) == ["--rest_api_port=1", "--model_config_file=/c"]


def test_the_real_server_is_taken_when_it_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    taken = []

    def execv(path: str, arguments: list[str]) -> None:
        taken.append((path, arguments))
        raise InterruptedError

    monkeypatch.setattr("os.execv", execv)
    with pytest.raises(InterruptedError):
        serve(parse_flags(["--model_base_path=/m", "--rest_api_port=7"]))
    assert taken == [(str(binary), [str(binary), "--rest_api_port=7", "--model_base_path=/m"])]
    assert capsys.readouterr().err.startswith(f"Engine: {binary} (the real TensorFlow Serving)")


@pytest.mark.rule("flags.version", "flags.tensorflow-alone", "start.fails")
def test_the_engine_and_what_is_left_out_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert serve(parse_flags(["--version"])) == 0
    assert "keras_seqattn embedded model server: " in capsys.readouterr().err
    (tmp_path / "1").mkdir()
    flags = [f"--model_base_path={tmp_path}", "--rest_api_port=0", "--port=1", "--mixed_precision=bfloat16"]
    assert serve(parse_flags([*flags, "--max_num_load_retries=0"])) == 1
    printed = capsys.readouterr().err
    assert "Engine: the embedded server (tensorflow_model_server is not on the PATH)." in printed
    assert "--mixed_precision: not supported by the embedded server, ignored." in printed
    assert "The server does not start: Version 1 of model default does not load" in printed


def test_importing_the_package_is_light() -> None:
    code = """
import sys, types
package = types.ModuleType("keras_seqattn"); package.__path__ = [sys.argv[1]]
sys.modules["keras_seqattn"] = package  # what the library itself imports is not the question
import importlib.util
spec = importlib.util.spec_from_file_location("keras_seqattn.serving", sys.argv[2] + "/__init__.py",
                                              submodule_search_locations=[sys.argv[2]])
serving = importlib.util.module_from_spec(spec); sys.modules[spec.name] = serving; spec.loader.exec_module(serving)
for name in serving.__all__:
    getattr(serving, name)
    assert callable(getattr(serving, name)), name
heavy = {"tensorflow", "grpc", "starlette", "uvicorn", "keras", "httpx"} & set(sys.modules)
assert not heavy, heavy
"""
    import keras_seqattn.serving

    folder = str(Path(keras_seqattn.serving.__file__).parent)
    subprocess.run([sys.executable, "-c", code, folder, folder], check=True)


def test_public_names_are_sorted_and_there() -> None:
    import keras_seqattn.serving as serving

    assert sorted(serving.__all__) == serving.__all__
    assert set(serving.__all__) == set(serving._ROOMS)
    assert all(hasattr(serving, name) for name in serving.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = serving.nothing


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_seqattn.serving.client.ask import ask

    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(
        ImportError, match=r"Serving needs the package 'httpx'.* pip install 'keras_seqattn\[serving\]'"
    ):
        ask("localhost", "m", ["a"])
