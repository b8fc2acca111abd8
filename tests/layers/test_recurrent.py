import itertools

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_seqattn.layers import (
    AttentionCell,
    Bidirectional,
    DropoutCell,
    ElmanCell,
    GRUCell,
    JordanCell,
    LSTMCell,
    LuongAttention,
    Recurrent,
    ResidualCell,
    StackedCells,
)
from keras_seqattn.layers.recurrent.cell import RecurrentCell
from tests.layers.gradients import assert_slopes_equal, layer_gradients
from tests.layers.kinds import EVERY_KIND, KINDS, states_of
from tests.layers.paper_weights import arrays, numpy, randomize
from tests.reference.arrays import B, D, S, T, U, V, normal
from tests.reference.over_time import run

KIND = pytest.mark.parametrize("kind", KINDS)
# (B, T): padding on the right and on the left, in between, and a row without any step.
MASKS = {
    "ends": np.array([[1, 1, 0], [0, 1, 1]], bool),
    "holes": np.array([[1, 0, 1], [0, 1, 0]], bool),
    "empty": np.array([[0, 0, 0], [1, 1, 1]], bool),
}


def close(actual, expected):
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(("mask", "go_backwards"), [(None, False), *((mask, True) for mask in MASKS), ("holes", False)])
def test_outputs_states_and_trace_equal_the_loop_over_the_papers_steps(rng, kind, mask, go_backwards):
    make, step, from_layer, num_states = EVERY_KIND[kind]
    flags = {"return_state": True, "return_trace": True, "go_backwards": go_backwards}
    layer = Recurrent(make(U), return_sequences=True, **flags)
    mask, inputs = MASKS.get(mask), normal(rng, B, T, D)
    first = states_of(layer.cell, rng)
    layer(inputs)
    randomize(layer, rng)
    output, *states, trace = layer(inputs, initial_state=first, mask=mask)
    expected, expected_states, expected_trace = run(
        step, from_layer(arrays(layer)), inputs, num_states, first, mask, go_backwards
    )
    close(output, expected)
    for state, expected_state in zip(states, expected_states, strict=True):
        close(state, expected_state)
    assert trace.keys() == expected_trace.keys()
    for name, value in trace.items():
        close(value, expected_trace[name])
    last, *_ = Recurrent(layer.cell, **flags)(inputs, initial_state=first, mask=mask)
    close(last, expected[:, -1])


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_gradients_through_time_and_mask_equal_finite_differences(rng, kind):
    make, step, from_layer, num_states = EVERY_KIND[kind]
    mask, inputs = MASKS["holes"], normal(rng, B, T, D)
    layer = Recurrent(make(U), return_sequences=True)
    share = normal(rng, *layer(inputs).shape)
    randomize(layer, rng)
    found_inputs, found = layer_gradients(
        layer, {"inputs": inputs}, lambda x: ops.sum(ops.multiply(x, share)), mask=mask
    )

    def loss(values):
        return np.sum(run(step, from_layer(values), values["inputs"], num_states, mask=mask)[0] * share)

    assert_slopes_equal(loss, {**arrays(layer), "inputs": inputs.astype("float64")}, {**found, **found_inputs}, rng)


@KIND
def test_a_trace_changes_no_output(rng, kind):
    cell, inputs, mask = KINDS[kind][0](U), normal(rng, B, T, D), MASKS["holes"]
    for sequences in (False, True):
        plain = Recurrent(cell, return_sequences=sequences)(inputs, mask=mask)
        traced, _ = Recurrent(cell, return_sequences=sequences, return_trace=True)(inputs, mask=mask)
        close(traced, numpy(plain))


@KIND
def test_reading_backwards_is_reading_the_flipped_inputs(rng, kind):
    cell, inputs, mask = KINDS[kind][0](U), normal(rng, B, T, D), MASKS["holes"]
    flags = {"return_sequences": True, "return_state": True, "return_trace": True}
    backwards = Recurrent(cell, go_backwards=True, **flags)(inputs, mask=mask)
    flipped = Recurrent(cell, **flags)(inputs[:, ::-1], mask=mask[:, ::-1])
    for a, b in zip(tree.flatten(backwards), tree.flatten(flipped), strict=True):
        close(a, numpy(b))


