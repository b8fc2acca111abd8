"""The same tests on JAX and PyTorch, each in a process of its own, as Keras chooses its backend once."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# All of them run by hand, with `KERAS_BACKEND=jax pytest tests/decoding tests/models`. Here at least one of each kind,
# as JAX compiles every loop anew: words of names, all of which must be in the name of a test.
CHOSEN = [
    "test_greedy",
    "jax_jit",
    "half_precision_states",
    "exhaustive 6-1.0",
    "beam_of_one 0.6",
    "never_stops_early 2.0-3",
    "finished 13-3",
    "attention_follows",
    "states_follow",
    "coverage_it_finds 3-1.0-0.2",
    "greedy_takes_the_likeliest_token_that bigrams",
    "beam_with_prefixes",
    "prompt_may_be_padded right",
    "integer_seed",
    "consecutive_calls",
    "kept_tokens 4-0.8-0.5",
    "step_by_step sampling-constrained",
    "step_by_step beam-constrained",
    "forbidden 6--1000000000.0",
    "papers lstm-general",
    "aligning Beam-elman-dot",
    "empty_source gru-bahdanau",
    "mixed_precision mixed_bfloat16",
    "comes_back_and_trains_on elman",
    "every_weight float32",
    "test_losses",
]


@pytest.mark.slow
@pytest.mark.tensorflow_only  # run on another backend, the whole test run is this test
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_decoding_models_and_losses_hold_on_other_backends(backend):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    chosen = " or ".join(f"({' and '.join(words.split())})" for words in CHOSEN)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-k", chosen]
    own = ("PYTEST_", "OMP_NUM_THREADS")  # what belongs to this run, not to the one it starts
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    # JAX: small programs, better compiled soon than well.
    environment.update(KERAS_BACKEND=backend, XLA_FLAGS="--xla_backend_optimization_level=0")
    folders = ["tests/decoding", "tests/models", "tests/test_losses.py"]
    run = subprocess.run([*command, *folders], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    passed = int(run.stdout.rsplit(" passed", 1)[0].split()[-1])
    assert passed >= len(CHOSEN), run.stdout[-2000:]
