import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import AttentionCache, MultiHeadAttention
from tests.layers.paper_weights import numpy
from tests.reference.arrays import B, D, S, T, normal

H, N, K, V = 4, 2, 6, 3
LENGTH, SLOTS = 9, 11
PADDED = np.ones((B, LENGTH), bool)
PADDED[0, :2] = False  # on the left, as `generate` pads prompts
POSITIONS = pytest.mark.parametrize("positions", [None, "rotary", "alibi", "relative"])
WINDOWS = pytest.mark.parametrize("window", [None, 3, 20])


def layer_of(rng, positions=None, window=None, **options):
    layer = MultiHeadAttention(
        H, K, value_dim=V, num_kv_heads=N, positions=positions, sliding_window=window, num_buckets=8, max_distance=6,
        **options,
    )  # fmt: skip
    layer.build((B, None, D), (B, None, D))
    for weight in layer.trainable_weights:
        weight.assign(normal(rng, *weight.shape))
    return layer


def in_parts(layer, steps, mask, parts, index=int):
    """Outputs of calls with so many steps each; the cache after all of them."""
    cache, begin, outputs = layer.get_initial_cache(B, SLOTS), 0, []
    for part in parts:
        end = begin + part
        now = steps[:, begin:end]
        masks = {} if mask is None else {"query_mask": mask[:, begin:end], "value_mask": mask[:, begin:end]}
        output, cache = layer(now, now, cache=cache, cache_index=index(begin), **masks)
        outputs.append(numpy(output))
        begin = end
    return np.concatenate(outputs, axis=1), cache


def as_tensor(index):
    return ops.convert_to_tensor(np.int32(index))


@POSITIONS
@WINDOWS
@pytest.mark.parametrize("index", ["int", "tensor"])
def test_cached_steps_equal_all_steps_at_once(rng, positions, window, index):
    layer, steps = layer_of(rng, positions, window), normal(rng, B, LENGTH, D)
    expected = numpy(layer(steps, steps, query_mask=PADDED, value_mask=PADDED, use_causal_mask=True))
    for parts in ([LENGTH], [1, 1, 1, 1, 5], [4, 1, 2, 1, 1]):
        found, _ = in_parts(layer, steps, PADDED, parts, int if index == "int" else as_tensor)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@POSITIONS
@pytest.mark.parametrize("window", [None, 3])
def test_padding_on_the_left_shifts_nothing(rng, positions, window):
    layer, steps = layer_of(rng, positions, window), normal(rng, B, LENGTH, D)
    found, _ = in_parts(layer, steps, PADDED, [5, 1, 1, 1, 1])
    short = steps[:, 2:]
    expected = numpy(layer(short, short, use_causal_mask=True))
    np.testing.assert_allclose(found[0, 2:], expected[0], rtol=1e-4, atol=1e-4)


def test_slots_are_indexed_by_time_and_those_not_written_are_masked(rng):
    layer, steps = layer_of(rng), normal(rng, B, LENGTH, D)
    _, cache = in_parts(layer, steps, PADDED, [4, 2])
    assert cache.key.shape == (B, SLOTS, N, K) and cache.value.shape == (B, SLOTS, N, V)
    np.testing.assert_array_equal(numpy(cache.mask)[:, :6], PADDED[:, :6])
    assert not numpy(cache.mask)[:, 6:].any()
    np.testing.assert_allclose(numpy(cache.key)[:, :6], numpy(layer.key_dense(steps[:, :6])), rtol=1e-5, atol=1e-5)
    assert not numpy(cache.key)[:, 6:].any()


@pytest.mark.parametrize("parts", [[LENGTH], [1] * LENGTH, [4, 3, 2]], ids=str)
def test_a_ring_has_the_last_steps_each_in_its_slot(rng, parts):
    layer, steps = layer_of(rng, window=4), normal(rng, B, LENGTH, D)
    _, cache = in_parts(layer, steps, None, parts)
    keys = numpy(layer.key_dense(steps))
    assert cache.key.shape == (B, 4, N, K)
    for time in range(LENGTH - 4, LENGTH):
        np.testing.assert_allclose(numpy(cache.key)[:, time % 4], keys[:, time], rtol=1e-5, atol=1e-5)


def test_a_ring_is_no_longer_than_the_sequence(rng):
    assert layer_of(rng, window=20).get_initial_cache(B, SLOTS).key.shape[1] == SLOTS


