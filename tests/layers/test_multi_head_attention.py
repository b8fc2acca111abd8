import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import MultiHeadAttention
from keras_seqattn.ops import alibi_slopes, relative_buckets
from tests.layers.gradients import layer_gradients
from tests.layers.paper_weights import numpy
from tests.reference import multi_head_attention as reference
from tests.reference.arrays import B, D, S, T, normal

H, N, K, V, D_VALUE, D_KEY = 4, 2, 6, 3, 11, 13
QUERY_MASK = np.array([[1, 1, 0], [1, 1, 1]], bool)  # (B, T)
VALUE_MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)  # (B, S)


@pytest.fixture
def steps(rng):
    return normal(rng, B, T, D), normal(rng, B, S, D_VALUE), normal(rng, B, S, D_KEY)


def close(actual, expected, tolerance=1e-5):
    expected = expected if isinstance(expected, np.ndarray) else numpy(expected)
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-4, atol=tolerance)


def drawn(layer, rng, *inputs):
    """The layer, built, with random numbers for weights, biases included."""
    layer(*inputs)
    for weight in layer.trainable_weights:
        weight.assign(normal(rng, *weight.shape))
    return layer


def weights_of(layer):
    parts = {"query": layer.query_dense, "key": layer.key_dense, "value": layer.value_dense}
    return {
        name: [numpy(weight).astype("float64") for weight in dense.weights]
        for name, dense in {**parts, "output": layer.output_dense}.items()
    }


# The equation


@pytest.mark.parametrize(
    ("masks", "settings"),
    [
        ({}, {}),
        ({"value_mask": VALUE_MASK}, {"mask": VALUE_MASK}),
        ({"key_mask": VALUE_MASK, "use_causal_mask": True}, {"mask": VALUE_MASK, "causal": True}),
    ],
    ids=["no mask", "value mask", "key mask, causal"],
)
def test_outputs_and_scores_are_those_of_the_paper(rng, steps, masks, settings):
    layer = drawn(MultiHeadAttention(H, K, value_dim=V, num_kv_heads=N), rng, *steps)
    output, scores = layer(*steps, return_attention_scores=True, **masks)
    query, value, key = steps
    expected, expected_scores = reference.multi_head(weights_of(layer), query, value, key, **settings)
    close(output, expected, 1e-4)
    close(scores, expected_scores)


def test_a_masked_query_reads_nothing_and_gives_the_bias_of_the_output(rng, steps):
    layer = drawn(MultiHeadAttention(H, K), rng, *steps[:2])
    output, scores = layer(*steps[:2], query_mask=QUERY_MASK, return_attention_scores=True)
    close(output[0, 2], layer.output_dense.bias)
    assert not numpy(scores)[0, :, 2].any()
    close(output[1], layer(*steps[:2])[1])


@pytest.mark.parametrize("shape", [(T, S), (B, T, S), (B, 1, T, S), (B, H, T, S)], ids=str)
def test_an_attention_mask_may_leave_out_axes_in_front(rng, steps, shape):
    layer, mask = drawn(MultiHeadAttention(H, K), rng, *steps[:2]), rng.random(shape) < 0.6
    full = np.broadcast_to(mask[:, None] if len(shape) == 3 else mask, (B, H, T, S))
    output, scores = layer(
        *steps[:2], attention_mask=mask, value_mask=VALUE_MASK, use_causal_mask=True, return_attention_scores=True
    )
    expected, expected_scores = reference.multi_head(
        weights_of(layer), *steps[:2], mask=full & VALUE_MASK[:, None, None], causal=True
    )
    close(output, expected, 1e-4)
    close(scores, expected_scores)


@pytest.mark.parametrize("causal", [False, True])
def test_a_sliding_window_reads_near_steps_alone(rng, steps, causal):
    query = normal(rng, B, 9, D)
    layer = drawn(MultiHeadAttention(H, K, sliding_window=3), rng, query, query)
    expected, _ = reference.multi_head(weights_of(layer), query, query, window=3, causal=causal)
    close(layer(query, query, use_causal_mask=causal), expected, 1e-4)


def test_a_gate_multiplies_the_heads(rng, steps):
    query, value, _ = steps
    layer = drawn(MultiHeadAttention(H, K, use_gate=True), rng, query, value)
    theirs = keras.layers.MultiHeadAttention(H, K, use_gate=True)
    theirs(query, value)
    theirs.set_weights(layer.get_weights())
    close(layer(query, value), theirs(query, value))


