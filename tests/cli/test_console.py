"""The command as a user starts it: a process of its own, without TensorFlow's notes and without a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow_only]

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).parent / "seqattn"
QUIET = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "CUDA_VISIBLE_DEVICES")  # a user has set none of them


def run(command, *arguments, folder):
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.skipif(not SCRIPT.exists(), reason="the package is not installed, so there is no script")
def test_the_console_script_prints_its_figures_and_nothing_else(dates_run, tmp_path):
    done = run([str(SCRIPT)], "evaluate", str(dates_run), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    metrics = json.loads((dates_run / "metrics.json").read_text())
    printed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert printed == {name: str(metrics[name]) for name in printed}
    assert printed["test_pairs"] == "44"


def test_the_module_exports_and_prints_the_folder_and_nothing_else(dates_run, tmp_path):
    done = run([sys.executable, "-m", "seqattn"], "export", str(dates_run), folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "saved_models/dates/1\n", "")
    assert (tmp_path / "saved_models" / "dates" / "1" / "saved_model.pb").is_file()


def test_an_error_is_one_line_and_status_one(tmp_path):
    (tmp_path / "pairs.tsv").write_bytes(b"a\tb\na\tb\tc\n")
    done = run([sys.executable, "-m", "seqattn"], "train", "translate", "--data", "pairs.tsv", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "seqattn: A line must be source, TAB, target: 2 columns. Received: pairs.tsv, line 2 with 3: 'a\\tb\\tc'.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.tsv"]
