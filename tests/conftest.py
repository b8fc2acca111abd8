"""What every test may ask for, and which backend the session runs on (KERAS_BACKEND, TensorFlow by default)."""

import os
from pathlib import Path

# Before anything imports keras: quiet logs, and the processor alone.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["KERAS_BACKEND"] == "torch":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads cost twice what they save
if os.environ["KERAS_BACKEND"] == "jax":
    # JAX compiles each operation and each loop by itself: kept on disk, alike ones are compiled once.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import numpy as np
import pytest

THIRD_PARTY_WARNINGS = [
    # TensorFlow 2.21's variables do not know the `copy` argument of NumPy 2; Keras turns them into arrays to save them.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
]


def pytest_configure(config):
    config.addinivalue_line("markers", "tensorflow_only: what TensorFlow alone can do; skipped on other backends")
    for warning in THIRD_PARTY_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)


def pytest_collection_modifyitems(items):
    backend = os.environ["KERAS_BACKEND"]
    if backend != "tensorflow":
        for item in items:
            if item.get_closest_marker("tensorflow_only"):
                item.add_marker(pytest.mark.skip(reason=f"TensorFlow alone can do this; the backend is {backend}"))


@pytest.fixture(scope="module", autouse=True)
def forget_what_jax_compiled():
    """JAX keeps each compiled function in memory for good: gigabytes, over all tests."""
    yield
    if os.environ["KERAS_BACKEND"] == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture
def rng():
    """NumPy's random numbers, the same in each test."""
    return np.random.default_rng(0)
