import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_seqattn.layers import (
    AttentionCell,
    BahdanauAttention,
    Bidirectional,
    ElmanCell,
    GRUCell,
    LSTMCell,
    LuongAttention,
    Recurrent,
    StackedCells,
)
from tests.layers import paper_weights
from tests.layers.gradients import assert_slopes_equal, layer_gradients
from tests.layers.paper_weights import numpy, randomize
from tests.reference import attention, cells
from tests.reference.arrays import B, D, S, T, U, V, normal
from tests.reference.attention_cell import attention_step
from tests.reference.over_time import over_time

A = 17  # width of the attention vector
MEMORY_MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)
MASK = np.array([[1, 0, 1], [0, 1, 0]], bool)
EVERY_MODE = pytest.mark.parametrize(
    ("attend", "input_feeding", "attention_units"),
    [(attend, feeding, units) for attend in ("after", "before") for feeding in (True, False) for units in (A, None)],
)
MODES = pytest.mark.parametrize(
    ("attend", "input_feeding", "attention_units"),
    [("after", True, A), ("after", False, None), ("after", False, A), ("before", True, None), ("before", False, A)],
)
# name: (cell, its reference, its weights, its number of states)
CELLS = {
    "gru": (GRUCell, cells.gru_reset_after_step, paper_weights.gru, 1),
    "lstm": (LSTMCell, cells.lstm_step, paper_weights.lstm, 2),
}
# name: (attention, its reference, its weights)
ATTENTIONS = {
    "bahdanau": (lambda: BahdanauAttention(U), attention.bahdanau_logit, paper_weights.bahdanau),
    "general": (lambda: LuongAttention("general"), attention.general_logit, paper_weights.luong),
}