def test_rotary_positions_turn_queries_and_keys(rng):
    query = normal(rng, B, S, D)
    layer = drawn(MultiHeadAttention(H, K, positions="rotary", max_wavelength=50.0), rng, query, query)
    heads = [reference.rotated(numpy(dense(query)), range(S), 50.0) for dense in (layer.query_dense, layer.key_dense)]
    scores = reference.scores(*heads, causal=True)
    expected = layer.output_dense(reference.contexts(scores, numpy(layer.value_dense(query))).astype("float32"))
    close(layer(query, query, use_causal_mask=True), expected, 1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("positions", ["alibi", "relative"])
def test_positions_add_to_the_logits_by_distance(rng, positions, causal):
    query = normal(rng, B, 17, D)
    layer = MultiHeadAttention(3, K, positions=positions, num_buckets=8, max_distance=12)
    layer = drawn(layer, rng, query, query)
    distances = np.arange(17) - np.arange(17)[:, None]  # (T, S)
    if positions == "alibi":
        bias = -alibi_slopes(3)[:, None, None] * np.abs(distances)
    else:
        buckets = numpy(relative_buckets(ops.convert_to_tensor(distances), 8, 12, bidirectional=not causal))
        bias = np.moveaxis(numpy(layer.relative_bias)[buckets], -1, 0)
    expected, scores = reference.multi_head(weights_of(layer), query, query, bias=bias[None], causal=causal)
    found = layer(query, query, use_causal_mask=causal, return_attention_scores=True)
    close(found[0], expected, 1e-4)
    close(found[1], scores)


@pytest.mark.parametrize("positions", [None, "rotary", "alibi", "relative"])
def test_blocks_read_what_all_pairs_read_and_have_its_gradients(rng, positions):
    query, mask = normal(rng, B, 9, D), np.ones((B, 9), bool)
    mask[0, 6:] = False
    found = {}
    for implementation in ("plain", "blockwise"):
        keras.utils.set_random_seed(3)
        layer = MultiHeadAttention(H, K, num_kv_heads=N, positions=positions, implementation=implementation)
        layer(query, query)
        slopes, weights = layer_gradients(
            layer, {"query": query, "value": query}, lambda x: ops.sum(x * x), value_mask=mask, use_causal_mask=True
        )
        found[implementation] = [numpy(layer(query, query)), *slopes.values(), *weights.values()]
    for a, b in zip(*found.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# Scores


@pytest.mark.parametrize("rows", [[0, 2], [-1], slice(1, None), slice(None, None, 2), np.array([2, 0])], ids=str)
def test_scores_are_returned_for_the_rows_asked(rng, steps, rows):
    layer = drawn(MultiHeadAttention(H, K, num_kv_heads=N), rng, *steps[:2])
    masks = {"query_mask": QUERY_MASK, "value_mask": VALUE_MASK}
    output, everything = layer(*steps[:2], **masks, return_attention_scores=True)
    same, some = layer(*steps[:2], **masks, return_attention_scores=True, score_rows=rows)
    close(some, numpy(everything)[:, :, rows])
    np.testing.assert_array_equal(numpy(same), numpy(output))
    np.testing.assert_array_equal(numpy(layer(*steps[:2], **masks)), numpy(output))


@pytest.mark.parametrize("rows", [None, [0, 2], slice(1, None)], ids=str)
@pytest.mark.parametrize("known", [True, False])
def test_keras_scores_of_cross_attention_have_the_shape_that_was_foretold(steps, rows, known):
    """Keras 3.15 foretells (B, H, T, T) for scores (B, H, T, S)."""
    query, value, _ = steps
    layer = MultiHeadAttention(H, K, output_shape=(2, 5))
    inputs = [keras.Input(x.shape[1:] if known else (None, x.shape[2])) for x in (query, value)]
    outputs = layer(*inputs, return_attention_scores=True, score_rows=rows)
    actual = keras.Model(inputs, outputs)([query, value])
    for foretold, found in zip(outputs, actual, strict=True):
        assert len(foretold.shape) == len(found.shape)
        assert all(a in (None, b) for a, b in zip(foretold.shape, found.shape, strict=True))
        assert not known or None not in foretold.shape[1:]


def test_keras_scores_in_training_are_those_before_dropout(rng, steps):
    layer = drawn(MultiHeadAttention(H, K, dropout=0.5), rng, *steps[:2])
    output, scores = layer(*steps[:2], return_attention_scores=True, training=True)
    expected, expected_scores = layer(*steps[:2], return_attention_scores=True)
    close(scores, expected_scores)
    assert np.abs(numpy(output) - numpy(expected)).max() > 1e-3


# Causality


@pytest.mark.parametrize("implementation", ["plain", "blockwise", "auto"])
@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_keras_23038_the_future_does_not_change_the_past(rng, implementation, scores, training, cached):
    query = normal(rng, B, 5, D)
    layer = MultiHeadAttention(H, K, dropout=0.5, seed=3, implementation=implementation)
    drawn(layer, rng, query, query)
    cache = {"cache": layer.get_initial_cache(B, 7), "cache_index": 0} if cached else {"use_causal_mask": True}

    def run(query):
        layer.seed_generator.state.assign([3, 0])
        return keras.tree.flatten(layer(query, query, training=training, return_attention_scores=scores, **cache))

    later = np.where(np.arange(5)[:, None] > 2, 5.0, query).astype("float32")
    before, after = run(query), run(later)
    np.testing.assert_allclose(numpy(after[0])[:, :3], numpy(before[0])[:, :3], rtol=1e-4, atol=1e-5)
    assert np.abs(numpy(after[0])[:, 3:] - numpy(before[0])[:, 3:]).max() > 0.01
    if scores:
        np.testing.assert_allclose(numpy(after[1])[:, :, :3], numpy(before[1])[:, :, :3], rtol=1e-4, atol=1e-5)
        future = np.arange(after[1].shape[3]) > np.arange(5)[:, None]  # (T, S)
        assert not numpy(after[1])[:, :, future].any()


# Keras


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_the_weights_of_keras_fit_and_give_the_same(rng, steps, causal, window, bias):
    query, value, key = steps
    # On JAX, Keras's own layer fails where keys and values differ in width.
    width = K if keras.backend.backend() == "jax" else V
    settings = {"value_dim": width, "output_shape": 5, "sliding_window": window, "use_bias": bias}
    theirs, ours = keras.layers.MultiHeadAttention(H, K, **settings), MultiHeadAttention(H, K, **settings)
    drawn(theirs, rng, query, value, key)
    ours(query, value, key)
    assert [w.path.partition("/")[2] for w in ours.weights] == [w.path.partition("/")[2] for w in theirs.weights]
    ours.set_weights(theirs.get_weights())
    given = {
        "value_mask": VALUE_MASK, "attention_mask": rng.random((B, T, S)) < 0.8, "use_causal_mask": causal,
        "return_attention_scores": True,
    }  # fmt: skip
    for a, b in zip(ours(*steps, **given), theirs(*steps, **given), strict=True):
        close(a, b)


def test_the_weights_of_keras_with_shared_keys_fit_and_give_the_same(rng, steps):
    query, value, _ = steps
    theirs = keras.layers.GroupQueryAttention(K, H, N)
    drawn(theirs, rng, query, value)
    ours = MultiHeadAttention(H, K, num_kv_heads=N)
    ours(query, value)
    ours.set_weights(theirs.get_weights())
    given = {"value_mask": VALUE_MASK, "use_causal_mask": True, "return_attention_scores": True}
    for a, b in zip(ours(query, value, **given), theirs(query, value, **given), strict=True):
        close(a, b)


def test_keras_obeys_a_mask_that_is_passed_as_one_that_is_carried(rng, steps):
    """Keras overwrites a `query_mask` that is passed by the one that the query carries."""
    query, value = steps[0] * QUERY_MASK[:, :, None], steps[1] * VALUE_MASK[:, :, None]
    layer = drawn(MultiHeadAttention(H, K), rng, query, value)
    explicit = layer(query, value, query_mask=QUERY_MASK, value_mask=VALUE_MASK)
    masked = keras.layers.Masking()
    output = layer(masked(query), masked(value))
    close(output, explicit)
    np.testing.assert_array_equal(numpy(output._keras_mask), QUERY_MASK)


@pytest.mark.filterwarnings("error")
def test_keras_20455_the_mask_of_an_input_stays_and_nobody_warns(rng, steps):
    """Keras takes the masks off its inputs, so that a residual connection around it loses them."""
    query = keras.layers.Masking()(steps[0] * QUERY_MASK[:, :, None])
    layer = MultiHeadAttention(H, K)
    layer(query, query)
    assert query._keras_mask is not None


def test_keras_half_precision_survives_logits_past_65504(rng):
    query = 100 * np.sign(normal(rng, B, T, D))
    layer = MultiHeadAttention(H, 64, dtype="mixed_float16")
    layer(query, query)
    for dense in (layer.query_dense, layer.key_dense):
        dense.kernel.assign(np.ones(dense.kernel.shape))
    output, scores = layer(query, query, return_attention_scores=True)
    assert np.isfinite(numpy(output)).all() and np.isfinite(numpy(scores)).all()


def test_every_argument_is_in_the_config():
    """Keras leaves out `flash_attention`."""
    given = {
        "num_heads": 4, "key_dim": 6, "value_dim": 3, "dropout": 0.1, "use_bias": False, "output_shape": [5],
        "num_kv_heads": 2, "positions": "relative", "sliding_window": 7, "implementation": "blockwise",
        "use_gate": True, "num_buckets": 8, "max_distance": 9, "max_wavelength": 50.0, "seed": 3,
    }  # fmt: skip
    config = MultiHeadAttention.from_config(MultiHeadAttention(**given).get_config()).get_config()
    assert {name: list(config[name]) if name == "output_shape" else config[name] for name in given} == given


@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method:UserWarning")
def test_a_model_around_it_quantizes_and_adapts(rng, steps):
    query = keras.Input((None, D))
    model = keras.Model(query, MultiHeadAttention(H, K)(query, query))
    before = numpy(model(steps[0]))
    layer = model.layers[-1]
    layer.query_dense.enable_lora(2)
    assert len(layer.query_dense.trainable_weights) == 3  # bias, and two factors in place of the kernel
    model.quantize("int8")
    assert keras.backend.standardize_dtype(layer.key_dense._kernel.dtype) == "int8"
    assert np.abs(numpy(model(steps[0])) - before).max() < 0.1


@pytest.mark.tensorflow_only
def test_scores_of_some_rows_are_there_where_no_length_is_known(rng, steps):
    import tensorflow as tf

    query, value, _ = steps
    layer = drawn(MultiHeadAttention(H, K), rng, query, value)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None, None, x.shape[2])) for x in (query, value)])
    def run(query, value):
        rows = layer(query, value, return_attention_scores=True, score_rows=slice(-2, None))
        return rows, layer(
            query, cache=layer.make_cross_cache(value), return_attention_scores=True, score_rows=[-2, -1]
        )

    _, expected = layer(query, value, return_attention_scores=True)
    (_, scores), (_, cached, _) = run(query, value)
    close(scores, numpy(expected)[:, :, -2:])
    close(cached, numpy(expected)[:, :, -2:])


