import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import BahdanauAttention, LuongAttention
from tests.layers import paper_weights
from tests.layers.gradients import assert_slopes_equal, layer_gradients
from tests.layers.paper_weights import arrays, numpy, randomize
from tests.reference.arrays import B, D, S, T, U, V, normal
from tests.reference.attention import (
    bahdanau_logit,
    concat_logit,
    dot_logit,
    general_logit,
    normalized_bahdanau_logit,
    read_all,
    scaled_dot_logit,
    scaled_general_logit,
)

# name: (constructor, reference logit, its weights from the layer's)
KINDS = {
    "bahdanau": (lambda **options: BahdanauAttention(U, **options), bahdanau_logit, paper_weights.bahdanau),
    "normalized_bahdanau": (
        lambda **options: BahdanauAttention(U, normalize=True, **options),
        normalized_bahdanau_logit,
        paper_weights.bahdanau,
    ),
    "dot": (lambda **options: LuongAttention("dot", **options), dot_logit, paper_weights.luong),
    "scaled_dot": (
        lambda **options: LuongAttention("dot", use_scale=True, **options),
        scaled_dot_logit,
        paper_weights.luong,
    ),
    "general": (lambda **options: LuongAttention("general", **options), general_logit, paper_weights.luong),
    "scaled_general": (
        lambda **options: LuongAttention("general", use_scale=True, **options),
        scaled_general_logit,
        paper_weights.luong,
    ),
    "concat": (lambda **options: LuongAttention("concat", units=U, **options), concat_logit, paper_weights.luong),
}
KIND = pytest.mark.parametrize("kind", KINDS)
VALUE_MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)


def query_and_value(rng, kind):
    """Score "dot" needs one width."""
    return normal(rng, B, T, V if kind.endswith("dot") else D), normal(rng, B, S, V)


def made(kind, query, value, rng, **options):
    layer = KINDS[kind][0](**options)
    layer(query, value)
    return randomize(layer, rng)