def test_masked_steps_of_a_sequence_are_zero_when_asked(rng):
    cell, inputs = GRUCell(U), normal(rng, B, T, D)
    for go_backwards in (False, True):
        for mask in MASKS.values():
            flags = {"return_sequences": True, "go_backwards": go_backwards}
            zeroed = numpy(Recurrent(cell, zero_output_for_mask=True, **flags)(inputs, mask=mask))
            repeated = numpy(Recurrent(cell, **flags)(inputs, mask=mask))
            seen = mask[:, ::-1] if go_backwards else mask
            np.testing.assert_allclose(zeroed, repeated * seen[:, :, None])


def test_a_mask_of_numbers_means_what_a_mask_of_truth_values_means(rng):
    layer, inputs = Recurrent(GRUCell(U)), normal(rng, B, T, D)
    close(layer(inputs, mask=MASKS["holes"].astype("float32")), numpy(layer(inputs, mask=MASKS["holes"])))


def masked_inputs(rng):
    """Inputs whose Keras mask is MASKS["ends"], and that mask."""
    inputs = np.abs(normal(rng, B, T, D)) * MASKS["ends"][:, :, None]
    return keras.layers.Masking()(inputs), MASKS["ends"]


def test_the_mask_that_inputs_carry_is_the_mask(rng):
    inputs, mask = masked_inputs(rng)
    layer = Recurrent(GRUCell(U), return_sequences=True)
    close(layer(inputs), numpy(layer(numpy(inputs), mask=mask)))


def test_the_mask_that_inputs_carry_counts_beside_an_initial_state(rng):
    inputs, mask = masked_inputs(rng)
    layer, first = Recurrent(GRUCell(U), return_sequences=True), normal(rng, B, U)
    close(layer(inputs, initial_state=first), numpy(layer(numpy(inputs), initial_state=first, mask=mask)))


def test_the_masks_that_inputs_and_memory_carry_count_together(rng):
    inputs, mask = masked_inputs(rng)
    memory_mask = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]], bool)
    memory = keras.layers.Masking()(np.abs(normal(rng, B, S, V)) * memory_mask[:, :, None])
    layer = Recurrent(AttentionCell(GRUCell(U), LuongAttention("general"), attention_units=U), return_sequences=True)
    explicit = layer(numpy(inputs), memory=numpy(memory), mask=mask, memory_mask=memory_mask)
    close(layer(inputs, memory=memory), numpy(explicit))


@pytest.mark.parametrize("go_backwards", [False, True])
def test_the_mask_goes_on_with_the_sequence(rng, go_backwards):
    mask, inputs = np.array([[1, 0, 0], [1, 1, 1]], bool), normal(rng, B, T, D)
    below = Recurrent(GRUCell(U), return_sequences=True, go_backwards=go_backwards)
    above = Recurrent(LSTMCell(V))
    actual = numpy(above(below(keras.layers.Masking()(inputs * mask[:, :, None]))))
    for row in range(B):
        close(actual[row : row + 1], numpy(above(below(inputs[row : row + 1, mask[row]]))))


def test_only_a_sequence_carries_a_mask_on():
    mask = ops.convert_to_tensor(MASKS["ends"])
    assert Recurrent(GRUCell(U)).compute_mask(None, mask) is None
    (first,) = Recurrent(GRUCell(U), return_sequences=True, return_state=True).compute_mask(None, mask)
    np.testing.assert_array_equal(numpy(first), MASKS["ends"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.SimpleRNNCell(U),
        lambda: keras.layers.GRUCell(U),
        lambda: keras.layers.LSTMCell(U),
        lambda: keras.layers.StackedRNNCells([keras.layers.GRUCell(V), keras.layers.LSTMCell(U)]),
    ],
    ids=["simple", "gru", "lstm", "stacked"],
)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_cell_of_keras_runs_as_in_keras(rng, make, go_backwards):
    flags = {"return_sequences": True, "return_state": True, "go_backwards": go_backwards}
    inputs, theirs = normal(rng, B, T, D), keras.layers.RNN(make(), **flags)
    expected = theirs(inputs)
    actual = Recurrent(theirs.cell, **flags)(inputs)
    for a, b in zip(tree.flatten(actual), tree.flatten(expected), strict=True):
        close(a, numpy(b))


