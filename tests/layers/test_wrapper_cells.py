"""`ResidualCell` and `DropoutCell` around cells of every sort, and stacks of cells that attend at any level."""

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_seqattn.layers import (
    AttentionCell,
    BahdanauAttention,
    DropoutCell,
    ElmanCell,
    GRUCell,
    LSTMCell,
    LuongAttention,
    Recurrent,
    ResidualCell,
    StackedCells,
)
from keras_seqattn.layers.recurrent.cell import stages
from tests.layers import paper_weights
from tests.layers.paper_weights import arrays, numpy, randomize
from tests.reference import attention, cells
from tests.reference.arrays import B, D, S, T, U, V, normal
from tests.reference.attention_cell import attention_step
from tests.reference.over_time import over_time

MASK = np.array([[1, 0, 1], [0, 1, 1]], bool)
MEMORY_MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)
EMPTY = np.array([[0, 0, 0], [1, 1, 1]], bool)


def attending(cell, units=D, kind="general", **options):
    """A cell that attends; its vectors are `units` wide."""
    read = BahdanauAttention(U) if kind == "bahdanau" else LuongAttention("general")
    return AttentionCell(cell, read, attention_units=units, **options)


# Cells whose outputs are as wide as their inputs, D.
CELLS = {
    "ours": lambda: LSTMCell(D),
    "options": lambda: LSTMCell(D, layer_norm=True, peephole=True),
    "keras": lambda: keras.layers.LSTMCell(D),
    "stacked": lambda: StackedCells([GRUCell(U), LSTMCell(D)]),
    "stacked_keras": lambda: keras.layers.StackedRNNCells([keras.layers.GRUCell(U), keras.layers.LSTMCell(D)]),
    "luong": lambda: attending(LSTMCell(U)),
    "luong_at_once": lambda: attending(LSTMCell(U), input_feeding=False),
    "bahdanau": lambda: attending(GRUCell(U), kind="bahdanau", attend="before"),
    "attending_keras": lambda: attending(keras.layers.GRUCell(U), attend="before"),
}
EVERY_CELL = pytest.mark.parametrize("name", CELLS)


def close(actual, expected):
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-4, atol=1e-5)


def given(cell, memory):
    """The memory and its mask, for a cell that attends."""
    return {"memory": memory, "memory_mask": MEMORY_MASK[: len(memory)]} if stages(cell).attends else {}


FLAGS = {"return_sequences": True, "return_state": True, "return_trace": True}


@EVERY_CELL
@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
def test_a_residual_cell_adds_its_inputs_to_the_output_alone(rng, name, mask):
    cell, inputs, memory = CELLS[name](), normal(rng, B, T, D), normal(rng, B, S, V)
    inputs[:, -1] = inputs[:, 0]
    plain = Recurrent(cell, **FLAGS)(inputs, mask=mask, **given(cell, memory))
    residual = Recurrent(ResidualCell(cell), **FLAGS)(inputs, mask=mask, **given(cell, memory))
    where = np.ones((B, T), bool) if mask is None else mask
    close(numpy(residual[0])[where], (numpy(plain[0]) + inputs)[where])
    for a, b in zip(tree.flatten(residual[1:]), tree.flatten(plain[1:]), strict=True):
        close(a, numpy(b))


@EVERY_CELL
@pytest.mark.parametrize("wrapper", [ResidualCell, lambda cell: DropoutCell(cell, 0.5, 0.5, 0.5)])
def test_steps_one_by_one_equal_the_sequence(rng, name, wrapper):
    cell, inputs, memory = wrapper(CELLS[name]()), normal(rng, B, T, D), normal(rng, B, S, V)
    output, *last, _ = Recurrent(cell, **FLAGS)(inputs, **given(cell, memory))
    states = cell.get_initial_state(batch_size=B)
    for t in range(T):
        step, states = cell(inputs[:, t], states, **given(cell, memory))
        close(step, numpy(output)[:, t])
    for a, b in zip(tree.flatten(states), last, strict=True):
        close(a, numpy(b))


@EVERY_CELL
@pytest.mark.parametrize("wrapper", [ResidualCell, lambda cell: DropoutCell(cell, 0.5, 0.5, 0.5)])
def test_padding_is_as_good_as_gone_and_a_row_of_it_gives_zeros(rng, name, wrapper):
    cell, inputs, memory = wrapper(CELLS[name]()), normal(rng, B, T, D), normal(rng, B, S, V)
    layer = Recurrent(cell, return_sequences=True)
    masked = numpy(layer(inputs, mask=MASK, **given(cell, memory)))
    for row in range(B):
        one = {} if not stages(cell).attends else {"memory": memory[row : row + 1, MEMORY_MASK[row]]}
        close(layer(inputs[row : row + 1, MASK[row]], **one), masked[row : row + 1, MASK[row]])
    output = numpy(layer(inputs, mask=EMPTY, **given(cell, memory)))
    assert not output[0].any() and output[1].all()