def close(actual, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(numpy(actual), expected, rtol=rtol, atol=atol)


def made(rng, cell="gru", kind="general", **options):
    """A built cell with weights drawn at random, its inputs (B, T, D) and its memory (B, S, V)."""
    cell = AttentionCell(CELLS[cell][0](U), ATTENTIONS[kind][0](), **options)
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    Recurrent(cell)(inputs, memory=memory)
    return randomize(cell, rng), inputs, memory


def reference(values, inputs, memory, mask, cell, kind, attend, input_feeding, attention_units):
    """Outputs, last states and trace by the loop over the papers' steps; `values` are weights by their paths' ends."""
    _, step, from_cell, num_states = CELLS[cell]
    _, logit, from_attention = ATTENTIONS[kind]
    parts = {"cell": {}, "attention": {}}
    for path, value in values.items():
        part, _, name = path.partition("/")
        if name:
            parts[part][name] = value
    cell_weights, attention_weights = from_cell(parts["cell"]), from_attention(parts["attention"])
    W_c = values["vector_kernel"].T if attention_units else None
    zeros = np.zeros((len(inputs), U))
    vector = np.zeros((len(inputs), attention_units or V + U))

    def one(x, states, row):
        return attention_step(
            lambda x, inner: step(cell_weights, x, inner),
            lambda query: attention.read(
                logit, attention_weights, query, memory[row], mask=None if mask is None else MEMORY_MASK[row]
            ),
            x,
            states,
            attend,
            input_feeding,
            W_c,
        )

    first = [[zeros] * num_states, vector] if input_feeding else [[zeros] * num_states]
    return over_time(one, inputs, first, vector, mask)


def weights_of(cell):
    """The weights of an attention cell in float64, by part and name."""
    parts = [("cell/", cell.cell.weights), ("attention/", cell.attention.weights)]
    values = {f"{part}{w.name}": numpy(w).astype("float64") for part, weights in parts for w in weights}
    return values | (
        {} if cell.attention_units is None else {"vector_kernel": numpy(cell.vector_kernel).astype("float64")}
    )


@pytest.mark.parametrize(("cell", "kind"), [("gru", "bahdanau"), ("lstm", "general")])
@EVERY_MODE
def test_vectors_states_and_trace_equal_the_papers_equations(rng, cell, kind, attend, input_feeding, attention_units):
    mode = {"attend": attend, "input_feeding": input_feeding, "attention_units": attention_units}
    layer_cell, inputs, memory = made(rng, cell, kind, **mode)
    expected, expected_states, expected_trace = reference(
        weights_of(layer_cell), inputs, memory, MASK, cell, kind, **mode
    )
    flags = {"return_sequences": True, "return_state": True, "return_trace": True}
    output, *states, trace = Recurrent(layer_cell, **flags)(inputs, mask=MASK, memory=memory, memory_mask=MEMORY_MASK)
    close(output, expected)
    for state, expected_state in zip(states, tree.flatten(expected_states), strict=True):
        close(state, expected_state)
    assert trace.keys() == expected_trace.keys()
    for name, value in trace.items():
        close(value, expected_trace[name])
    close(Recurrent(layer_cell)(inputs, mask=MASK, memory=memory, memory_mask=MEMORY_MASK), expected[:, -1])


@pytest.mark.parametrize(
    "mode",
    [
        {"attend": "after", "input_feeding": True, "attention_units": A},
        {"attend": "after", "input_feeding": False, "attention_units": A},
        {"attend": "before", "input_feeding": False, "attention_units": None},
    ],
    ids=["luong", "at_once", "bahdanau"],
)
def test_gradients_equal_finite_differences(rng, mode):
    kind = "bahdanau" if mode["attend"] == "before" else "general"
    cell, inputs, memory = made(rng, "gru", kind, **mode)
    layer = Recurrent(cell, return_sequences=True)
    layer(inputs, memory=memory)
    share = normal(rng, B, T, mode["attention_units"] or V + U)
    found_inputs, by_name = layer_gradients(
        layer,
        {"inputs": inputs, "memory": memory},
        lambda x: ops.sum(ops.multiply(x, share)),
        mask=MASK,
        memory_mask=MEMORY_MASK,
    )
    names = {w.name for w in cell.cell.weights}
    found = {
        name if name == "vector_kernel" else f"{'cell' if name in names else 'attention'}/{name}": gradient
        for name, gradient in by_name.items()
    }

    def loss(values):
        return np.sum(reference(values, values["inputs"], values["memory"], MASK, "gru", kind, **mode)[0] * share)

    values = {**weights_of(cell), "inputs": inputs.astype("float64"), "memory": memory.astype("float64")}
    assert found.keys() | found_inputs.keys() == values.keys()
    assert_slopes_equal(loss, values, {**found, **found_inputs}, rng, directions=2)


@MODES
def test_steps_one_by_one_equal_the_sequence(rng, attend, input_feeding, attention_units):
    cell, inputs, memory = made(rng, attend=attend, input_feeding=input_feeding, attention_units=attention_units)
    flags = {"return_sequences": True, "return_state": True}
    sequence, *last = Recurrent(cell, **flags)(inputs, memory=memory, memory_mask=MEMORY_MASK)
    states = cell.get_initial_state(batch_size=B)
    for t in range(T):
        output, states = cell(inputs[:, t], states, memory=memory, memory_mask=MEMORY_MASK)
        close(output, numpy(sequence)[:, t])
    for state, expected in zip(tree.flatten(states), last, strict=True):
        close(state, numpy(expected))


@MODES
def test_beams_beside_each_other_share_a_row_of_the_memory(rng, attend, input_feeding, attention_units):
    beams = 3
    cell, _, memory = made(rng, attend=attend, input_feeding=input_feeding, attention_units=attention_units)
    inputs = normal(rng, B * beams, D)
    states = tree.map_structure(lambda x: normal(rng, *x.shape), cell.get_initial_state(batch_size=B * beams))
    shared = cell(inputs, states, memory=memory, memory_mask=MEMORY_MASK)
    repeated = [np.repeat(x, beams, axis=0) for x in (memory, MEMORY_MASK)]
    for a, b in zip(tree.flatten(shared), tree.flatten(cell(inputs, states, *repeated)), strict=True):
        close(a, numpy(b))


@MODES
def test_masked_steps_of_inputs_and_memory_are_as_good_as_gone(rng, attend, input_feeding, attention_units):
    cell, inputs, memory = made(rng, attend=attend, input_feeding=input_feeding, attention_units=attention_units)
    layer = Recurrent(cell, return_sequences=True, return_state=True)
    masked = [numpy(x) for x in tree.flatten(layer(inputs, mask=MASK, memory=memory, memory_mask=MEMORY_MASK))]
    for row in range(B):
        rows = slice(row, row + 1)
        alone = tree.flatten(layer(inputs[rows, MASK[row]], memory=memory[rows, MEMORY_MASK[row]]))
        close(alone[0], masked[0][rows, MASK[row]])
        for state, expected in zip(alone[1:], masked[1:], strict=True):
            close(state, expected[rows])


@MODES
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_row_without_any_step_gives_zeros_with_finite_gradients(
    rng, attend, input_feeding, attention_units, go_backwards
):
    cell, inputs, memory = made(rng, attend=attend, input_feeding=input_feeding, attention_units=attention_units)
    mask = np.array([[0, 0, 0], [0, 1, 1]], bool)
    for sequences in (False, True):
        layer = Recurrent(cell, return_sequences=sequences, go_backwards=go_backwards)
        output = numpy(layer(inputs, mask=mask, memory=memory))
        assert not output[0].any()
        assert output[1].any()
    found_inputs, found = layer_gradients(layer, {"inputs": inputs, "memory": memory}, ops.sum, mask=mask)
    assert not found_inputs["inputs"][0].any()
    assert all(np.isfinite(x).all() for x in [*found.values(), *found_inputs.values()])


@MODES
def test_a_memory_without_any_step_is_read_as_zeros_with_finite_gradients(rng, attend, input_feeding, attention_units):
    cell, inputs, memory = made(rng, attend=attend, input_feeding=input_feeding, attention_units=attention_units)
    layer = Recurrent(cell, return_sequences=True, return_trace=True)
    nothing = np.zeros((B, S), bool)
    output, trace = layer(inputs, memory=memory, memory_mask=nothing)
    assert not numpy(trace["attention_scores"]).any()
    close(output, numpy(layer(inputs, memory=np.zeros_like(memory))[0]))
    found_inputs, found = layer_gradients(
        layer, {"inputs": inputs, "memory": memory}, lambda x: ops.sum(x[0]), memory_mask=nothing
    )
    assert not found_inputs["memory"].any()
    assert all(np.isfinite(x).all() for x in [*found.values(), *found_inputs.values()])


@MODES
def test_a_trace_changes_no_output(rng, attend, input_feeding, attention_units):
    cell, inputs, memory = made(rng, attend=attend, input_feeding=input_feeding, attention_units=attention_units)
    plain = Recurrent(cell)(inputs, mask=MASK, memory=memory)
    close(Recurrent(cell, return_trace=True)(inputs, mask=MASK, memory=memory)[0], numpy(plain))


@pytest.mark.parametrize("attend", ["after", "before"])
def test_a_cell_of_keras_attends_as_ours_of_the_same_weights(rng, attend):
    ours, inputs, memory = made(rng, "lstm", attend=attend, attention_units=A)
    theirs = AttentionCell(keras.layers.LSTMCell(U), LuongAttention("general"), attend=attend, attention_units=A)
    Recurrent(theirs)(inputs, memory=memory)
    theirs.set_weights(ours.get_weights())
    close(
        Recurrent(theirs, return_sequences=True)(inputs, memory=memory),
        numpy(Recurrent(ours, return_sequences=True)(inputs, memory=memory)),
    )


@MODES
def test_a_cell_of_keras_with_dropout_trains(rng, attend, input_feeding, attention_units):
    mode = {"attend": attend, "input_feeding": input_feeding, "attention_units": attention_units}
    cell = AttentionCell(
        keras.layers.LSTMCell(U, dropout=0.5, recurrent_dropout=0.5), LuongAttention("general"), **mode
    )
    layer, inputs, memory = Recurrent(cell, return_sequences=True), normal(rng, B, T, D), normal(rng, B, S, V)
    layer(inputs, memory=memory)
    first, second = (numpy(layer(inputs, memory=memory, training=True)) for _ in range(2))
    assert np.isfinite(first).all() and np.abs(first - second).max() > 0


def test_dropout_in_a_cell_of_keras_is_one_mask_for_all_steps():
    dropping = keras.layers.SimpleRNNCell(
        U, activation="linear", kernel_initializer="ones", recurrent_initializer="zeros", dropout=0.5
    )
    cell = AttentionCell(dropping, LuongAttention("general"), attend="before", input_feeding=False)
    output = Recurrent(cell, return_sequences=True)(ops.ones((B, T, D)), memory=ops.zeros((B, S, V)), training=True)
    np.testing.assert_array_equal(numpy(output), np.repeat(numpy(output)[:, :1], T, axis=1))


@pytest.mark.parametrize("attend", ["after", "before"])
def test_stacked_cells_are_asked_by_their_top(rng, attend):
    below, above = ElmanCell(D), GRUCell(U)
    cell = AttentionCell(StackedCells([below, above]), BahdanauAttention(U), attention_units=A, attend=attend)
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    layer = Recurrent(cell, return_sequences=True)
    layer(inputs, memory=memory)
    randomize(layer, rng)
    steps = [
        lambda x, states: cells.elman_step(paper_weights.elman(paper_weights.arrays(below)), x, states),
        lambda x, states: cells.gru_reset_after_step(paper_weights.gru(paper_weights.arrays(above)), x, states),
    ]
    attention_weights = paper_weights.bahdanau(paper_weights.arrays(cell.attention))

    def one(x, states, row):
        return attention_step(
            lambda x, inner: cells.stacked_step(steps, x, inner),
            lambda query: attention.read(attention.bahdanau_logit, attention_weights, query, memory[row]),
            x,
            states,
            attend,
            True,
            numpy(cell.vector_kernel).astype("float64").T,
            hidden=lambda inner: inner[1][0],
        )

    vector = np.zeros((B, A))
    expected, _, _ = over_time(one, inputs, [[[np.zeros((B, D))], [np.zeros((B, U))]], vector], vector)
    close(layer(inputs, memory=memory), expected)


@MODES
def test_an_attending_cell_stacks_below_another(rng, attend, input_feeding, attention_units):
    cell, inputs, memory = made(rng, attend=attend, input_feeding=input_feeding, attention_units=attention_units)
    above = LSTMCell(D)
    masks = {"mask": MASK, "memory_mask": MEMORY_MASK}
    stacked = Recurrent(StackedCells([cell, above]), return_sequences=True)(inputs, memory=memory, **masks)
    x = Recurrent(cell, return_sequences=True)(inputs, memory=memory, **masks)
    close(stacked, numpy(Recurrent(above, return_sequences=True)(x, mask=MASK)))


@MODES
def test_an_attending_cell_stacks_on_another(rng, attend, input_feeding, attention_units):
    inputs, memory, below = normal(rng, B, T, 5), normal(rng, B, S, V), LSTMCell(D)
    x = Recurrent(below, return_sequences=True)(inputs, mask=MASK)
    cell, _, _ = made(rng, attend=attend, input_feeding=input_feeding, attention_units=attention_units)
    expected = Recurrent(cell, return_sequences=True)(x, memory=memory, mask=MASK, memory_mask=MEMORY_MASK)
    stacked = Recurrent(StackedCells([below, cell]), return_sequences=True)
    close(stacked(inputs, memory=memory, mask=MASK, memory_mask=MEMORY_MASK), numpy(expected))


def test_both_directions_read_the_memory(rng):
    cell, inputs, memory = made(rng, attention_units=A)
    layer = Bidirectional(Recurrent(cell, return_sequences=True))
    output = layer(inputs, memory=memory, mask=MASK, memory_mask=MEMORY_MASK)
    given = {"memory": memory, "mask": MASK, "memory_mask": MEMORY_MASK}
    forward, backward = layer.layer(inputs, **given), layer.backward_layer(inputs, **given)
    close(output, np.concatenate([numpy(forward), numpy(backward)[:, ::-1]], axis=-1))


def test_the_memory_is_projected_once_a_sequence(rng, monkeypatch):
    cell, inputs, memory = made(rng, attention_units=A)
    calls, project_key = [], LuongAttention.project_key
    monkeypatch.setattr(LuongAttention, "project_key", lambda self, key: calls.append(1) or project_key(self, key))
    Recurrent(cell, return_sequences=True)(inputs, memory=memory)
    assert len(calls) == 1


def test_logits_past_the_largest_float16_give_no_nan(rng):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        cell = AttentionCell(GRUCell(V), LuongAttention("dot"), attention_units=A)
        layer = Recurrent(cell, return_sequences=True, return_trace=True)
        output, trace = layer(normal(rng, B, T, D), memory=6e4 * np.sign(normal(rng, B, S, V)), memory_mask=MEMORY_MASK)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(numpy(output)).all()
    np.testing.assert_allclose(numpy(trace["attention_scores"]).sum(axis=-1), 1, atol=1e-2)


def test_the_width_without_attention_units_is_known_when_built(rng):
    cell = AttentionCell(GRUCell(U), LuongAttention("general"))
    with pytest.raises(ValueError, match="Without `attention_units` the output width is known only when"):
        cell.output_size  # noqa: B018
    cell.build((B, D), (B, S, V))
    assert cell.output_size == V + U


def test_wrong_parts_raise():
    with pytest.raises(ValueError, match="`AttentionCell` runs a recurrent cell.*Received: cell="):
        AttentionCell(keras.layers.Dense(U), LuongAttention())
    with pytest.raises(ValueError, match="`attention` must be a `MemoryAttention`.*Received: attention="):
        AttentionCell(GRUCell(U), keras.layers.Attention())
    with pytest.raises(ValueError, match="`cell` must not attend itself.*Received: cell="):
        AttentionCell(AttentionCell(GRUCell(U), LuongAttention()), LuongAttention())
    with pytest.raises(ValueError, match="`attend` must be 'after' or 'before'. Received: attend='during'"):
        AttentionCell(GRUCell(U), LuongAttention(), attend="during")
    with pytest.raises(ValueError, match=r"`attention_units` is a width.*at least 1\. Received: attention_units=0"):
        AttentionCell(GRUCell(U), LuongAttention(), attention_units=0)