@pytest.mark.parametrize("window", [None, 4])
def test_scores_of_cached_steps_are_those_of_its_slots(rng, window):
    layer, steps = layer_of(rng, window=window), normal(rng, B, LENGTH, D)
    _, expected = layer(steps, steps, use_causal_mask=True, return_attention_scores=True)
    _, cache = in_parts(layer, steps[:, :-1], None, [LENGTH - 1])
    last = steps[:, -1:]
    for index in (int, as_tensor):
        _, scores, _ = layer(
            last, last, cache=cache, cache_index=index(LENGTH - 1), return_attention_scores=True, score_rows=[-1]
        )
        found, times = numpy(scores), np.arange(LENGTH)
        assert found.shape == (B, H, 1, window or SLOTS)
        if window is not None:
            times = times[-window:]
        slots = times if window is None else times % window
        np.testing.assert_allclose(found[:, :, 0, slots], numpy(expected)[:, :, -1, times], rtol=1e-4, atol=1e-5)
        assert np.allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_an_attention_mask_is_about_slots(rng):
    layer, steps, may = layer_of(rng), normal(rng, B, LENGTH, D), rng.random((B, LENGTH, SLOTS)) < 0.7
    expected = layer(steps, steps, use_causal_mask=True, attention_mask=may[:, :, :LENGTH])
    for index in (int, as_tensor):
        found, _ = layer(
            steps, steps, cache=layer.get_initial_cache(B, SLOTS), cache_index=index(0), attention_mask=may
        )
        np.testing.assert_allclose(numpy(found), numpy(expected), rtol=1e-4, atol=1e-5)


