import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.ops import attention, attention_scores
from keras_seqattn.ops.attention import LONG, best
from keras_seqattn.ops.blockwise_attention import blockwise_attention
from keras_seqattn.ops.fused_attention import fused_attention
from keras_seqattn.ops.plain_attention import all_scores, contexts, plain_attention
from tests.layers.gradients import gradients
from tests.reference import multi_head_attention as reference
from tests.reference.arrays import normal

B, T, S, H, N, K, V = 2, 7, 11, 4, 2, 3, 5
BLOCK = 4  # 2 blocks of queries, 3 of keys, the last of each not full
BACKEND = keras.backend.backend()


def numpy(x):
    return ops.convert_to_numpy(x)


def blockwise(*arguments, **settings):
    return blockwise_attention(*arguments, **settings, block=BLOCK)


WAYS = {"plain": plain_attention, "blockwise": blockwise}
if BACKEND != "tensorflow":
    WAYS["fused"] = fused_attention

MASKS = {
    "keys": np.array([[1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0]], bool),
    "no keys": np.array([[1] * S, [0] * S], bool),
    "pairs": np.random.default_rng(1).random((B, T, S)) < 0.5,
    "heads": np.random.default_rng(2).random((1, H, T, S)) < 0.5,
    "queries": np.array([1, 0, 1, 1, 1, 1, 0], bool).reshape(1, 1, T, 1),
}
BIASES = {"all": (B, H, T, S), "heads": (1, H, T, S), "keys": (B, 1, 1, S), "queries": (1, 1, T, 1)}
SETTINGS = {
    "nothing": {},
    "causal": {"causal": True},
    "causal from 4 on": {"causal": True, "offset": 4},
    "causal, some read nothing": {"causal": True, "offset": -3},
    "window": {"window": 3},
    "causal window": {"window": 3, "causal": True, "offset": 4},
    "window of one": {"window": 1, "causal": True},
    "wide window": {"window": 9, "offset": 1},
    "keys": {"mask": "keys"},
    "no keys": {"mask": "no keys", "causal": True},
    "pairs": {"mask": "pairs", "scale": 0.5},
    "heads": {"mask": "heads", "window": 6},
    "queries": {"mask": "queries", "bias": "queries"},
    "bias": {"bias": "all", "causal": True},
    "bias of heads": {"bias": "heads", "mask": "keys", "window": 4},
    "bias of keys": {"bias": "keys", "mask": "pairs"},
    "distance": {"distance_bias": True},
    "distance, causal": {"distance_bias": True, "causal": True, "offset": 3, "mask": "keys"},
    "all": {"distance_bias": True, "bias": "all", "mask": "heads", "causal": True, "window": 5, "offset": 2},
}
EACH_SETTING = pytest.mark.parametrize("setting", SETTINGS)
EACH_WAY = pytest.mark.parametrize("way", WAYS)


def arrays_and_settings(rng, setting, groups=N):
    """Query, key, value and biases; the names of the biases; the other settings."""
    settings = dict(SETTINGS[setting])
    arrays = [normal(rng, B, T, H, K), normal(rng, B, S, groups, K), normal(rng, B, S, groups, V)]
    names = []
    if "bias" in settings:
        names.append("bias")
        arrays.append(normal(rng, *BIASES[settings.pop("bias")]))
    if settings.pop("distance_bias", False):
        names.append("distance_bias")
        arrays.append(normal(rng, H, T + S - 1))
    if "mask" in settings:
        settings["mask"] = MASKS[settings["mask"]]
    return arrays, names, settings


def with_tensors(settings):
    return {
        name: ops.convert_to_tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in settings.items()
    }


def context_and_gradients(way, arrays, names, settings, weights):
    """What `way` reads, and the gradients of a weighted sum of it."""
    settings, found = with_tensors(settings), []

    def loss(tensors):
        context = way(*tensors[:3], **dict(zip(names, tensors[3:], strict=True)), **settings)
        found.append(context)
        return ops.sum(context * ops.convert_to_tensor(weights))

    slopes = gradients(loss, arrays)
    loss([ops.convert_to_tensor(x) for x in arrays])
    return [numpy(found[-1]), *slopes]