def close(actual, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(numpy(actual), expected, rtol=rtol, atol=atol)


@KIND
@pytest.mark.parametrize("masks", ["none", "value", "attention", "both"])
def test_context_and_scores_equal_the_papers_equations(rng, kind, masks):
    _, logit, from_layer = KINDS[kind]
    query, value = query_and_value(rng, kind)
    layer = made(kind, query, value, rng)
    attention_mask = rng.random((B, T, S)) < 0.6
    given, expected_mask = {}, np.ones((B, T, S), bool)
    if masks in ("value", "both"):
        given["value_mask"] = VALUE_MASK
        expected_mask = expected_mask & VALUE_MASK[:, None, :]
    if masks in ("attention", "both"):
        given["attention_mask"] = attention_mask
        expected_mask = expected_mask & attention_mask
    context, scores = layer(query, value, return_attention_scores=True, **given)
    expected, expected_scores = read_all(logit, from_layer(arrays(layer)), query, value, mask=expected_mask)
    close(context, expected)
    close(scores, expected_scores)
    close(layer(query, value, **given), expected)


@KIND
def test_a_key_is_compared_and_the_value_is_read(rng, kind):
    _, logit, from_layer = KINDS[kind]
    query, value = query_and_value(rng, kind)
    key = normal(rng, B, S, query.shape[-1] if kind.endswith("dot") else U)
    layer = KINDS[kind][0]()
    layer(query, value, key=key)
    randomize(layer, rng)
    close(layer(query, value, key=key), read_all(logit, from_layer(arrays(layer)), query, value, key)[0])


@KIND
def test_gradients_equal_finite_differences(rng, kind):
    _, logit, from_layer = KINDS[kind]
    query, value = query_and_value(rng, kind)
    layer, share = made(kind, query, value, rng), normal(rng, B, T, V)
    found_inputs, found = layer_gradients(
        layer, {"query": query, "value": value}, lambda x: ops.sum(ops.multiply(x, share)), value_mask=VALUE_MASK
    )
    mask = np.repeat(VALUE_MASK[:, None, :], T, axis=1)

    def loss(values):
        return np.sum(read_all(logit, from_layer(values), values["query"], values["value"], mask=mask)[0] * share)

    values = {**arrays(layer), "query": query.astype("float64"), "value": value.astype("float64")}
    assert_slopes_equal(loss, values, {**found, **found_inputs}, rng)


@KIND
def test_masked_steps_count_for_nothing(rng, kind):
    query, value = query_and_value(rng, kind)
    layer = made(kind, query, value, rng)
    masked, scores = layer(query, value, value_mask=VALUE_MASK, return_attention_scores=True)
    for row in range(B):
        rows = slice(row, row + 1)
        close(masked[rows], numpy(layer(query[rows], value[rows, VALUE_MASK[row]])))
    assert not numpy(scores)[np.repeat(~VALUE_MASK[:, None, :], T, axis=1)].any()


@KIND
def test_what_stands_at_masked_steps_is_never_read(rng, kind):
    query, value = query_and_value(rng, kind)
    layer = made(kind, query, value, rng)
    other = np.where(VALUE_MASK[:, :, None], value, 1e3)
    close(layer(query, other, value_mask=VALUE_MASK), numpy(layer(query, value, value_mask=VALUE_MASK)))


@KIND
def test_a_row_that_may_read_nothing_reads_zeros_with_finite_gradients(rng, kind):
    query, value = query_and_value(rng, kind)
    layer = made(kind, query, value, rng)
    mask = np.array([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    context, scores = layer(query, value, value_mask=mask, return_attention_scores=True)
    assert not numpy(context)[0].any() and not numpy(scores)[0].any()
    assert numpy(context)[1].all()
    found_inputs, found = layer_gradients(layer, {"query": query, "value": value}, ops.sum, value_mask=mask)
    assert not found_inputs["query"][0].any() and not found_inputs["value"][0].any()
    assert all(np.isfinite(x).all() for x in [*found.values(), *found_inputs.values()])


@KIND
def test_masked_queries_give_zeros(rng, kind):
    query, value = query_and_value(rng, kind)
    layer, mask = made(kind, query, value, rng), np.array([[1, 1, 0], [0, 1, 1]], bool)
    context = layer(query, value, query_mask=mask)
    close(context, numpy(layer(query, value)) * mask[:, :, None])


def carrying(x, mask):
    """`x` as a tensor that carries a Keras mask."""
    return keras.layers.Masking()(np.where(mask[:, :, None], np.where(x == 0, 1, x), 0))


@KIND
def test_the_masks_that_query_and_value_carry_are_the_masks(rng, kind):
    query, value = query_and_value(rng, kind)
    layer, query_mask = made(kind, query, value, rng), np.array([[1, 1, 0], [0, 1, 1]], bool)
    implicit = layer(carrying(query, query_mask), carrying(value, VALUE_MASK))
    close(implicit, numpy(layer(query, value, query_mask=query_mask, value_mask=VALUE_MASK)))


@KIND
def test_an_explicit_mask_goes_before_the_one_that_is_carried(rng, kind):
    query, value = query_and_value(rng, kind)
    layer, everything = made(kind, query, value, rng), np.ones((B, T), bool)
    carried = carrying(query, np.array([[1, 1, 0], [0, 1, 1]], bool))
    close(layer(carried, value, query_mask=everything), numpy(layer(numpy(carried), value)))


def test_the_mask_of_the_query_goes_on_with_the_context(rng):
    query, value = query_and_value(rng, "bahdanau")
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    context = BahdanauAttention(U)(carrying(query, mask), value)
    mean = keras.layers.GlobalAveragePooling1D()(context)
    close(mean, np.stack([numpy(context)[row, mask[row]].mean(axis=0) for row in range(B)]))


def test_luong_concat_is_bahdanau_with_its_two_kernels_in_one(rng):
    query, value = query_and_value(rng, "concat")
    luong, bahdanau = made("concat", query, value, rng), made("bahdanau", query, value, rng)
    bahdanau.query_kernel.assign(luong.kernel[:D])
    bahdanau.key_kernel.assign(luong.kernel[D:])
    bahdanau.energy.assign(luong.energy)
    close(bahdanau(query, value), numpy(luong(query, value)))


@pytest.mark.parametrize("use_scale", [False, True])
def test_dot_is_the_attention_of_keras(rng, use_scale):
    query, value = query_and_value(rng, "dot")
    ours, theirs = LuongAttention("dot", use_scale=use_scale), keras.layers.Attention(use_scale=use_scale)
    ours(query, value), theirs([query, value])
    for layer in (ours, theirs):
        layer.set_weights([np.array(0.3, "float32")] * use_scale)
    close(ours(query, value), numpy(theirs([query, value])))


def test_a_scale_is_one_and_a_normalized_energy_has_the_length_of_a_share_of_one_at_first(rng):
    query, value = query_and_value(rng, "dot")
    layer = LuongAttention("dot", use_scale=True)
    close(layer(query, value), numpy(LuongAttention("dot")(query, value)))
    layer = BahdanauAttention(U, normalize=True)
    layer(query, value)
    assert numpy(layer.scale) == pytest.approx(U**-0.5)
    assert not numpy(layer.bias).any()


def test_an_energy_times_any_number_is_the_same_when_normalized(rng):
    query, value = query_and_value(rng, "normalized_bahdanau")
    layer = made("normalized_bahdanau", query, value, rng)
    expected = numpy(layer(query, value))
    layer.energy.assign(1000 * numpy(layer.energy))
    close(layer(query, value), expected)


def test_a_normalized_energy_of_zeros_has_finite_gradients(rng):
    query, value = query_and_value(rng, "normalized_bahdanau")
    layer = made("normalized_bahdanau", query, value, rng)
    layer.energy.assign(np.zeros(U))
    _, found = layer_gradients(layer, {"query": query, "value": value}, lambda x: ops.sum(ops.square(x)))
    assert all(np.isfinite(x).all() for x in found.values())


@KIND
def test_logits_past_the_largest_float16_give_no_nan(rng, kind):
    query, value = query_and_value(rng, kind)
    query, value = 200 * query, 200 * value
    layer = KINDS[kind][0](dtype="mixed_float16")
    context, scores = layer(query, value, value_mask=VALUE_MASK, return_attention_scores=True)
    if kind.endswith("dot"):
        assert np.abs(np.einsum("btd,bsd->bts", query, value)).max() > 65504
    assert np.isfinite(numpy(context)).all()
    np.testing.assert_allclose(numpy(scores).sum(axis=-1), 1, atol=1e-2)


def test_a_seeded_initializer_draws_one_kernel_like_another_and_a_plain_one_does_not():
    layer = BahdanauAttention(U)
    layer.build((B, T, V), (B, S, V))
    assert np.abs(numpy(layer.query_kernel) - numpy(layer.key_kernel)).max() > 0.1


@pytest.mark.parametrize("make", [lambda: BahdanauAttention(0), lambda: LuongAttention("concat", units=0)])
def test_units_that_are_no_width_raise(make):
    with pytest.raises(ValueError, match=r"`units` is a width.*at least 1\. Received: units=0"):
        make()


def test_an_unknown_score_raises():
    with pytest.raises(
        ValueError, match=r"`score` must be one of 'concat', 'dot', 'general', 'location'\. Received: score='scaled'"
    ):
        LuongAttention("scaled")


@pytest.mark.parametrize(("score", "units"), [("dot", U), ("general", U), ("concat", None)])
def test_units_where_the_score_has_none_and_the_other_way_round_raise(score, units):
    with pytest.raises(ValueError, match=rf"`units`.*of score 'concat'.*Received: score='{score}', units={units}"):
        LuongAttention(score, units=units)


@pytest.mark.parametrize(("score", "max_steps"), [("dot", S), ("location", None)])
def test_max_steps_where_the_score_has_none_and_the_other_way_round_raise(score, max_steps):
    with pytest.raises(
        ValueError, match=rf"`max_steps`.*score 'location'.*Received: score='{score}', max_steps={max_steps}"
    ):
        LuongAttention(score, max_steps=max_steps)


@pytest.mark.parametrize("max_steps", [0, 2.5, True])
def test_max_steps_that_are_no_number_of_steps_raise(max_steps):
    with pytest.raises(
        ValueError, match=rf"`max_steps` must be an integer of at least 1\. Received: max_steps={max_steps}"
    ):
        LuongAttention("location", max_steps=max_steps)


def test_a_scale_where_the_score_has_none_raises():
    with pytest.raises(ValueError, match=r"`use_scale` is for .*'dot' and 'general'\. Received: score='concat'"):
        LuongAttention("concat", units=U, use_scale=True)


def test_dot_of_two_widths_raises():
    with pytest.raises(ValueError, match=r"widths must agree; 'general' has a kernel.*\(2, 3, 7\).*\(2, 5, 11\)"):
        LuongAttention("dot")(np.zeros((B, T, D)), np.zeros((B, S, V)))


@KIND
def test_shapes_that_do_not_fit_raise(kind):
    layer = KINDS[kind][0]
    with pytest.raises(ValueError, match=r"`query` must have three axes.*known width.*Received: query_shape=\(2, 7\)"):
        layer()(np.zeros((B, D)), np.zeros((B, S, D)))
    with pytest.raises(ValueError, match=r"`value` must have three axes.*Received: value_shape=\(2, 7\)"):
        layer()(np.zeros((B, T, D)), np.zeros((B, D)))
    with pytest.raises(ValueError, match=r"one batch size.*query_shape=\(2, 3, 7\), value_shape=\(3, 5, 7\)"):
        layer()(np.zeros((B, T, D)), np.zeros((B + 1, S, D)))
    with pytest.raises(ValueError, match=r"one number of steps.*value_shape=\(2, 5, 7\), key_shape=\(2, 3, 7\)"):
        layer()(np.zeros((B, T, D)), np.zeros((B, S, D)), key=np.zeros((B, T, D)))
