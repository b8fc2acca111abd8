"""What is drawn in a cell: masks of a sequence and of a step, against loops with the same draws."""

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_seqattn.layers import (
    AttentionCell,
    ElmanCell,
    GRUCell,
    JordanCell,
    LSTMCell,
    LuongAttention,
    Recurrent,
    StackedCells,
)
from tests.layers.kinds import EVERY_KIND
from tests.layers.paper_weights import arrays, numpy, randomize
from tests.reference import cells
from tests.reference.arrays import B, D, S, T, U, V, normal
from tests.reference.over_time import over_time

KIND = pytest.mark.parametrize("kind", EVERY_KIND)
RATES = {"dropout": 0.4, "recurrent_dropout": 0.3, "zoneout": 0.5}


def close(actual, expected):
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-4, atol=1e-5)


def made(rng, kind, **options):
    """A layer of a cell with options, and a twin of the cell that will draw what the layer will."""
    make = EVERY_KIND[kind][0]
    layer = Recurrent(make(U, seed=3, **options), return_sequences=True, return_state=True, return_trace=True)
    twin = make(U, seed=3, **options)
    layer.build((B, T, D))
    twin.build((B, D))
    return randomize(layer, rng), twin


def loop(kind, layer, inputs, input_mask=None, state_mask=None, keep=None):
    """The papers' steps with what was drawn: masks (B, D) and (B, U), and for each state what zoneout keeps."""
    _, step, from_layer, _ = EVERY_KIND[kind]
    weights, widths = from_layer(arrays(layer)), tree.flatten(layer.cell.state_size)
    first = [np.zeros((B, width)) for width in widths]
    count = [0] * B

    def one(x, states, row):
        w = weights if input_mask is None else cells.dropped(weights, input_mask[row], state_mask[row])
        t, count[row] = count[row], count[row] + 1
        kept = [0.0] * len(states) if keep is None else [k if np.isscalar(k) else k[t, row] for k in keep]
        return cells.zoneout_step(lambda x, states: step(w, x, states), kept, x, states)

    return over_time(one, inputs, first, first[0])


def assert_equal(results, expected):
    output, *states, trace = results
    expected_output, expected_states, expected_trace = expected
    close(output, expected_output)
    for state, expected_state in zip(states, expected_states, strict=True):
        close(state, expected_state)
    assert trace.keys() == expected_trace.keys()


@KIND
def test_dropout_equals_the_papers_step_with_the_drawn_masks(rng, kind):
    layer, twin = made(rng, kind, dropout=0.4, recurrent_dropout=0.3)
    inputs = normal(rng, B, T, D)
    assert not tree.flatten(twin.begin(B, D, T, training=True))
    expected = loop(kind, layer, inputs, numpy(twin.input_mask), numpy(twin.state_mask))
    assert_equal(layer(inputs, training=True), expected)


@KIND
@pytest.mark.parametrize("training", [True, False])
def test_zoneout_equals_the_papers_step_with_the_drawn_masks_and_their_mean_outside_training(rng, kind, training):
    rates = [0.5, 0.2] if EVERY_KIND[kind][3] == 2 else [0.5]
    layer, twin = made(rng, kind, **dict(zip(["zoneout", "cell_zoneout"], rates, strict=False)))
    inputs = normal(rng, B, T, D)
    noise = twin.begin(B, D, T, training=training)
    keep = [numpy(mask).astype("float64") for mask in noise] if training else rates
    assert_equal(layer(inputs, training=training), loop(kind, layer, inputs, keep=keep))


def test_only_the_cell_of_an_lstm_may_be_kept(rng):
    layer, twin = made(rng, "lstm", cell_zoneout=0.5)
    inputs = normal(rng, B, T, D)
    nothing, kept = twin.begin(B, D, T, training=True)
    assert nothing == ()
    expected = loop("lstm", layer, inputs, keep=[0.0, numpy(kept).astype("float64")])
    assert_equal(layer(inputs, training=True), expected)