@EACH_SETTING
def test_contexts_and_scores_are_those_of_the_equation(rng, setting):
    arrays, names, settings = arrays_and_settings(rng, setting)
    given = dict(zip(names, arrays[3:], strict=True)) | settings
    expected = reference.scores(*arrays[:2], **given)
    tensors = [ops.convert_to_tensor(x) for x in arrays[:3]]
    given = with_tensors(given)
    np.testing.assert_allclose(numpy(attention_scores(*tensors[:2], **given)), expected, rtol=1e-4, atol=1e-6)
    rows = attention_scores(*tensors[:2], **given, rows=[-1, 2])
    np.testing.assert_allclose(numpy(rows), expected[:, :, [-1, 2]], rtol=1e-4, atol=1e-6)
    context = attention(*tensors, **given, implementation="plain")
    np.testing.assert_allclose(numpy(context), reference.contexts(expected, arrays[2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "plain"])
@EACH_SETTING
def test_every_way_equals_the_plain_one_gradients_included(rng, way, setting):
    groups = (1, N, H)[list(SETTINGS).index(setting) % 3]
    given = arrays_and_settings(rng, setting, groups)
    weights = normal(rng, B, T, H, V)
    plain = context_and_gradients(plain_attention, *given, weights)
    found = context_and_gradients(WAYS[way], *given, weights)
    for name, a, b in zip(["context", "query", "key", "value", *given[1]], found, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("form", ["static", "xla", "unknown lengths"])
def test_blocks_compile_whether_lengths_are_known_or_not(rng, form):
    import tensorflow as tf

    query, key, value = normal(rng, B, T, H, K), normal(rng, B, S, N, K), normal(rng, B, S, N, V)
    bias, distance_bias, weights = normal(rng, 1, H, T, S), normal(rng, H, T + S - 1), normal(rng, B, T, H, V)

    def run(query, key, value, bias, distance_bias, mask, pairs, offset, way=blockwise):
        with tf.GradientTape() as tape:
            watched = [query, key, value, bias, distance_bias]
            tape.watch(watched)
            near = way(query, key, value, mask=mask, distance_bias=distance_bias, window=5, offset=offset)
            past = way(query, key, value, mask=pairs, bias=bias, causal=True, offset=offset)
            loss = tf.reduce_sum(near * weights + past * past)
        return [near, past, *(tf.convert_to_tensor(x) for x in tape.gradient(loss, watched))]

    arguments = [query, key, value, bias, distance_bias, MASKS["no keys"], MASKS["pairs"], np.int32(2)]
    arguments = [tf.constant(x) for x in arguments]
    signature = None
    if form == "unknown lengths":
        heads = [tf.TensorSpec((None, None, *x.shape[2:]), x.dtype) for x in arguments[:3]]
        distances = tf.TensorSpec((H, None), "float32")
        rest = [tf.TensorSpec([None] * len(x.shape), x.dtype) for x in (arguments[3], *arguments[5:])]
        signature = [*heads, rest[0], distances, *rest[1:]]
    compiled = tf.function(run, autograph=False, jit_compile=form == "xla", input_signature=signature)
    for found, expected in zip(compiled(*arguments), run(*arguments, way=plain_attention), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(BACKEND != "jax", reason="compiles by JAX")
@EACH_WAY
def test_jax_compiles_every_way(rng, way):
    import jax

    arrays, names, settings = arrays_and_settings(rng, "all")
    settings = with_tensors(settings)

    def loss(*arrays):
        context = WAYS[way](*arrays[:3], **dict(zip(names, arrays[3:], strict=True)), **settings)
        return ops.sum(context * context)

    places = tuple(range(len(arrays)))
    found = jax.jit(jax.value_and_grad(jax.checkpoint(loss), places))(*arrays)
    for a, b in zip(
        keras.tree.flatten(found), keras.tree.flatten(jax.value_and_grad(loss, places)(*arrays)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@EACH_WAY
def test_a_row_with_nothing_to_read_gives_zeros_and_finite_gradients(rng, way):
    given = arrays_and_settings(rng, "no keys")
    context, *slopes = context_and_gradients(WAYS[way], *given, np.ones((B, T, H, V), "float32"))
    assert not context[1].any()
    assert all(np.isfinite(x).all() for x in slopes)
    assert not any(x[1].any() for x in slopes)


@EACH_WAY
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_past_65504_stay_finite_in_half_precision(rng, way, dtype):
    query, key = 300 * np.sign(normal(rng, B, T, H, K)), 300 * np.sign(normal(rng, B, S, N, K))
    value = normal(rng, B, S, N, V)
    expected = reference.attention(query.astype("float64"), key.astype("float64"), value, causal=True, scale=1.0)
    tensors = [ops.cast(ops.convert_to_tensor(x), dtype) for x in (query, key, value)]
    found = WAYS[way](*tensors, causal=True, scale=1.0)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    np.testing.assert_allclose(numpy(ops.cast(found, "float32")), expected, rtol=0.02, atol=0.02)


@EACH_WAY
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("window", [None, 3])
def test_the_future_does_not_change_what_is_read(rng, way, dropout, window):
    if way == "fused" and dropout:
        pytest.skip("the kernels take no seed")
    query, key, value = normal(rng, B, T, H, K), normal(rng, B, S, N, K), normal(rng, B, S, N, V)
    seed = ops.convert_to_tensor(np.array([3, 5], "int32"))

    def read(key, value):
        tensors = [ops.convert_to_tensor(x) for x in (query, key, value)]
        return numpy(WAYS[way](*tensors, causal=True, window=window, dropout=dropout, seed=seed))

    before = read(key, value)
    for t in (0, 2, 5):
        later = np.arange(S)[:, None, None] > t
        np.testing.assert_allclose(
            read(np.where(later, 9, key), np.where(later, -9, value))[:, : t + 1], before[:, : t + 1], atol=1e-6
        )


@pytest.mark.parametrize("way", ["plain", "blockwise"])
def test_dropped_scores_are_dropped_in_the_gradient_too(rng, way):
    arrays, _, settings = arrays_and_settings(rng, "causal from 4 on", H)
    settings |= {"dropout": 0.3, "seed": np.array([3, 5], "int32")}
    # With a value of its own for each step, what is read are the scores themselves.
    apart = np.broadcast_to(np.eye(S, dtype="float32")[None, :, None], (B, S, H, S))
    tensors = [ops.convert_to_tensor(x) for x in (*arrays[:2], apart)]
    dropped = np.moveaxis(numpy(WAYS[way](*tensors, **with_tensors(settings))), 1, 2)  # (B, H, T, S)
    scores = numpy(attention_scores(*tensors[:2], causal=True, offset=4))
    factors = dropped / np.maximum(scores, 1e-30)
    gone = (factors == 0)[scores > 0]
    assert 0.15 < gone.mean() < 0.45
    np.testing.assert_allclose(factors[(factors != 0) & (scores > 0)], 1 / 0.7, rtol=1e-4)

    def with_factors(query, key, value, **_):
        kept = all_scores(query, key, causal=True, offset=4) * ops.convert_to_tensor(factors.astype("float32"))
        return contexts(kept, value)

    weights = normal(rng, B, T, H, V)
    found = context_and_gradients(WAYS[way], arrays, [], settings, weights)
    for a, b in zip(found, context_and_gradients(with_factors, arrays, [], {}, weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_seed_generator_drops_others_each_time_and_an_int_the_same(rng):
    tensors = [ops.convert_to_tensor(normal(rng, B, T, N, K)) for _ in range(3)]
    generator = keras.random.SeedGenerator(3)
    first, second = (numpy(attention(*tensors, dropout=0.5, seed=generator)) for _ in range(2))
    assert np.abs(first - second).max() > 0.1
    first, second = (numpy(attention(*tensors, dropout=0.5, seed=7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("settings", [{"causal": True}, {"window": 2}, {"causal": True, "window": 2}], ids=str)
def test_blocks_that_are_ruled_out_are_not_read(rng, settings):
    query, key, value = normal(rng, 1, 12, H, K), normal(rng, 1, 12, H, K), normal(rng, 1, 12, H, V)
    value[:, 8:] = np.nan  # the third block of four, which the first row of blocks has no business with
    tensors = [ops.convert_to_tensor(x) for x in (query, key, value)]
    found = numpy(blockwise_attention(*tensors, **settings, block=4))
    assert np.isfinite(found[:, :4]).all()
    assert not np.isfinite(found[:, 8:]).all()


@pytest.mark.tensorflow_only
def test_no_tensor_of_a_training_step_has_all_pairs(rng):
    import tensorflow as tf

    steps, block = 512, 64

    @tf.function(autograph=False)
    def step(query, key, value, distance_bias):
        with tf.GradientTape() as tape:
            tape.watch([query, key, value, distance_bias])
            context = blockwise_attention(
                query, key, value, distance_bias=distance_bias, causal=True, dropout=0.1, seed=tf.constant([1, 2]),
                block=block,
            )  # fmt: skip
        return tape.gradient(context, [query, key, value, distance_bias])

    heads = [tf.TensorSpec((1, steps, 1, 2))] * 3
    graph = step.get_concrete_function(*heads, tf.TensorSpec((1, 2 * steps - 1))).graph
    functions = [graph, *(getattr(graph, "_functions", {}) or {}).values()]
    sizes = []
    for definition in [graph.as_graph_def(add_shapes=True)]:
        nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
        for node in nodes:
            shapes = node.attr["_output_shapes"].list.shape
            sizes += [np.prod([axis.size for axis in shape.dim]) for shape in shapes if not shape.unknown_rank]
    assert functions and max(sizes) >= block * block  # the shapes are there to be seen
    assert max(sizes) < steps * steps / 4


@pytest.mark.tensorflow_only
def test_a_second_derivative_of_blocks_is_refused_with_a_remedy(rng):
    import tensorflow as tf

    query = tf.constant(normal(rng, B, T, N, K))
    with tf.GradientTape() as outer:
        outer.watch(query)
        with tf.GradientTape() as tape:
            tape.watch(query)
            context = blockwise(query, query, query)
        slopes = tape.gradient(context, query)
    with pytest.raises(NotImplementedError, match='no second derivative. `implementation="plain"` has'):
        outer.gradient(slopes, query)


@EACH_WAY
@pytest.mark.parametrize("settings", [{}, {"mask": MASKS["heads"]}, {"causal": True}], ids=["all", "masked", "causal"])
def test_what_is_read_equals_pytorchs(rng, way, settings):
    torch = pytest.importorskip("torch")
    query, key, value = normal(rng, B, T, H, K), normal(rng, B, S, N, K), normal(rng, B, S, N, V)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(torch.tensor(x).transpose(1, 2) for x in (query, key, value)),
        attn_mask=torch.tensor(settings["mask"]) if "mask" in settings else None,
        is_causal="causal" in settings,
        enable_gqa=True,
    ).transpose(1, 2)
    found = WAYS[way](*(ops.convert_to_tensor(x) for x in (query, key, value)), **with_tensors(settings))
    np.testing.assert_allclose(numpy(found), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_auto_takes_blocks_for_long_sequences_and_all_pairs_for_short_ones():
    def spec(steps):
        return keras.KerasTensor((1, steps, 2, 4))

    side = int(LONG**0.5)
    assert best(spec(side), spec(side), dropout=0.1) == "blockwise"
    assert best(spec(side), spec(side - 1), dropout=0.1) == "plain"
    assert best(spec(1), spec(side), dropout=0.1) == "plain"
    assert best(spec(None), spec(side), dropout=0.1) == "plain"
    assert best(spec(side), spec(side)) == ("fused" if BACKEND == "torch" else "blockwise")


@pytest.mark.skipif(BACKEND != "torch", reason="only PyTorch's kernel has linear memory on every device")
def test_auto_takes_pytorchs_kernel_where_memory_stays_linear():
    x = keras.KerasTensor((1, 3, 2, 4))
    assert best(x, x, causal=True) == "fused"
    assert best(x, x, mask=ops.ones((1, 3), "bool")) == "fused"
    for other in ({"mask": ops.ones((1, 3), "bool"), "causal": True}, {"window": 2}, {"dropout": 0.1}, {"offset": 2}):
        assert best(x, x, **{"causal": "offset" in other, **other}) == "plain"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"key": (B, S, 3, K)}, "the heads of `key` divide those of"),
        ({"key": (B, S, K)}, "have four axes"),
        ({"window": 0}, "`window` must be an integer of at least 1"),
        ({"dropout": 1.0}, "`dropout` is a rate"),
        ({"implementation": "flash"}, "`implementation` must be one of"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(settings, words):
    key = ops.ones(settings.pop("key", (B, S, N, K)))
    with pytest.raises(ValueError, match=words):
        attention(ops.ones((B, T, H, K)), key, key, **settings)


@pytest.mark.tensorflow_only
def test_tensorflow_has_no_fused_kernel():
    x = ops.ones((B, T, H, K))
    with pytest.raises(ValueError, match="TensorFlow has no fused attention"):
        attention(x, x, x, implementation="fused")


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow has no fused kernel")
def test_a_fused_kernel_takes_no_dropout():
    x = ops.ones((B, T, H, K))
    with pytest.raises(ValueError, match="dropout needs another `implementation`"):
        attention(x, x, x, implementation="fused", dropout=0.1)


def test_every_way_takes_the_same_arguments():
    plain, blocks, fused = (
        list(inspect.signature(way).parameters) for way in (plain_attention, blockwise_attention, fused_attention)
    )
    assert plain == fused == blocks[:-1]
