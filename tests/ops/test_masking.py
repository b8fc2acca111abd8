import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.ops import keep_rows, masked_softmax, widen
from tests.layers.gradients import gradients
from tests.reference.arrays import B, S, T, normal
from tests.reference.attention import softmax

MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0]], bool)


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
def test_scores_equal_the_softmax_among_what_may_be_read(rng, mask):
    logits = 5 * normal(rng, B, S)
    expected = [softmax(row, None if mask is None else mask[index]) for index, row in enumerate(logits)]
    np.testing.assert_allclose(ops.convert_to_numpy(masked_softmax(logits, mask)), expected, rtol=1e-5)


def test_a_mask_broadcasts_against_the_logits(rng):
    logits = normal(rng, B, T, S)
    expected = [[softmax(step, MASK[row]) for step in logits[row]] for row in range(B)]
    scores = ops.convert_to_numpy(masked_softmax(logits, MASK[:, None, :]))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_masked_entries_are_exactly_zero_whatever_their_logits(rng):
    logits = np.where(MASK, normal(rng, B, S), 3e38).astype("float32")
    scores = ops.convert_to_numpy(masked_softmax(logits, MASK))
    assert not scores[~MASK].any()
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-6)


def test_a_row_with_nothing_to_read_is_zero_with_a_zero_gradient(rng):
    logits, nothing = normal(rng, B, S), np.zeros((B, S), bool)
    assert not ops.convert_to_numpy(masked_softmax(logits, nothing)).any()
    (gradient,) = gradients(lambda values: ops.sum(masked_softmax(values[0], nothing)), [logits])
    assert not gradient.any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_scores_are_float32_at_least(dtype):
    scores = masked_softmax(ops.zeros((B, S), dtype=dtype), MASK)
    assert ops.dtype(scores) == "float32"


def test_float64_logits_keep_their_precision(rng):
    if keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is switched on for the whole process")
    logits = rng.normal(size=(B, S))
    scores = masked_softmax(ops.convert_to_tensor(logits, dtype="float64"), MASK)
    assert ops.dtype(scores) == "float64"
    expected = [softmax(row, MASK[index]) for index, row in enumerate(logits)]
    np.testing.assert_allclose(ops.convert_to_numpy(scores), expected, rtol=1e-14)


def test_float16_alone_is_widened():
    dtypes = {"float16": "float32", "bfloat16": "bfloat16", "float32": "float32"}
    assert {dtype: ops.dtype(widen(ops.zeros((1,), dtype=dtype))) for dtype in dtypes} == dtypes


def test_rows_are_kept_or_replaced_as_a_whole(rng):
    new, old = ({"a": normal(rng, B, S), "b": [normal(rng, B, T, S)]} for _ in range(2))
    kept = keep_rows(np.array([True, False]), new, old)
    for actual, x, y in ((kept["a"], new["a"], old["a"]), (kept["b"][0], new["b"][0], old["b"][0])):
        np.testing.assert_array_equal(ops.convert_to_numpy(actual), np.stack([x[0], y[1]]))


@pytest.mark.parametrize("mask", [None, [[True], [False]]])
def test_a_single_entry_gets_everything_or_nothing_without_a_warning(mask):
    scores = masked_softmax(ops.array([[3.0], [-70000.0]]), mask)
    assert ops.convert_to_numpy(scores).tolist() == ([[1.0], [1.0]] if mask is None else [[1.0], [0.0]])
