"""Decoding inside a graph: with a dynamic batch, under XLA, under jax.jit."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.decoding import (
    Beam,
    Greedy,
    MinLength,
    NoRepeatNgrams,
    Prefix,
    RepetitionPenalty,
    Sampling,
    SuppressTokens,
)
from tests.decoding.languages import Language, arrays

B, V, T, S = 7, 5, 4, 3
ALL = [MinLength(2), RepetitionPenalty(1.2), NoRepeatNgrams(2), SuppressTokens([4])]
DECODER = pytest.mark.parametrize(
    "decoder",
    [
        Greedy(),
        Beam(3, length_penalty=0.6),
        Beam(11, num_return=2),  # wider than the vocabulary
        Beam(3, coverage_penalty=0.3),
        Sampling(temperature=1e-6, top_k=4, top_p=0.9, seed=1),  # greedy, but by way of the noise
        Greedy([Prefix([3, 0], [True, False]), *ALL]),
        Beam(3, num_return=2, constraints=[Prefix([3]), *ALL]),
    ],
    ids=["greedy", "beam", "wide beam", "coverage", "sampling", "greedy constrained", "beam constrained"],
)


@pytest.fixture
def language(rng):
    return Language(rng, B, V, T, S)


def assert_equal(found, expected):
    for one, other in zip(arrays(found), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow_only
@DECODER
def test_a_graph_with_a_dynamic_batch_decodes_any_number_of_rows(language, decoder):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), "int32"), tf.TensorSpec((None,), "int32")])
    def decode(start_ids, rows):
        state = {"row": rows, "node": tf.zeros_like(rows)}
        return decoder(language.step, state, start_ids, T, language.end_id)

    expected = language.decode(decoder)
    for rows in (B, 3, 1):
        assert_equal(decode(language.start_ids[:rows], np.arange(rows)), [x[:rows] for x in expected])
    assert decode(language.start_ids[:0], np.arange(0)).ids.shape == (0, *expected.ids.shape[1:])


@pytest.mark.tensorflow_only
@DECODER
def test_a_graph_keeps_every_static_shape_that_it_knows(language, decoder):
    import tensorflow as tf

    @tf.function
    def decode(start_ids, rows):
        found = decoder(language.step, {"row": rows, "node": tf.zeros_like(rows)}, start_ids, T, language.end_id)
        shapes.append([tuple(x.shape) for x in found])
        return found

    shapes, beams = [], () if getattr(decoder, "num_return", None) is None else (decoder.num_return,)
    decode.get_concrete_function(tf.TensorSpec((B,), "int32"), tf.TensorSpec((B,), "int32"))
    assert shapes == [[(B, *beams, T), (B, *beams), (B, *beams), (B, *beams, T, S)]]


@pytest.mark.tensorflow_only
@DECODER
def test_xla_decodes_the_same_from_static_shapes(language, decoder):
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def decode(start_ids):
        return decoder(language.step, language.state(), start_ids, T, language.end_id)

    assert_equal(decode(tf.constant(language.start_ids)), language.decode(decoder))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="jax.jit compiles for JAX alone")
@DECODER
def test_jax_jit_decodes_the_same(language, decoder):
    import jax

    @jax.jit
    def decode(start_ids):
        return tuple(decoder(language.step, language.state(), start_ids, T, language.end_id))

    assert_equal(type(language.decode(decoder))(*decode(language.start_ids)), language.decode(decoder))


@DECODER
def test_half_precision_states_and_attention_keep_their_type(language, decoder):
    def step(ids, state, time):
        logits, inner, attention = language.step(ids, state["language"], time)
        state = {"language": inner, "half": state["half"] + ops.cast(1, "bfloat16")}
        return ops.cast(logits, "bfloat16"), state, ops.cast(attention, "bfloat16")

    state = {"language": language.state(), "half": ops.zeros((B, 2), "bfloat16")}
    found = decoder(step, state, language.start_ids, T, language.end_id)
    assert keras.backend.standardize_dtype(found.attention.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(found.scores.dtype) == "float32"
