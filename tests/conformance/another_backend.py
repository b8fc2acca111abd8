"""The layers on another backend: the same list, in a process of its own, as Keras chooses its backend once."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ("tests/conformance",)


def run_the_tests_on(backend):
    """Runs the conformance list on a backend; it must pass. `make test-backends` runs what tests layers and ops."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    own = ("PYTEST_", "OMP_NUM_THREADS")  # what belongs to this run, not to the one it starts
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *TESTS, "-q", "-p", "no:cacheprovider"],
        env={**environment, "KERAS_BACKEND": backend},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    summary = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, done.stdout[-20_000:]
    assert " passed" in "".join(summary), summary