def dropping_echo():
    """A cell of Keras whose output is its input, times the dropout mask."""
    return keras.layers.SimpleRNNCell(
        D, activation="linear", kernel_initializer="identity", recurrent_initializer="zeros", dropout=0.5
    )


def test_dropout_in_a_cell_of_keras_is_one_mask_for_all_steps():
    layer = Recurrent(dropping_echo(), return_sequences=True)
    for _ in range(2):
        output = numpy(layer(ops.ones((B, 5, D)), training=True))
        assert set(np.unique(output)) == {0, 2}
        np.testing.assert_array_equal(output, np.repeat(output[:, :1], 5, axis=1))


def test_dropout_in_stacked_cells_of_keras_is_one_mask_for_all_steps():
    layer = Recurrent(StackedCells([dropping_echo(), dropping_echo()]), return_sequences=True)
    for _ in range(2):
        output = numpy(layer(ops.ones((B, 5, D)), training=True))
        assert set(np.unique(output)) == {0, 4}
        np.testing.assert_array_equal(output, np.repeat(output[:, :1], 5, axis=1))


def test_dropout_is_off_outside_training(rng):
    layer, inputs = (
        Recurrent(StackedCells([dropping_echo(), dropping_echo()]), return_sequences=True),
        normal(rng, B, T, D),
    )
    close(layer(inputs), inputs)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("mask", [None, "holes"])
def test_a_stateful_layer_reads_two_halves_as_the_whole(rng, kind, mask):
    cell, inputs = KINDS[kind][0](U), normal(rng, B, 2 * T, D)
    mask = None if mask is None else np.concatenate([MASKS["holes"], MASKS["ends"]], axis=1)
    halves = [slice(0, T), slice(T, 2 * T)]
    whole = Recurrent(cell, return_sequences=True)(inputs, mask=mask)
    layer = Recurrent(cell, return_sequences=True, stateful=True)
    for _ in range(2):
        for half in halves:
            output = layer(inputs[:, half], mask=None if mask is None else mask[:, half])
            last = numpy(whole)[:, half]
            rows = slice(None) if mask is None else mask[:, half]  # before its first step a row is zero in each call
            np.testing.assert_allclose(numpy(output)[rows], last[rows], rtol=1e-4, atol=1e-5)
        layer.reset_state()


def test_a_state_may_be_reset_before_there_is_one():
    Recurrent(GRUCell(U), stateful=True).reset_state()
    Recurrent(GRUCell(U)).reset_state()


def test_an_initial_state_may_be_nested_or_flat(rng):
    layer, inputs = Recurrent(StackedCells([LSTMCell(U), GRUCell(V)])), normal(rng, B, T, D)
    nested = [[normal(rng, B, U), normal(rng, B, U)], [normal(rng, B, V)]]
    close(layer(inputs, initial_state=nested), numpy(layer(inputs, initial_state=tree.flatten(nested))))
    one = Recurrent(GRUCell(U))
    state = normal(rng, B, U)
    close(one(inputs, initial_state=state), numpy(one(inputs, initial_state=[[state]])))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("make", [lambda: LSTMCell(U), lambda: keras.layers.LSTMCell(U)], ids=["ours", "keras"])
def test_a_policy_of_the_layer_alone_rules_its_states_too(rng, policy, make):
    layer = Recurrent(make(), return_sequences=True, return_state=True, dtype=policy)
    outputs = layer(normal(rng, B, T, D), mask=MASKS["holes"])
    assert {keras.backend.standardize_dtype(x.dtype) for x in outputs} == {layer.compute_dtype}