@KIND
def test_nothing_is_dropped_outside_training(rng, kind):
    layer, _ = made(rng, kind, dropout=0.4, recurrent_dropout=0.3)
    inputs = normal(rng, B, T, D)
    assert_equal(layer(inputs), loop(kind, layer, inputs))


@KIND
def test_each_sequence_draws_anew_and_one_seed_draws_alike(rng, kind):
    inputs = normal(rng, B, T, D)
    (layer, _), (again, _) = (made(np.random.default_rng(0), kind, **RATES) for _ in range(2))
    outputs = [numpy(layer(inputs, training=True)[0]) for _ in range(2)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    for output in outputs:
        np.testing.assert_array_equal(numpy(again(inputs, training=True)[0]), output)


def test_what_is_drawn_has_the_rates_that_were_asked_for():
    cell = LSTMCell(64, dropout=0.25, recurrent_dropout=0.5, zoneout=0.1, cell_zoneout=0.6, seed=0)
    cell.build((None, 32))
    kept = cell.begin(500, 32, 10, training=True)
    for mask, rate in ((cell.input_mask, 0.25), (cell.state_mask, 0.5)):
        mask = numpy(mask)
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=1e-6)
        assert abs(mask.mean() - 1) < 0.03  # dropping keeps the mean
    for drawn, rate in zip(kept, (0.1, 0.6), strict=True):
        drawn = numpy(drawn)
        assert drawn.shape == (10, 500, 64)
        assert abs(drawn.mean() - rate) < 0.01
        assert (drawn[1:] != drawn[:-1]).any(axis=(1, 2)).all()  # each step by itself


@pytest.mark.parametrize("make", [ElmanCell, JordanCell, GRUCell, LSTMCell])
def test_without_rates_nothing_is_drawn_and_no_variable_is_made(make):
    cell = make(U)
    cell.build((B, D))
    assert cell.begin(B, D, T, training=True) == ()
    assert cell.input_mask is None and cell.state_mask is None
    assert len(cell.variables) == len(cell.weights)


def alone(cell, input_mask, state_mask):
    """Takes from a cell's weights what masks of one row leave of them, so that it needs no masks."""
    cell.kernel.assign(numpy(cell.kernel) * numpy(input_mask)[0][:, None])
    cell.recurrent_kernel.assign(numpy(cell.recurrent_kernel) * numpy(state_mask)[0][:, None])


@pytest.mark.parametrize("make", [GRUCell, LSTMCell])
@pytest.mark.parametrize(("attend", "input_feeding"), [("after", True), ("before", True), ("before", False)])
def test_one_mask_covers_inputs_and_what_attention_feeds(rng, make, attend, input_feeding):
    cell, twin = (make(U, dropout=0.4, recurrent_dropout=0.3, seed=3) for _ in range(2))
    layer = Recurrent(
        AttentionCell(cell, LuongAttention("general"), attention_units=5, attend=attend, input_feeding=input_feeding),
        return_sequences=True,
    )
    inputs, memory = normal(rng, 1, T, D), normal(rng, 1, S, V)
    layer(inputs, memory=memory)
    randomize(layer, rng)
    actual = numpy(layer(inputs, memory=memory, training=True))
    width = cell.kernel.shape[0]
    assert width == D + (V if attend == "before" else 0) + (5 if input_feeding else 0)
    twin.build((1, width))
    twin.begin(1, width, T, training=True)
    alone(cell, twin.input_mask, twin.state_mask)
    close(layer(inputs, memory=memory), actual)


@pytest.mark.parametrize("make", [ElmanCell, JordanCell, GRUCell, LSTMCell])
def test_in_the_rnn_of_keras_one_mask_serves_all_steps(rng, make):
    cell, twin = (make(U, dropout=0.4, recurrent_dropout=0.3, seed=3) for _ in range(2))
    layer, inputs = keras.layers.RNN(cell, return_sequences=True), normal(rng, 1, T, D)
    layer.build((1, T, D))
    twin.build((1, D))
    randomize(layer, rng)
    for _ in range(2):
        actual = numpy(layer(inputs, training=True))
        twin.begin(1, D, T, training=True)
        weights = cell.get_weights()
        alone(cell, twin.input_mask, twin.state_mask)
        expected = Recurrent(cell, return_sequences=True)(inputs)
        close(actual, numpy(expected))
        cell.set_weights(weights)
    plain = Recurrent(cell, return_sequences=True)(inputs)
    close(layer(inputs), numpy(plain))