# Errors


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_kv_heads": 3}, "`num_kv_heads` must divide `num_heads`"),
        ({"num_heads": 0}, "`num_heads` must be an integer of at least 1"),
        ({"key_dim": 2.5}, "`key_dim` is a width"),
        ({"positions": "rotary", "key_dim": 5}, "turn features in pairs, so `key_dim` must be even"),
        ({"positions": "learned"}, "`positions` must be one of None, 'rotary', 'alibi', 'relative'"),
        ({"sliding_window": 0}, "`sliding_window` must be an integer of at least 1"),
        ({"implementation": "flash"}, "`implementation` must be one of"),
        ({"dropout": 1.0}, "`dropout` is a rate"),
        ({"implementation": "fused", "dropout": 0.1}, "no fused attention|take no seed"),
        ({"positions": "relative", "num_buckets": 3}, "`num_buckets` must be at least 4"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        MultiHeadAttention(**{"num_heads": 4, "key_dim": 6, **settings})


def test_positions_of_cross_attention_are_refused(steps):
    for positions in ("rotary", "alibi", "relative"):
        with pytest.raises(ValueError, match="`positions` and a cache with `value` are for self-attention"):
            MultiHeadAttention(H, K, positions=positions)(*steps[:2])


def test_shapes_that_do_not_fit_are_refused(steps):
    query, value, key = steps
    with pytest.raises(ValueError, match="`query` must have three axes"):
        MultiHeadAttention(H, K)(query[0], value)
    with pytest.raises(ValueError, match="`value` and `key` must have one number of steps"):
        MultiHeadAttention(H, K)(query, value, key[:, 1:])
