import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.ops import linear_recurrence, linear_recurrence_in_turn
from tests.layers.gradients import gradients
from tests.reference.arrays import B, T, normal

LENGTHS = pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 9, 31])


def factors_and_terms(rng, length):
    """Among the factors some zeros, by which no closed form could divide."""
    factors = rng.random((B, T, length)) * (rng.random((B, T, length)) < 0.8)
    return factors.astype("float32"), normal(rng, B, T, length)


def solved(factors, terms):
    x = np.zeros_like(terms)
    for s in range(terms.shape[-1]):
        x[..., s] = factors[..., s] * (x[..., s - 1] if s else 0) + terms[..., s]
    return x


@LENGTHS
@pytest.mark.parametrize("form", [linear_recurrence, linear_recurrence_in_turn])
def test_each_step_is_its_factor_times_the_step_before_and_its_term(rng, length, form):
    factors, terms = factors_and_terms(rng, length)
    found = form(ops.convert_to_tensor(factors), ops.convert_to_tensor(terms))
    np.testing.assert_allclose(ops.convert_to_numpy(found), solved(factors, terms), rtol=1e-5, atol=1e-6)


def test_long_products_that_vanish_leave_what_comes_after(rng):
    factors, terms = np.full((1, 500), 0.1, "float32"), np.eye(500, dtype="float32")[[400]]
    found = ops.convert_to_numpy(linear_recurrence(ops.convert_to_tensor(factors), ops.convert_to_tensor(terms)))
    np.testing.assert_allclose(found[0, 398:403], [0, 0, 1, 0.1, 0.01], rtol=1e-5)


@pytest.mark.parametrize("length", [2, 3, 5, 8, 31])
def test_gradients_equal_those_of_one_step_after_the_other(rng, length):
    values, share = list(factors_and_terms(rng, length)), normal(rng, B, T, length)
    found, expected = (
        gradients(lambda pair, form=form: ops.sum(ops.multiply(form(*pair), share)), values)
        for form in (linear_recurrence, linear_recurrence_in_turn)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_open_number_of_steps_changes_nothing(rng, jit_compile):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None, None))] * 3, jit_compile=jit_compile)
    def value_and_gradients(factors, terms, share):
        with tf.GradientTape() as tape:
            tape.watch([factors, terms])
            x = linear_recurrence(factors, terms)
            loss = tf.reduce_sum(x * share)
        return x, tape.gradient(loss, [factors, terms])

    for length in (2, 6):
        factors, terms = factors_and_terms(rng, length)
        share = normal(rng, B, T, length)
        x, found = value_and_gradients(factors, terms, share)
        np.testing.assert_allclose(x, solved(factors, terms), rtol=1e-5, atol=1e-6)
        expected = gradients(lambda pair: ops.sum(ops.multiply(linear_recurrence(*pair), share)), [factors, terms])  # noqa: B023
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_dtype_is_kept(rng):
    for dtype in ("float16", "bfloat16", "float32"):
        factors, terms = (ops.cast(x, dtype) for x in factors_and_terms(rng, 5))
        assert keras.backend.standardize_dtype(linear_recurrence(factors, terms).dtype) == dtype