def echo():
    """A cell whose output is its input, times the dropout mask."""
    return ElmanCell(D, activation="linear", kernel_initializer="identity", recurrent_initializer="zeros", dropout=0.5)


@pytest.mark.parametrize("stack", [StackedCells, keras.layers.StackedRNNCells])
@pytest.mark.parametrize("layer", [Recurrent, keras.layers.RNN])
def test_stacked_cells_drop_by_one_mask_each(stack, layer):
    layer = layer(stack([echo(), echo()]), return_sequences=True)
    for _ in range(2):
        output = numpy(layer(ops.ones((B, 5, D)), training=True))
        assert set(np.unique(output)) == {0, 4}
        np.testing.assert_array_equal(output, np.repeat(output[:, :1], 5, axis=1))
    close(layer(ops.ones((B, 5, D))), np.ones((B, 5, D)))


def test_the_rnn_of_keras_has_no_place_for_zoneout(rng):
    layer, inputs = keras.layers.RNN(LSTMCell(U, zoneout=0.1)), normal(rng, B, T, D)
    close(layer(inputs), numpy(Recurrent(layer.cell)(inputs)))
    with pytest.raises(ValueError, match=r"drawn anew at every step.*in `Recurrent`. Received: <LSTMCell"):
        layer(inputs, training=True)


@pytest.mark.parametrize("make", [ElmanCell, JordanCell, GRUCell, LSTMCell])
def test_a_single_step_in_training_drops_too(rng, make):
    cell, inputs = make(U, dropout=0.5), normal(rng, B, D)
    first, second = (numpy(cell(inputs, cell.get_initial_state(B), training=True)[0]) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    assert cell.input_mask is None  # nothing of it stays behind


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@KIND
def test_drawing_keeps_half_precision(rng, kind, policy):
    keras.config.set_dtype_policy(policy)
    try:
        cell = EVERY_KIND[kind][0](U, **RATES)
        layer = Recurrent(cell, return_sequences=True, return_state=True)
        outputs = layer(normal(rng, B, T, D), training=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {keras.backend.standardize_dtype(x.dtype) for x in outputs} == {layer.compute_dtype}
    assert all(np.isfinite(numpy(ops.cast(x, "float32"))).all() for x in outputs)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, True, None, "0.5"])
@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout", "zoneout", "cell_zoneout"])
def test_a_rate_out_of_range_raises(name, rate):
    with pytest.raises(ValueError, match=rf"`{name}` is a rate.*in \[0, 1\)\. Received: {name}={rate!r}"):
        LSTMCell(U, **{name: rate})


def test_weights_are_regularized_and_constrained_by_kind(rng):
    half = keras.regularizers.L2(0.5)
    layer = Recurrent(JordanCell(U, V, kernel_regularizer=half, recurrent_regularizer=half, bias_regularizer="l1"))
    layer.build((B, T, D))
    randomize(layer, rng)
    values = arrays(layer)
    squares = [np.sum(values[name] ** 2) / 2 for name in ("kernel", "recurrent_kernel", "output_kernel")]
    sums = [0.01 * np.abs(values[name]).sum() for name in ("bias", "output_bias")]
    np.testing.assert_allclose(sum(numpy(loss) for loss in layer.losses), sum(squares + sums), rtol=1e-4)

    cell = LSTMCell(U, kernel_constraint="non_neg", recurrent_constraint="max_norm", bias_constraint="non_neg")
    model = keras.Sequential([keras.Input((T, D)), Recurrent(cell)])
    model.compile("sgd", "mse")
    model.train_on_batch(normal(rng, B, T, D), normal(rng, B, U))
    assert numpy(cell.kernel).min() >= 0 and numpy(cell.bias).min() >= 0
    assert np.linalg.norm(numpy(cell.recurrent_kernel), axis=0).max() <= 2.001