def test_a_layer_of_cells_is_the_layers_of_each_cell(rng):
    cells, inputs, mask = [GRUCell(U), LSTMCell(V), ElmanCell(D)], normal(rng, B, T, D), MASKS["holes"]
    x = inputs
    for cell in cells:
        x = Recurrent(cell, return_sequences=True)(x, mask=mask)
    flags = {"return_sequences": True, "return_trace": True}
    output, trace = Recurrent(StackedCells(cells), **flags)(inputs, mask=mask)
    close(output, numpy(x))
    _, below = Recurrent(cells[0], **flags)(inputs, mask=mask)
    assert {name for name in trace if name.startswith("0/")} == {f"0/{name}" for name in below}
    for name, value in below.items():
        close(trace[f"0/{name}"], numpy(value))


def test_cells_of_ours_and_of_keras_stack(rng):
    inputs = normal(rng, B, T, D)
    for cells in ([GRUCell(U), keras.layers.LSTMCell(V)], [keras.layers.LSTMCell(V), GRUCell(U)]):
        x = inputs
        for cell in cells:
            x = Recurrent(cell, return_sequences=True)(x)
        close(Recurrent(StackedCells(cells), return_sequences=True)(inputs), numpy(x))


class OuterCell(keras.layers.Layer):
    """A cell of Keras's protocol whose state is a matrix: the sum of its inputs' outer products."""

    state_size, output_size = D, D

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, D, D))]

    def call(self, inputs, states):
        state = states[0] + inputs[:, :, None] * inputs[:, None, :]
        return ops.sum(state, axis=-1), [state]


@keras.saving.register_keras_serializable(package="tests")
class MatrixCell(RecurrentCell):
    """A cell whose states are a matrix (B, 2, 3) and a vector."""

    state_size, output_size = [(2, 3), 5], 5

    def step(self, projected, states, memory=None, training=False, noise=()):
        matrix, vector = states
        matrix = 0.5 * matrix + ops.reshape(projected[:, :6], (-1, 2, 3))
        vector = vector + ops.sum(matrix, axis=(1, 2))[:, None]
        return vector, [matrix, vector], {"matrix": matrix}


class BareCell(keras.layers.Layer):
    """A cell of Keras's protocol that leaves its initial state to the layer."""

    state_size = (D,)

    def call(self, inputs, states):
        return inputs + states[0], [inputs]


def test_a_state_may_be_a_matrix(rng):
    layer, inputs, mask = Recurrent(OuterCell(), return_state=True), normal(rng, B, T, D), MASKS["holes"]
    _, state = layer(inputs, mask=mask)
    close(state, np.einsum("btd,bte,bt->bde", inputs, inputs, mask))
    symbolic, symbolic_state = layer(keras.Input((None, D)))
    assert (symbolic.shape, symbolic_state.shape) == ((None, D), (None, D, D))


def test_a_cell_need_not_say_what_its_first_state_is(rng):
    inputs = normal(rng, B, T, D)
    output = Recurrent(BareCell(), return_sequences=True)(inputs)
    close(output, inputs + np.pad(inputs, ((0, 0), (1, 0), (0, 0)))[:, :-1])


def test_both_directions_share_out_states_that_are_matrices(rng):
    layer, inputs = Bidirectional(Recurrent(MatrixCell(), return_state=True)), normal(rng, B, T, D)
    _, *states = layer(inputs)
    again, *_ = layer(inputs, initial_state=states)
    close(again[:, 5:], numpy(layer.backward_layer(inputs, initial_state=states[2:])[0]))


