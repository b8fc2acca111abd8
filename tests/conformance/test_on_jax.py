import pytest

from tests.conformance.another_backend import run_the_tests_on


# A file for each backend, so that they run beside each other.
@pytest.mark.slow
@pytest.mark.tensorflow_only  # from there the others are started
def test_every_layer_keeps_every_rule_on_jax():
    run_the_tests_on("jax")
