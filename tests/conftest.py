"""What every test may ask for, and which backend the session runs on (KERAS_BACKEND, TensorFlow by default)."""

import os

# Before any test module imports keras: quiet logs, and the processor alone.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["KERAS_BACKEND"] == "torch":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads cost twice what they save

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
    if os.environ["KERAS_BACKEND"] == "jax":
        # JAX compiles each operation on its own: kept on disk, the tests take a third of the time.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_collection_modifyitems(items):
    backend = os.environ["KERAS_BACKEND"]
    if backend != "tensorflow":
        for item in items:
            if item.get_closest_marker("tensorflow_only"):
                item.add_marker(pytest.mark.skip(reason=f"TensorFlow alone can do this; the backend is {backend}"))


@pytest.fixture
def rng():
    """NumPy's random numbers, the same in each test."""
    return np.random.default_rng(0)