def last_output(cell, states):
    """Where the last output stands among the flat states, found without the layers' help."""
    if isinstance(cell, AttentionCell):
        return last_output(cell.cell, states[0])
    cells = getattr(cell, "cells", None)
    if cells:
        return sum(len(tree.flatten(state)) for state in states[:-1]) + last_output(cells[-1], states[-1])
    return 0


@EVERY_CELL
def test_a_dropout_cell_is_the_cell_with_masks_in_front_between_and_behind(rng, name):
    rates = {"dropout": 0.4, "state_dropout": 0.3, "output_dropout": 0.5, "seed": 3}
    cell, inputs, memory = CELLS[name](), normal(rng, B, T, D), normal(rng, B, S, V)
    wrapped, twin = (DropoutCell(cell, **rates) for _ in range(2))
    layer = Recurrent(wrapped, return_sequences=True, return_state=True)
    layer(inputs, **given(cell, memory))
    actual, *actual_states = layer(inputs, training=True, **given(cell, memory))

    prepared = stages(cell).prepare_memory(memory, MEMORY_MASK) if stages(cell).attends else None
    twin.begin(B, D, T, prepared, training=True)
    masks = [numpy(mask) for mask in (twin.input_mask, twin.state_mask, twin.output_mask)]
    assert all(mask.min() == 0 for mask in masks)
    assert [mask.shape for mask in masks] == [(B, D), (B, U if stages(cell).attends else D), (B, D)]
    states, where = stages(wrapped).get_initial_state(batch_size=B), last_output(cell, actual_states)
    if isinstance(cell, StackedCells | keras.layers.StackedRNNCells):
        where = 1
    for t in range(T):
        flat = [numpy(state) for state in tree.flatten(states)]
        flat[where] = flat[where] * masks[1]
        dropped = tree.pack_sequence_as(states, flat)
        output, states = cell(inputs[:, t] * masks[0], dropped, **given(cell, memory))
        close(numpy(actual)[:, t], numpy(output) * masks[2])
    for a, b in zip(actual_states, tree.flatten(states), strict=True):
        close(a, numpy(b))


@pytest.mark.parametrize("make", [lambda: GRUCell(U), lambda: keras.layers.GRUCell(U)], ids=["ours", "keras"])
def test_dropout_inside_attention_covers_what_attention_feeds(rng, make):
    inputs, memory = normal(rng, 1, T, D), normal(rng, 1, S, V)
    inner, twin = (DropoutCell(make(), dropout=0.5, seed=3) for _ in range(2))
    layer = Recurrent(attending(inner, 5, attend="before"), return_sequences=True)
    layer(inputs, memory=memory)
    actual = numpy(layer(inputs, memory=memory, training=True))
    width = D + V + 5
    twin.build((1, width))
    twin.begin(1, width, T, training=True)
    inner.cell.kernel.assign(numpy(inner.cell.kernel) * numpy(twin.input_mask)[0][:, None])
    close(layer(inputs, memory=memory), actual)


@pytest.mark.parametrize("make", [lambda u: GRUCell(u), lambda u: keras.layers.GRUCell(u)], ids=["ours", "keras"])
@pytest.mark.parametrize(
    ("attend", "input_feeding", "units"),
    [("after", True, D + 5), ("before", True, D + V + 5), ("before", False, D + V)],
)
def test_a_residual_cell_inside_attention_adds_all_that_it_reads(rng, make, attend, input_feeding, units):
    residual = ResidualCell(make(units))
    cell = attending(residual, 5, attend=attend, input_feeding=input_feeding)
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    layer = Recurrent(cell, return_sequences=True)
    layer(inputs, memory=memory)
    randomize(layer, rng)
    gru, luong = paper_weights.gru(arrays(residual.cell)), paper_weights.luong(arrays(cell.attention))

    def plus_inputs(x, states):
        h, states, trace = cells.gru_reset_after_step(gru, x, states)
        return h + x, states, trace

    def one(x, states, row):
        return attention_step(
            plus_inputs,
            lambda query: attention.read(attention.general_logit, luong, query, memory[row]),
            x,
            states,
            attend,
            input_feeding,
            numpy(cell.vector_kernel).astype("float64").T,
        )

    vector = np.zeros((B, 5))
    first = [[np.zeros((B, units))], vector] if input_feeding else [[np.zeros((B, units))]]
    expected, _, _ = over_time(one, inputs, first, vector)
    close(layer(inputs, memory=memory), expected)


def test_attention_finds_the_last_output_through_wrappers_and_stacks(rng):
    def stack():
        return StackedCells([LSTMCell(5), ElmanCell(U)])

    def wrapped():
        return DropoutCell(StackedCells([DropoutCell(LSTMCell(5)), DropoutCell(DropoutCell(ElmanCell(U)))]))

    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    outputs = []
    for make in (stack, wrapped):
        layer = Recurrent(attending(make(), attend="before"), return_sequences=True)
        layer(inputs, memory=memory)
        randomize(layer, np.random.default_rng(0))
        outputs.append(numpy(layer(inputs, memory=memory)))
    close(outputs[1], outputs[0])


