"""Attentions that choose where to read, or remember where they did."""

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_seqattn.layers import (
    AttentionCell,
    BahdanauAttention,
    GRUCell,
    LocalAttention,
    LocationSensitiveAttention,
    LuongAttention,
    MonotonicAttention,
    Recurrent,
)
from keras_seqattn.layers.attention.monotonic_attention import expected, first_chosen
from keras_seqattn.ops import linear_recurrence_in_turn
from tests.layers.attention_kinds import KINDS, REMEMBERING, draw
from tests.layers.gradients import assert_slopes_equal, layer_gradients
from tests.layers.paper_weights import arrays, numpy, randomize
from tests.reference.arrays import B, D, S, T, U, V, normal
from tests.reference.attention import normalized_bahdanau_logit
from tests.reference.attention_in_turn import expected_alignment, expected_monotonic_step, first_read, read_in_turn

KIND = pytest.mark.parametrize("kind", KINDS)
A = 17  # width of an attention vector
VALUE_MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)
PADDING = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], bool)  # behind and in front, but not amid
QUERY_MASK = np.array([[1, 0, 1], [0, 1, 1]], bool)


def close(actual, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(numpy(actual), expected, rtol=rtol, atol=atol)


def query_and_value(rng):
    return normal(rng, B, T, D), normal(rng, B, S, V)


def made(kind, query, value, rng, **options):
    layer = KINDS[kind].make(**options)
    layer(query, value)
    return draw(layer, rng)


def reference(kind, values, query, value, **options):
    of = KINDS[kind]
    return read_in_turn(of.step, of.first_state, of.weights(values), query, value, **options)


def gone(kind):
    """A mask whose False steps the kind reads as if they were not there."""
    return PADDING if kind.startswith("location_sensitive") else VALUE_MASK


# What the papers say


@KIND
@pytest.mark.parametrize("masks", ["none", "value", "attention", "all"])
def test_context_and_scores_equal_the_papers_equations(rng, kind, masks):
    query, value = query_and_value(rng)
    layer = made(kind, query, value, rng)
    given, mask, query_mask = {}, np.ones((B, T, S), bool), None
    if masks in ("value", "all"):
        given["value_mask"] = VALUE_MASK
        mask = mask & VALUE_MASK[:, None, :]
    if masks in ("attention", "all"):
        given["attention_mask"] = rng.random((B, T, S)) < 0.6
        mask = mask & given["attention_mask"]
    if masks == "all":
        given["query_mask"] = query_mask = QUERY_MASK
    context, scores = layer(query, value, return_attention_scores=True, **given)
    expected_context, expected_scores = reference(kind, arrays(layer), query, value, mask=mask, query_mask=query_mask)
    if query_mask is not None:
        expected_context *= query_mask[:, :, None]
    close(scores, expected_scores)
    close(context, expected_context)
    close(layer(query, value, **given), expected_context)


@pytest.mark.parametrize("kind", [name for name in KINDS if not KINDS[name].choosing])
def test_gradients_equal_finite_differences(rng, kind):
    query, value = query_and_value(rng)
    layer, share = made(kind, query, value, rng), normal(rng, B, T, V)
    found_inputs, found = layer_gradients(
        layer, {"query": query, "value": value}, lambda x: ops.sum(ops.multiply(x, share)), value_mask=VALUE_MASK
    )
    mask = np.repeat(VALUE_MASK[:, None, :], T, axis=1)

    def loss(values):
        return np.sum(reference(kind, values, values["query"], values["value"], mask=mask)[0] * share)

    values = {**arrays(layer), "query": query.astype("float64"), "value": value.astype("float64")}
    values = {name: x for name, x in values.items() if name in {**found, **found_inputs}}
    assert_slopes_equal(loss, values, {**found, **found_inputs}, rng)


def test_in_training_a_monotonic_attention_reads_the_expectation_with_noise(rng):
    query, value = query_and_value(rng)
    layer, twin = (MonotonicAttention(units=U, noise=2.0, seed=3) for _ in range(2))
    noise = numpy(twin.begin(value, 1, T, training=True)[0])  # (T, B, 1, S)
    assert noise.std() > 1
    layer(query, value)
    randomize(layer, rng)
    weights = KINDS["monotonic"].weights(arrays(layer))
    step, mask = expected_monotonic_step(normalized_bahdanau_logit), np.repeat(VALUE_MASK[:, None, :], T, axis=1)
    context, scores = layer(query, value, value_mask=VALUE_MASK, return_attention_scores=True, training=True)
    expected_context, expected_scores = read_in_turn(
        step, first_read, weights, query, value, mask=mask, noise=noise[:, :, 0]
    )
    close(scores, expected_scores)
    close(context, expected_context)


def test_noise_is_drawn_anew_in_each_call_of_a_training_and_in_no_other(rng):
    query, value = query_and_value(rng)
    layer = MonotonicAttention(units=U)
    first, second = (numpy(layer(query, value, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    assert layer.begin(value, 1, T) == MonotonicAttention(units=U, noise=0).begin(value, 1, T, training=True) == []


def test_the_choices_compared_here_are_of_all_kinds(rng):
    query, value = query_and_value(rng)
    layer = made("monotonic", query, value, rng)
    _, scores = layer(query, value, value_mask=VALUE_MASK, return_attention_scores=True)
    chosen = {int(row.argmax()) if row.any() else None for row in numpy(scores).reshape(-1, S)}
    assert None in chosen and len(chosen) > 2


# Masks


@KIND
def test_masked_steps_count_for_nothing(rng, kind):
    query, value = query_and_value(rng)
    layer, mask = made(kind, query, value, rng), gone(kind)
    masked, scores = layer(query, value, value_mask=mask, return_attention_scores=True)
    for row in range(B):
        rows = slice(row, row + 1)
        close(masked[rows], numpy(layer(query[rows], value[rows, mask[row]])))
    assert not numpy(scores)[np.repeat(~mask[:, None, :], T, axis=1)].any()


@KIND
def test_what_stands_at_masked_steps_is_never_read(rng, kind):
    query, value = query_and_value(rng)
    layer = made(kind, query, value, rng)
    other = np.where(VALUE_MASK[:, :, None], value, 1e3)
    close(layer(query, other, value_mask=VALUE_MASK), numpy(layer(query, value, value_mask=VALUE_MASK)))


@KIND
def test_masked_queries_are_as_good_as_gone(rng, kind):
    query, value = query_and_value(rng)
    layer = made(kind, query, value, rng)
    context = numpy(layer(query, value, query_mask=QUERY_MASK))
    assert not context[~QUERY_MASK].any()
    for row in range(B):
        rows = slice(row, row + 1)
        close(context[rows, QUERY_MASK[row]], numpy(layer(query[rows, QUERY_MASK[row]], value[rows])))


@KIND
def test_a_row_that_may_read_nothing_reads_zeros_with_finite_gradients(rng, kind):
    query, value = query_and_value(rng)
    layer = made(kind, query, value, rng)
    given = {"value_mask": np.array([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)}
    context, scores = layer(query, value, return_attention_scores=True, **given)
    assert not numpy(context)[0].any() and not numpy(scores)[0].any()
    assert np.isfinite(numpy(context)).all()
    if KINDS[kind].choosing:
        given["training"] = True  # by a choice no gradient goes
    found_inputs, found = layer_gradients(layer, {"query": query, "value": value}, ops.sum, **given)
    assert not found_inputs["query"][0].any() and not found_inputs["value"][0].any()
    assert all(np.isfinite(x).all() for x in [*found.values(), *found_inputs.values()])


@KIND
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("training", [False, True])
def test_large_logits_in_half_precision_give_no_nan(rng, kind, policy, training):
    query, value = query_and_value(rng)
    layer = KINDS[kind].make(dtype=policy)
    context, scores = layer(
        300 * query, 300 * value, value_mask=VALUE_MASK, return_attention_scores=True, training=training
    )
    assert layer.compute_dtype == keras.backend.standardize_dtype(context.dtype)
    assert np.isfinite(numpy(ops.cast(context, "float32"))).all()
    assert (numpy(ops.cast(scores, "float32")).sum(axis=-1) <= 1 + 1e-2).all()


@pytest.mark.parametrize("kind", REMEMBERING)
def test_what_is_remembered_stays_in_float32_or_is_a_count(rng, kind):
    layer = KINDS[kind].make(dtype="mixed_bfloat16")
    query, value = (ops.cast(x, "bfloat16") for x in query_and_value(rng))
    layer(query, value)
    # Weights are cast to half precision only within a call: around it, all of them are float32.
    keys = ops.cast(layer.project_key(ops.cast(value, "float32")), "float32")
    state = layer.first_state(keys, 1)
    query = ops.cast(query[:, :1], "float32")
    context, _, after = layer.attend(query, keys, value, None, state)
    assert keras.backend.standardize_dtype(context.dtype) == "bfloat16"
    for before, now in zip(state, after, strict=True):
        dtypes = {keras.backend.standardize_dtype(x.dtype) for x in (before, now)}
        assert dtypes in ({"float32"}, {"int32"})
        assert before.shape == now.shape


# In a cell


def attending(kind, rng, cell=None, **options):
    """A built cell with random weights, inputs (B, T, D), and a memory (B, S, V)."""
    cell = AttentionCell(cell or GRUCell(U), KINDS[kind].make(), **options)
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    Recurrent(cell)(inputs, memory=memory)
    return draw(cell, rng), inputs, memory


@KIND
def test_a_call_reads_what_a_cell_reads_for_the_same_queries(rng, kind):
    cell, inputs, memory = attending(kind, rng, input_feeding=False)
    masks = {"mask": QUERY_MASK, "memory_mask": VALUE_MASK}
    both, trace = Recurrent(cell, return_sequences=True, return_trace=True)(inputs, memory=memory, **masks)
    context, queries = numpy(both)[..., :V], numpy(both)[..., V:]
    found, scores = cell.attention(
        queries, memory, query_mask=QUERY_MASK, value_mask=VALUE_MASK, return_attention_scores=True
    )
    close(found, context * QUERY_MASK[:, :, None])
    close(numpy(scores) * QUERY_MASK[:, :, None], numpy(trace["attention_scores"]))


@KIND
@pytest.mark.parametrize(("attend", "input_feeding"), [("after", True), ("after", False), ("before", True)])
def test_steps_one_by_one_equal_the_sequence(rng, kind, attend, input_feeding):
    cell, inputs, memory = attending(kind, rng, attend=attend, input_feeding=input_feeding, attention_units=A)
    layer = Recurrent(cell, return_sequences=True, return_state=True)
    sequence, *last = layer(inputs, memory=memory, memory_mask=VALUE_MASK)
    states = cell.get_initial_state(batch_size=B)  # without what the attention remembers, which begins by itself
    for t in range(T):
        output, states = cell(inputs[:, t], states, memory=memory, memory_mask=VALUE_MASK)
        close(output, numpy(sequence)[:, t])
    for state, expected_state in zip(tree.flatten(states), last, strict=True):
        close(state, numpy(expected_state))


@KIND
@pytest.mark.parametrize(("attend", "input_feeding"), [("after", True), ("after", False), ("before", False)])
def test_masked_steps_of_inputs_and_memory_are_as_good_as_gone(rng, kind, attend, input_feeding):
    cell, inputs, memory = attending(kind, rng, attend=attend, input_feeding=input_feeding, attention_units=A)
    layer, memory_mask = Recurrent(cell, return_sequences=True), gone(kind)
    masked = numpy(layer(inputs, mask=QUERY_MASK, memory=memory, memory_mask=memory_mask))
    for row in range(B):
        rows = slice(row, row + 1)
        alone = layer(inputs[rows, QUERY_MASK[row]], memory=memory[rows, memory_mask[row]])
        close(alone, masked[rows, QUERY_MASK[row]])


@KIND
def test_beams_beside_each_other_share_a_row_of_the_memory_and_remember_each_for_itself(rng, kind):
    beams = 3
    cell, _, memory = attending(kind, rng, attention_units=A)
    repeated = [np.repeat(x, beams, axis=0) for x in (memory, VALUE_MASK)]
    prepared = cell.prepare_memory(memory, VALUE_MASK)
    shared = cell.get_initial_state(batch_size=B * beams, memory=prepared)
    alone = cell.get_initial_state(batch_size=B * beams, memory=cell.prepare_memory(*repeated))
    assert [x.shape for x in tree.flatten(shared)] == [x.shape for x in tree.flatten(alone)]
    for _ in range(3):
        inputs = normal(rng, B * beams, D)
        output, shared = cell(inputs, shared, memory, VALUE_MASK)
        expected_output, alone = cell(inputs, alone, *repeated)
        for a, b in zip(tree.flatten([output, shared]), tree.flatten([expected_output, alone]), strict=True):
            close(a, numpy(b))


@pytest.mark.parametrize("kind", REMEMBERING)
def test_a_sequence_in_two_parts_goes_on_where_it_was(rng, kind):
    cell, inputs, memory = attending(kind, rng, attention_units=A)
    layer = Recurrent(cell, return_sequences=True, return_state=True)
    whole, *_ = layer(inputs, memory=memory)
    first, *states = layer(inputs[:, :2], memory=memory)
    second, *_ = layer(inputs[:, 2:], memory=memory, initial_state=states)
    close(np.concatenate([numpy(first), numpy(second)], axis=1), numpy(whole))


@pytest.mark.tensorflow_only
@KIND
@pytest.mark.parametrize("how", ["open_shapes", "xla"])
def test_a_graph_of_open_shapes_and_one_by_xla_train_the_same(rng, kind, how):
    import tensorflow as tf

    cell, inputs, memory = attending(kind, rng, attention_units=A)
    layer = Recurrent(cell, return_sequences=True)

    def trained(inputs, memory, mask):
        with tf.GradientTape() as tape:
            tape.watch([inputs, memory])
            output = layer(inputs, memory=memory, memory_mask=mask, training=True)
            loss = tf.reduce_sum(output**2)
        found = tape.gradient(loss, [inputs, memory, *cell.trainable_variables])
        return [output, *map(tf.convert_to_tensor, found)]

    open_shapes = [
        tf.TensorSpec((None, None, D)),
        tf.TensorSpec((None, None, V)),
        tf.TensorSpec((None, None), "bool"),
    ]
    xla = how == "xla"
    graph = tf.function(trained, input_signature=None if xla else open_shapes, jit_compile=xla)
    given = [tf.constant(x) for x in (inputs, memory, VALUE_MASK)]
    for a, b in zip(graph(*given), trained(*given), strict=True):
        close(a, numpy(b), rtol=1e-3, atol=1e-4)


# Location


def test_a_memory_with_more_steps_than_there_are_places_raises(rng):
    query, value = query_and_value(rng)
    words = r"must not have more steps than `max_steps`\. Received: 5 steps, max_steps=4"
    with pytest.raises(ValueError, match=words):
        LuongAttention("location", max_steps=4)(query, value)
    with pytest.raises(ValueError, match=words):
        Recurrent(AttentionCell(GRUCell(U), LuongAttention("location", max_steps=4)))(query, memory=value)


def test_of_a_memory_that_is_longer_than_the_layer_was_built_for_the_end_is_not_read(rng):
    query, value = query_and_value(rng)
    layer = LuongAttention("location", max_steps=3)
    layer(query, value[:, :3])
    randomize(layer, rng)
    context, scores = layer(query, value, value_mask=VALUE_MASK, return_attention_scores=True)
    readable = VALUE_MASK & (np.cumsum(VALUE_MASK, axis=1) <= 3)
    close(context, numpy(layer(query, value, value_mask=readable)))
    assert not numpy(scores)[np.repeat(~readable[:, None, :], T, axis=1)].any()


@pytest.mark.tensorflow_only
def test_in_a_graph_of_open_shapes_the_end_of_a_longer_memory_is_not_read(rng):
    import tensorflow as tf

    query, value = query_and_value(rng)
    layer = LuongAttention("location", max_steps=3)
    layer(query, value[:, :3])
    read = tf.function(
        lambda *given: layer(*given, return_attention_scores=True),
        input_signature=[tf.TensorSpec((None, None, D)), tf.TensorSpec((None, None, V))],
    )
    context, scores = read(query, value)
    close(context, numpy(layer(query, value[:, :3])))
    assert not numpy(scores)[..., 3:].any()


# Local


def test_a_window_over_everything_is_global_attention(rng):
    query, value = query_and_value(rng)
    everywhere = LuongAttention("general")
    local = LocalAttention(everywhere, window=S)
    close(local(query, value, value_mask=VALUE_MASK), numpy(everywhere(query, value, value_mask=VALUE_MASK)))


def test_local_m_reads_no_further_than_its_window_and_zeros_past_the_end(rng):
    steps = S + 4
    query, value = normal(rng, B, steps, D), normal(rng, B, S, V)
    layer = LocalAttention("general", window=1)
    context, scores = layer(query, value, return_attention_scores=True)
    near = np.abs(np.arange(steps)[:, None] - np.arange(S)) <= 1  # (T, S)
    assert ((numpy(scores) > 0) == near).all()
    close(numpy(scores).sum(axis=-1), np.tile(near.any(axis=-1), (B, 1)))
    assert not numpy(context)[:, S + 1 :].any()
    found_inputs, found = layer_gradients(layer, {"query": query, "value": value}, ops.sum)
    assert all(np.isfinite(x).all() for x in [*found.values(), *found_inputs.values()])


@pytest.mark.parametrize("at_the_end", [False, True])
def test_local_p_falls_off_by_a_gaussian_around_the_position_that_is_predicted(at_the_end):
    window, steps = 4, 41
    layer = LocalAttention("general", window=window, alignment="predictive", units=U)
    query, value = np.ones((1, 1, D), "float32"), np.zeros((1, steps, V), "float32")  # alike for all steps
    layer(query, value)
    layer.position_kernel.assign(np.ones((D, U)))
    layer.position_energy.assign(np.full(U, 9.0 if at_the_end else -9.0))  # the sigmoid is 1, or 0
    scores = numpy(layer(query, value, return_attention_scores=True)[1])[0, 0]
    scores = scores[::-1] if at_the_end else scores
    distance = np.arange(steps) + (0 if at_the_end else 1)  # the last place is S, the first is 1
    near = distance <= window
    close(scores, np.where(near, np.exp(-(distance**2) / (2 * (window / 2) ** 2)) / near.sum(), 0))


# Monotonic


@pytest.mark.parametrize("certain", [False, True])
def test_the_closed_form_of_the_expectation_is_the_recursion_and_the_sum_over_paths(rng, certain):
    p, last = rng.random((T, S)), rng.dirichlet(np.ones(S), size=T)
    if certain:
        p[rng.random((T, S)) < 0.6] = 0
        p[rng.random((T, S)) < 0.4] = 1
    p, last = p.astype("float32"), last.astype("float32")
    found = expected(ops.convert_to_tensor(p), ops.convert_to_tensor(1 - p), ops.convert_to_tensor(last))
    close(found, [expected_alignment(*pair) for pair in zip(p, last, strict=True)])
    go_on = np.concatenate([np.zeros((T, 1), "float32"), 1 - p[:, :-1]], axis=-1)
    recursion = linear_recurrence_in_turn(ops.convert_to_tensor(go_on), ops.convert_to_tensor(last))
    close(found, p * numpy(recursion))


def test_where_chances_are_certain_the_expectation_is_the_choice(rng):
    query, value = normal(rng, B, 7, V), normal(rng, B, S, V)
    make = [MonotonicAttention("dot", hard_inference=hard, initial_score_bias=0.0) for hard in (True, False)]
    chosen, weighed = (layer(1e3 * query, value, value_mask=VALUE_MASK, return_attention_scores=True) for layer in make)
    close(weighed[1], numpy(chosen[1]))
    close(weighed[0], numpy(chosen[0]))
    assert set(np.unique(numpy(chosen[1]))) == {0, 1}


def test_a_choice_never_goes_back_and_after_none_there_is_none():
    last = np.eye(S, dtype="float32")[[0, 2, 2, 4]]
    chosen = np.array([[0, 1, 1, 0, 0], [1, 1, 0, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 0]], bool)
    found = numpy(first_chosen(ops.convert_to_tensor(chosen), ops.convert_to_tensor(last)))
    np.testing.assert_array_equal(found, np.eye(S)[[1, 3, 2, 4]] * [[1], [1], [1], [0]])
    after = first_chosen(ops.ones((4, S), "bool"), ops.convert_to_tensor(found))
    np.testing.assert_array_equal(numpy(after), found)


def test_a_lower_bias_looks_further_at_first(rng):
    query, value = normal(rng, B, 1, D), normal(rng, B, 41, V)
    looked = []
    for bias in (0.0, -2.0, -4.0):
        keras.utils.set_random_seed(0)
        layer = MonotonicAttention(units=U, initial_score_bias=bias, noise=0)
        _, scores = layer(query, value, return_attention_scores=True, training=True)
        assert numpy(layer.score_bias) == bias
        looked.append((numpy(scores)[:, 0] @ np.arange(41) / numpy(scores)[:, 0].sum(axis=-1)).mean())
    assert looked == sorted(looked) and looked[2] > 3 * looked[0]


# Location-sensitive


def test_without_its_filters_it_is_additive_attention(rng):
    query, value = query_and_value(rng)
    layer, additive = LocationSensitiveAttention(U, filters=2, kernel_size=3), BahdanauAttention(U)
    layer(query, value), additive(query, value)
    layer.filter_kernel.assign(np.zeros((3, 1, 2)))
    for name in ("query_kernel", "key_kernel", "energy"):
        getattr(layer, name).assign(getattr(additive, name))
    close(layer(query, value), numpy(additive(query, value)))


def test_the_first_step_of_a_sequence_sees_no_reading_before_it(rng):
    query, value = query_and_value(rng)
    layer, cumulative = (LocationSensitiveAttention(U, filters=2, kernel_size=3, cumulative=x) for x in (False, True))
    layer(query, value), cumulative(query, value)
    cumulative.set_weights(layer.get_weights())
    once, summed = numpy(layer(query, value)), numpy(cumulative(query, value))
    close(once[:, :2], summed[:, :2])  # of one step, the sum is the step itself
    assert np.abs(once[:, 2] - summed[:, 2]).max() > 1e-5


# Bad input

BAD = [
    (lambda: LocalAttention(window=0), r"`window` must be an integer of at least 1\. Received: window=0"),
    (lambda: LocalAttention(window=1.5), r"`window` must be an integer of at least 1\. Received: window=1\.5"),
    (
        lambda: LocalAttention(alignment="m"),
        r"`alignment` must be 'monotonic' or 'predictive'\. Received: alignment='m'",
    ),
    (lambda: LocalAttention(alignment="predictive"), r"`units`.*goes with these alone.*units=None"),
    (
        lambda: LocalAttention(units=U),
        r"`units`.*goes with these alone.*alignment='monotonic', score='general', units=13",
    ),
    (lambda: LocalAttention(alignment="predictive", units=0), r"`units` is a width.*Received: units=0"),
    (lambda: MonotonicAttention(), r"`units`.*goes with that alone.*score='normalized_bahdanau', units=None"),
    (lambda: MonotonicAttention("dot", units=U), r"`units`.*goes with that alone.*score='dot', units=13"),
    (lambda: MonotonicAttention(units=U, noise=-1), r"`noise` is a standard deviation.*Received: noise=-1"),
    (lambda: LocationSensitiveAttention(0), r"`units` is a width.*Received: units=0"),
    (lambda: LocationSensitiveAttention(U, filters=0), r"`filters` must be an integer of at least 1.*filters=0"),
    (lambda: LocationSensitiveAttention(U, kernel_size=0), r"`kernel_size` must be an integer of at least 1"),
    (lambda: LocationSensitiveAttention(U, kernel_size=4), r"`kernel_size` must be odd\. Received: kernel_size=4"),
]


@pytest.mark.parametrize(("make", "words"), BAD)
def test_settings_out_of_place_or_range_raise(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("wrap", [LocalAttention, MonotonicAttention])
def test_a_score_that_is_none_or_remembers_raises(wrap):
    with pytest.raises(ValueError, match=r"`score` must be one of 'bahdanau'.*attention such as.*score='location'"):
        wrap("location")
    with pytest.raises(ValueError, match=r"`score` must be one of .*Received: score=<Attention"):
        wrap(keras.layers.Attention())
    with pytest.raises(ValueError, match=r"`score`.*does not remember.*Received: score=<LocationSensitiveAttention"):
        wrap(LocationSensitiveAttention(U))


@KIND
def test_shapes_that_do_not_fit_raise(kind):
    make = KINDS[kind].make
    with pytest.raises(ValueError, match=r"`query` must have three axes.*Received: query_shape=\(2, 7\)"):
        make()(np.zeros((B, D)), np.zeros((B, S, D)))
    with pytest.raises(ValueError, match=r"`value` must have three axes.*Received: value_shape=\(2, 7\)"):
        make()(np.zeros((B, T, D)), np.zeros((B, D)))
    with pytest.raises(ValueError, match=r"one batch size.*query_shape=\(2, 3, 7\), value_shape=\(3, 5, 7\)"):
        make()(np.zeros((B, T, D)), np.zeros((B + 1, S, D)))
    with pytest.raises(ValueError, match=r"batch sizes must agree"):
        cell = AttentionCell(GRUCell(U), make())
        Recurrent(cell)(np.zeros((B, T, D)), memory=np.zeros((B + 1, S, D)))