WITH_MEMORY = {"memory": (S, V)}
SHAPED = {
    "lstm": (lambda: LSTMCell(U), {}),
    "jordan": (lambda: JordanCell(U, V), {}),
    "stacked": (lambda: StackedCells([GRUCell(U), LSTMCell(V)]), {}),
    "matrix": (MatrixCell, {}),
    "matrix_of_keras": (OuterCell, {}),
    "keras": (lambda: keras.layers.StackedRNNCells([keras.layers.GRUCell(V), keras.layers.LSTMCell(U)]), {}),
    "wrapped": (lambda: ResidualCell(DropoutCell(StackedCells([GRUCell(U), ElmanCell(D)]), 0.1)), {}),
    "attending": (lambda: AttentionCell(GRUCell(U), LuongAttention("general"), attention_units=V), WITH_MEMORY),
    "at_once": (lambda: AttentionCell(GRUCell(U), LuongAttention("general"), input_feeding=False), WITH_MEMORY),
}
RESULTS = ["return_sequences", "return_state", "return_trace"]
WAYS = [{}, {"go_backwards": True}, {"stateful": True}]


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_shapes_and_dtypes_are_foretold_for_every_flag(rng, name, policy):
    make, extra = SHAPED[name]
    inputs = normal(rng, B, T, D)
    extra = {key: normal(rng, B, *shape) for key, shape in extra.items()}
    every = itertools.product(itertools.product([False, True], repeat=len(RESULTS)), WAYS)
    for values, way in every if policy == "float32" else [((True, True, True), {})]:
        layer = Recurrent(make(), dtype=policy, **dict(zip(RESULTS, values, strict=True)), **way)
        outputs = tree.flatten(layer(inputs, **extra))
        rows = B if "stateful" in way else None
        foretold = tree.flatten(
            layer(
                keras.Input(batch_shape=(rows, None, D)),
                **{key: keras.Input(batch_shape=(rows, None, V)) for key in extra},
            )
        )
        assert len(foretold) == len(outputs)
        for known, output in zip(foretold, outputs, strict=True):
            shape = tuple(output.shape)
            assert keras.backend.standardize_dtype(output.dtype) == known.dtype
            assert len(known.shape) == len(shape) and known.shape[0] in (rows, None)
            # Steps are open: T in the second axis of a sequence, S in the third of scores.
            assert all(a == b or (a is None and b in (T, S)) for a, b in zip(known.shape[1:], shape[1:], strict=True))


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_row_without_any_step_has_zeros_and_finite_gradients(rng, name, go_backwards):
    make, extra = SHAPED[name]
    layer = Recurrent(make(), return_sequences=True, return_state=True, go_backwards=go_backwards)
    inputs = {"inputs": normal(rng, B, T, D), **{key: normal(rng, B, *shape) for key, shape in extra.items()}}
    outputs = tree.flatten(layer(**inputs, mask=MASKS["empty"]))
    assert not any(numpy(x)[0].any() for x in outputs)
    found_inputs, found = layer_gradients(
        layer, inputs, lambda outputs: sum(ops.sum(x) for x in tree.flatten(outputs)), mask=MASKS["empty"]
    )
    assert not found_inputs["inputs"][0].any() and found_inputs["inputs"][1].any()
    assert all(np.isfinite(x).all() for x in [*found.values(), *found_inputs.values()])


@pytest.mark.tensorflow_only
def test_ragged_rows_are_rows_without_padding(rng):
    import tensorflow as tf

    lengths = [2, 3, 1]
    rows = [normal(rng, length, D) for length in lengths]
    ragged = tf.RaggedTensor.from_row_lengths(np.concatenate(rows), lengths)
    below = Bidirectional(Recurrent(GRUCell(U), return_sequences=True))
    above = Recurrent(LSTMCell(V), return_state=True)
    for outputs in (above(below(ragged)), *(ragged_model(below, above)(x) for x in (ragged, ragged[:2]))):
        for output in outputs:
            for row, x in zip(numpy(output), rows, strict=False):
                expected = above(below(x[None]))
                assert any(np.allclose(row, numpy(e)[0], rtol=1e-4, atol=1e-5) for e in expected)
    close(above(below(ragged))[0], np.concatenate([numpy(above(below(x[None]))[0]) for x in rows]))


def ragged_model(below, above):
    inputs = keras.Input((None, D), ragged=True)
    return keras.Model(inputs, above(below(inputs)))


@pytest.mark.tensorflow_only
def test_a_ragged_memory_is_read_as_far_as_it_goes(rng):
    import tensorflow as tf

    lengths, inputs = [2, 4], normal(rng, B, T, D)
    rows = [normal(rng, length, V) for length in lengths]
    layer = Recurrent(AttentionCell(GRUCell(U), LuongAttention("general"), attention_units=U))
    output = layer(inputs, memory=tf.RaggedTensor.from_row_lengths(np.concatenate(rows), lengths))
    for row in range(B):
        close(numpy(output)[row], numpy(layer(inputs[row : row + 1], memory=rows[row][None]))[0])