# Cross attention


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_a_cross_cache_is_read_as_its_value_would_be_for_each_beam(rng, beams, masked):
    layer, query, value = layer_of(rng), normal(rng, B * beams, T, D), normal(rng, B, S, D)
    mask = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)
    may = rng.random((B * beams, T, S)) < 0.7 if masked else None
    cache = layer.make_cross_cache(value, mask)
    settings = {"attention_mask": may, "return_attention_scores": True, "score_rows": [2, 0]}
    expected = layer(query, np.repeat(value, beams, 0), value_mask=np.repeat(mask, beams, 0), **settings)
    output, scores, same = layer(query, cache=cache, **settings)
    np.testing.assert_allclose(numpy(output), numpy(expected[0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(scores), numpy(expected[1]), rtol=1e-4, atol=1e-5)
    assert same.key.shape == (B, S, N, K)


def test_a_cross_cache_may_compare_other_steps_than_it_reads(rng):
    layer = MultiHeadAttention(H, K)
    query, value, key = normal(rng, B, T, D), normal(rng, B, S, 11), normal(rng, B, S, 13)
    expected = layer(query, value, key)
    np.testing.assert_allclose(
        numpy(layer(query, cache=layer.make_cross_cache(value, key=key))[0]), numpy(expected), rtol=1e-4, atol=1e-5
    )


# As a structure


def test_keras_maps_over_a_cache_and_a_beam_reorders_it(rng):
    layer, steps = layer_of(rng), normal(rng, B, LENGTH, D)
    _, cache = in_parts(layer, steps[:, :-1], PADDED[:, :-1], [LENGTH - 1])
    swapped = keras.tree.map_structure(lambda x: ops.take(x, ops.array([1, 0]), axis=0), cache)
    assert isinstance(swapped, AttentionCache)
    last = steps[:, -1:]
    expected, _ = layer(last, last, cache=cache, cache_index=LENGTH - 1)
    found, _ = layer(last[::-1], last[::-1], cache=swapped, cache_index=LENGTH - 1)
    np.testing.assert_allclose(numpy(found), numpy(expected)[::-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_cache_has_the_compute_dtype(rng, policy):
    layer, steps = layer_of(rng, dtype=policy), normal(rng, B, LENGTH, D)
    found, cache = in_parts(layer, ops.convert_to_tensor(steps), None, [5, 4])
    assert keras.backend.standardize_dtype(cache.key.dtype) == layer.compute_dtype
    assert np.isfinite(found.astype("float32")).all()


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("steps", [1, 3])
def test_shapes_are_foretold_with_a_cache_as_input(rng, window, steps):
    layer = layer_of(rng, window=window)
    slots = window or SLOTS
    query = keras.Input((steps, D))
    cache = AttentionCache(keras.Input((slots, N, K)), keras.Input((slots, N, V)), keras.Input((slots,), dtype="bool"))
    outputs = layer(query, query, cache=cache, cache_index=2, return_attention_scores=True)
    model = keras.Model([query, *cache], outputs)
    found = model([ops.convert_to_tensor(normal(rng, B, steps, D)), *layer.get_initial_cache(B, SLOTS)])
    for foretold, actual in zip(keras.tree.flatten(outputs), keras.tree.flatten(found), strict=True):
        assert tuple(foretold.shape[1:]) == tuple(actual.shape[1:])
        assert foretold.dtype == keras.backend.standardize_dtype(actual.dtype)


# In graphs


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_cache_goes_round_a_compiled_loop(rng, window, jit_compile):
    import tensorflow as tf

    layer, steps = layer_of(rng, "rotary", window), normal(rng, B, LENGTH, D)
    expected = numpy(layer(steps, steps, use_causal_mask=True))

    @tf.function(autograph=False, jit_compile=jit_compile)
    def run(steps):
        prompt = steps[:, :4]
        first, cache = layer(prompt, prompt, cache=layer.get_initial_cache(B, SLOTS), cache_index=0)
        outputs = tf.TensorArray("float32", LENGTH - 4, element_shape=(B, D))

        def body(t, cache, outputs):
            now = tf.slice(steps, (0, t, 0), (B, 1, D))
            output, cache = layer(now, now, cache=cache, cache_index=t)
            return t + 1, cache, outputs.write(t - 4, output[:, 0])

        _, _, outputs = tf.while_loop(lambda t, *_: t < LENGTH, body, (4, cache, outputs))
        return tf.concat([first, tf.transpose(outputs.stack(), (1, 0, 2))], axis=1)

    np.testing.assert_allclose(run(tf.constant(steps)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(("positions", "window"), [("rotary", None), ("relative", None), (None, 4), ("alibi", 4)])
def test_a_saved_model_with_a_cache_needs_stock_operations_alone(rng, tmp_path, positions, window):
    import tensorflow as tf

    layer, steps = layer_of(rng, positions, window), normal(rng, B, LENGTH, D)
    expected = numpy(layer(steps, steps, use_causal_mask=True))
    slots = window or SLOTS
    signature = [
        tf.TensorSpec((None, None, D)), tf.TensorSpec((None, slots, N, K)), tf.TensorSpec((None, slots, N, V)),
        tf.TensorSpec((None, slots), "bool"), tf.TensorSpec((), "int32"),
    ]  # fmt: skip

    def step(query, key, value, mask, index):
        output, cache = layer(query, query, cache=AttentionCache(key, value, mask), cache_index=index)
        return {"output": output, **cache._asdict()}

    archive = keras.export.ExportArchive()
    archive.track(layer)
    archive.add_endpoint("step", step, input_signature=signature)
    archive.write_out(str(tmp_path), verbose=False)
    served = tf.saved_model.load(str(tmp_path)).signatures["step"]
    graphs = [served.graph, *(f.graph for f in served.graph._functions.values() if hasattr(f, "graph"))]
    assert not [op.type for graph in graphs for op in graph.get_operations() if op.type.startswith(("Xla", "PyFunc"))]

    cache, begin, outputs = layer.get_initial_cache(B, SLOTS)._asdict(), 0, []
    for part in (5, 1, 1, 2):
        now = tf.constant(steps[:, begin : begin + part])
        answer = served(query=now, index=tf.constant(begin), **cache)
        outputs.append(answer.pop("output").numpy())
        cache, begin = answer, begin + part
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), expected, rtol=1e-4, atol=1e-4)


# Errors


def test_a_cache_that_is_too_short_is_refused(rng):
    layer, steps = layer_of(rng), normal(rng, B, LENGTH, D)
    with pytest.raises(ValueError, match="a slot for each step"):
        layer(steps, steps, cache=layer.get_initial_cache(B, SLOTS), cache_index=3)


def test_arguments_that_do_not_go_together_are_refused(rng):
    layer, steps = layer_of(rng), normal(rng, B, LENGTH, D)
    cache = layer.get_initial_cache(B, SLOTS)
    with pytest.raises(ValueError, match="`cache` and `cache_index` go together"):
        layer(steps, steps, cache=cache)
    with pytest.raises(ValueError, match="`cache` and `cache_index` go together"):
        layer(steps, steps, cache_index=3)
    with pytest.raises(ValueError, match="Without `value`, a cache from `make_cross_cache` is read"):
        layer(steps)
    with pytest.raises(ValueError, match="Without `value`, a cache from `make_cross_cache` is read"):
        layer(steps, cache=cache, cache_index=0)
    with pytest.raises(ValueError, match="Without `value`, a cache from `make_cross_cache` is read"):
        layer_of(rng, "rotary")(steps, cache=cache)
    with pytest.raises(ValueError, match="for self-attention, where query and value are the same"):
        layer(steps, steps[:, 1:], cache=cache, cache_index=0)
    with pytest.raises(ValueError, match="those of a sliding window change"):
        ring = layer_of(rng, window=4)
        may = np.ones((LENGTH, 4), bool)
        ring(steps, steps, cache=ring.get_initial_cache(B, SLOTS), cache_index=0, attention_mask=may)


def test_a_layer_without_weights_has_nothing_to_cache(rng):
    steps = normal(rng, B, LENGTH, D)
    with pytest.raises(ValueError, match="`build` or a call must come before `make_cross_cache`"):
        MultiHeadAttention(H, K).make_cross_cache(steps)
