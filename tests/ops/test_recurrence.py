import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.ops import scan, scan_unrolled
from tests.layers.gradients import gradients
from tests.reference.arrays import B, D, T, normal


def step(states, inputs):
    """A leaky sum, and a count of the steps beside it."""
    total = 0.5 * states["total"] + inputs["x"] * inputs["scale"]
    return {"total": total, "count": states["count"] + 1}, {"total": total, "pair": (total * total, states["count"])}


def arguments(rng):
    states = {"total": ops.convert_to_tensor(normal(rng, B, D)), "count": ops.zeros((), "int32")}
    inputs = {"x": ops.convert_to_tensor(normal(rng, T, B, D)), "scale": ops.convert_to_tensor(normal(rng, T))}
    return states, inputs


def assert_equal_structures(actual, expected):
    keras.tree.assert_same_structure(actual, expected)
    for a, b in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), rtol=1e-6)


def test_a_scan_equals_the_loop_that_it_replaces(rng):
    states, inputs = arguments(rng)
    assert_equal_structures(scan(step, states, inputs, T), scan_unrolled(step, states, inputs, T))


def test_a_scan_whose_steps_give_nothing_out_carries_its_states(rng):
    states, inputs = arguments(rng)
    last, outputs = scan(lambda s, x: (step(s, x)[0], {}), states, inputs, T)
    assert outputs == {}
    assert_equal_structures(last, scan_unrolled(step, states, inputs, T)[0])


def test_gradients_of_a_scan_equal_those_of_the_loop(rng):
    states, inputs = arguments(rng)

    def loss(run):
        def total(values):
            last, outputs = run(step, {**states, "total": values[0]}, {**inputs, "x": values[1]}, T)
            return ops.sum(last["total"]) + ops.sum(outputs["pair"][0])

        return total

    values = [ops.convert_to_numpy(states["total"]), ops.convert_to_numpy(inputs["x"])]
    for a, b in zip(gradients(loss(scan), values), gradients(loss(scan_unrolled), values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_scan_compiles(rng, jit_compile):
    import tensorflow as tf

    states, inputs = arguments(rng)
    compiled = tf.function(lambda states, inputs: scan(step, states, inputs, T), jit_compile=jit_compile)
    assert_equal_structures(compiled(states, inputs), scan_unrolled(step, states, inputs, T))


@pytest.mark.tensorflow_only
def test_a_scan_runs_over_as_many_steps_as_the_inputs_turn_out_to_have(rng):
    import tensorflow as tf

    states, inputs = arguments(rng)

    @tf.function(input_signature=[{"x": tf.TensorSpec((None, B, D)), "scale": tf.TensorSpec((None,))}])
    def compiled(inputs):
        return scan(step, states, inputs, ops.shape(inputs["x"])[0])

    for length in (1, T):
        part = {name: x[:length] for name, x in inputs.items()}
        assert_equal_structures(compiled(part), scan_unrolled(step, states, part, length))