@pytest.mark.tensorflow_only
def test_a_mask_of_ragged_inputs_counts_beside_their_lengths(rng):
    import tensorflow as tf

    ids = tf.ragged.constant([[3, 0, 4], [5, 6]])
    embed, layer = keras.layers.Embedding(9, D, mask_zero=True), Recurrent(GRUCell(U))
    expected = [layer(embed(np.array([[3, 4]]))), layer(embed(np.array([[5, 6]])))]
    close(layer(embed(ids)), np.concatenate([numpy(x) for x in expected]))


def test_what_is_no_cell_raises():
    with pytest.raises(ValueError, match="`Recurrent` runs a recurrent cell: a layer with `state_size`.*cell="):
        Recurrent(keras.layers.Dense(U))


@pytest.mark.parametrize("shape", [(B, D), (B, T, D, D)])
def test_inputs_that_are_no_sequence_raise(shape):
    with pytest.raises(ValueError, match=r"`inputs` must have three axes \(batch, time, features\).*inputs_shape="):
        Recurrent(GRUCell(U))(np.zeros(shape))


def test_a_state_that_does_not_fit_raises():
    layer, inputs = Recurrent(LSTMCell(U)), np.zeros((B, T, D))
    for state in ([np.zeros((B, U))], [np.zeros((B, U)), np.zeros((B, V))], [np.zeros((B, U))] * 3):
        with pytest.raises(ValueError, match=r"`initial_state` must hold one tensor for each.*Expected.*Received: \["):
            layer(inputs, initial_state=state)


def test_a_memory_for_a_cell_that_reads_none_raises():
    with pytest.raises(ValueError, match="`memory` is for cells that attend.*Received: cell="):
        Recurrent(GRUCell(U))(np.zeros((B, T, D)), memory=np.zeros((B, S, V)))


def test_a_memory_that_is_missing_or_does_not_fit_raises():
    layer = Recurrent(AttentionCell(GRUCell(U), LuongAttention("general")))
    with pytest.raises(ValueError, match=r"needs `memory` with three axes.*Received: memory_shape=None"):
        layer(np.zeros((B, T, D)))
    with pytest.raises(ValueError, match=r"needs `memory` with three axes.*Received: memory_shape=\(2, 11\)"):
        layer(np.zeros((B, T, D)), memory=np.zeros((B, V)))
    with pytest.raises(ValueError, match=r"batch sizes must agree.*=\(2, 3, 7\), memory_shape=\(4, 5, 11\)"):
        layer(np.zeros((B, T, D)), memory=np.zeros((2 * B, S, V)))


def test_a_stateful_layer_without_a_batch_size_raises():
    with pytest.raises(ValueError, match=r"batch size must be static.*Received: inputs_shape=\(None, 3, 7\)"):
        Recurrent(GRUCell(U), stateful=True)(keras.Input((T, D)))


def test_inputs_of_another_width_or_dtype_raise(rng):
    layer = Recurrent(GRUCell(U))
    layer(normal(rng, B, T, D))
    with pytest.raises(ValueError, match=r"as wide as those that the layer was built for.*Expected: 7. .*\(2, 3, 11\)"):
        layer(normal(rng, B, T, V))
    with pytest.raises(ValueError, match=r"`inputs` must be floats with 3 axes .*shape=\(2, 3, 7\), dtype='int32'"):
        layer(np.ones((B, T, D), "int32"))
    with pytest.raises(ValueError, match=r"`inputs` must be floats with 3 axes .*shape=\(2, 7\), dtype='float32'"):
        layer(normal(rng, B, D))
    with pytest.raises(ValueError, match=r"as wide as those that the cell was built for. Expected: 7. Received: 11"):
        Recurrent(layer.cell)(normal(rng, B, T, V))


def test_a_stateful_layer_of_another_batch_size_raises(rng):
    layer = Recurrent(GRUCell(U), stateful=True)
    layer(normal(rng, B, T, D))
    with pytest.raises(ValueError, match=r"needs the batch size that it was built with. Expected: 2. .*\(3, 3, 7\)"):
        layer(normal(rng, 3, T, D))