@pytest.mark.parametrize("name", ["keras", "stacked_keras", "luong", "luong_at_once", "attending_keras"])
def test_wrapped_cells_train(rng, name):
    cell = StackedCells([ResidualCell(CELLS[name]()), DropoutCell(CELLS[name](), 0.2, 0.2, 0.2)])
    inputs, memory = keras.Input((T, D)), keras.Input((S, V))
    arguments = {"memory": memory} if stages(cell).attends else {}
    arrays = [normal(rng, B, T, D), normal(rng, B, S, V)]
    model = keras.Model([inputs, memory], Recurrent(cell)(inputs, **arguments))
    model.compile("adam", "mse", jit_compile=False)  # the conformance tests compile the wrappers by XLA
    losses = model.fit(arrays, normal(rng, B, D), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("name", ["ours", "options", "keras", "stacked", "stacked_keras"])
def test_wrappers_are_cells_of_keras_in_training_too(rng, name):
    inputs = normal(rng, B, T, D)
    for cell in (ResidualCell(CELLS[name]()), DropoutCell(CELLS[name](), 0.4, 0.3, 0.5)):
        layer = keras.layers.RNN(cell, return_sequences=True)
        close(layer(inputs), numpy(Recurrent(cell, return_sequences=True)(inputs)))
        assert np.isfinite(numpy(layer(inputs, training=True))).all()


def test_in_the_rnn_of_keras_a_dropout_cell_drops_by_one_mask():
    echo = keras.layers.SimpleRNNCell(
        D, activation="linear", kernel_initializer="identity", recurrent_initializer="zeros"
    )
    layer = keras.layers.RNN(DropoutCell(echo, dropout=0.5, output_dropout=0.5), return_sequences=True)
    output = numpy(layer(ops.ones((B, 5, D)), training=True))
    assert set(np.unique(output)) == {0, 4}
    np.testing.assert_array_equal(output, np.repeat(output[:, :1], 5, axis=1))


def test_the_rnn_of_keras_has_no_memory_to_read(rng):
    with pytest.raises(ValueError, match="`keras.layers.RNN` has no memory to read: run the cell in `Recurrent`"):
        cell = attending(GRUCell(U))
        cell.build((B, D), (B, S, V))
        keras.layers.RNN(cell)(normal(rng, B, T, D))


@pytest.mark.parametrize(
    "levels",
    [
        ["luong", "ours"],
        ["ours", "luong"],
        ["ours", "bahdanau", "keras"],
        ["luong", "bahdanau"],
        ["luong_at_once", "ours", "luong_at_once"],
        ["keras", "attending_keras", "luong"],
    ],
    ids="-".join,
)
@pytest.mark.parametrize("wrap", ["bare", "wrapped"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
def test_cells_that_attend_stack_at_any_level(rng, levels, wrap, mask):
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    made = [CELLS[level]() for level in levels]
    if wrap == "wrapped":
        made = [ResidualCell(cell) if index % 2 else DropoutCell(cell, 0.5) for index, cell in enumerate(made)]
    x, states, trace = inputs, [], {}
    for index, cell in enumerate(made):
        x, *last, values = Recurrent(cell, **FLAGS)(x, mask=mask, **given(cell, memory))
        states += last
        trace.update({f"{index}/{name}": value for name, value in values.items()})
    output, *last, values = Recurrent(StackedCells(made), **FLAGS)(
        inputs, mask=mask, memory=memory, memory_mask=MEMORY_MASK
    )
    close(output, numpy(x))
    for a, b in zip(last, states, strict=True):
        close(a, numpy(b))
    assert values.keys() == trace.keys()
    for name, value in values.items():
        close(value, numpy(trace[name]))


def test_a_residual_cell_of_two_widths_raises():
    words = r"must have one width\. Received: inputs_shape=\(2, 7\), output width 13 of cell=<GRUCell"
    with pytest.raises(ValueError, match=words):
        ResidualCell(GRUCell(U)).build((B, D))
    with pytest.raises(ValueError, match=words.replace("2", "None")):
        Recurrent(ResidualCell(GRUCell(U)))(keras.Input((T, D)))


@pytest.mark.parametrize("wrapper", [ResidualCell, DropoutCell])
def test_what_is_no_cell_raises(wrapper):
    with pytest.raises(ValueError, match=f"`{wrapper.__name__}` runs a recurrent cell.*Received: cell='gru'"):
        wrapper("gru")


@pytest.mark.parametrize("name", ["dropout", "state_dropout", "output_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1, True, None])
def test_a_rate_out_of_range_raises(name, rate):
    with pytest.raises(ValueError, match=rf"`{name}` is a rate.*in \[0, 1\)\. Received: {name}={rate}"):
        DropoutCell(GRUCell(U), **{name: rate})
