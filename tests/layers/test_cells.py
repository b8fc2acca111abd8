import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import DropoutCell, ElmanCell, GRUCell, JordanCell, LSTMCell, StackedCells
from tests.layers.gradients import assert_slopes_equal, layer_gradients
from tests.layers.kinds import EVERY_KIND, states_of
from tests.layers.paper_weights import arrays, numpy, randomize
from tests.reference.arrays import B, D, T, U, V, normal
from tests.reference.over_time import run

KIND = pytest.mark.parametrize("kind", EVERY_KIND)


@KIND
@pytest.mark.parametrize("use_bias", [True, False])
def test_a_step_equals_the_papers_equations(rng, kind, use_bias):
    make, step, from_layer, num_states = EVERY_KIND[kind]
    cell = make(U, use_bias=use_bias)
    inputs, states = normal(rng, B, D), states_of(cell, rng)
    cell(inputs, states)
    randomize(cell, rng)
    output, new_states = cell(inputs, states)
    weights = from_layer(arrays(cell))
    for row in range(B):
        expected, expected_states, _ = step(weights, inputs[row], [state[row] for state in states])
        np.testing.assert_allclose(numpy(output)[row], expected, rtol=1e-5, atol=1e-6)
        assert len(new_states) == num_states
        for state, expected_state in zip(new_states, expected_states, strict=True):
            np.testing.assert_allclose(numpy(state)[row], expected_state, rtol=1e-5, atol=1e-6)


@KIND
def test_gradients_of_a_step_equal_finite_differences(rng, kind):
    make, step, from_layer, _ = EVERY_KIND[kind]
    cell = make(U)
    inputs, states = normal(rng, B, D), states_of(cell, rng)
    outputs = keras.tree.flatten(cell(inputs, states))
    randomize(cell, rng)
    share = [normal(rng, *x.shape) for x in outputs]

    found_inputs, found = layer_gradients(
        cell,
        {"inputs": inputs, "states": states},
        lambda outputs: sum(
            ops.sum(ops.multiply(x, c)) for x, c in zip(keras.tree.flatten(outputs), share, strict=True)
        ),
    )

    def loss(values):
        weights, total = from_layer(values), 0
        for row in range(B):
            row_states = [state[row] for state in values["states"]]
            output, new_states, _ = step(weights, values["inputs"][row], row_states)
            total += sum(np.sum(x * c[row]) for x, c in zip([output, *new_states], share, strict=True))
        return total

    values = {**arrays(cell), "inputs": inputs.astype("float64"), "states": states}
    assert_slopes_equal(loss, values, {**found, **found_inputs}, rng)


@KIND
def test_a_cell_is_a_cell_of_keras(rng, kind):
    make, step, from_layer, num_states = EVERY_KIND[kind]
    cell, inputs = make(U), normal(rng, B, T, D)
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    layer(inputs)
    randomize(layer, rng)
    output, *states = layer(inputs)
    expected, expected_states, _ = run(step, from_layer(arrays(cell)), inputs, num_states)
    np.testing.assert_allclose(numpy(output), expected, rtol=1e-4, atol=1e-5)
    for state, expected_state in zip(states, expected_states, strict=True):
        np.testing.assert_allclose(numpy(state), expected_state, rtol=1e-4, atol=1e-5)


def test_stacked_cells_are_a_cell_of_keras(rng):
    inputs = normal(rng, B, T, D)
    cells = StackedCells([GRUCell(U), LSTMCell(D)])
    stacked = keras.layers.RNN(cells, return_sequences=True)
    output = stacked(inputs)
    below = keras.layers.RNN(cells.cells[0], return_sequences=True)(inputs)
    above = keras.layers.RNN(cells.cells[1], return_sequences=True)(below)
    np.testing.assert_allclose(numpy(output), numpy(above), rtol=1e-5, atol=1e-6)


def test_the_initial_state_is_zero_and_nested_as_the_cell_has_it():
    cells = StackedCells([GRUCell(U), LSTMCell(D)])
    shapes = keras.tree.map_structure(lambda x: tuple(x.shape), cells.get_initial_state(batch_size=B))
    assert shapes == [[(B, U)], [(B, D), (B, D)]]
    assert all(not numpy(x).any() for x in keras.tree.flatten(cells.get_initial_state(batch_size=B)))


def test_the_forget_gate_of_an_lstm_starts_open_when_asked():
    open_cell, plain = LSTMCell(U), LSTMCell(U, unit_forget_bias=False)
    for cell in (open_cell, plain):
        cell.build((B, D))
    np.testing.assert_array_equal(numpy(open_cell.bias), np.repeat([0, 1, 0, 0], U))
    np.testing.assert_array_equal(numpy(plain.bias), np.zeros(4 * U))


def test_the_forget_gate_is_the_first_where_gates_are_coupled():
    cell = LSTMCell(U, coupled_gates=True)
    cell.build((B, D))
    np.testing.assert_array_equal(numpy(cell.bias), np.repeat([1, 0, 0], U))
    assert cell.kernel.shape == (D, 3 * U) and cell.recurrent_kernel.shape == (U, 3 * U)


def test_weights_have_names_and_the_layout_of_keras():
    def names(cell):
        cell.build((B, D))
        return [weight.name for weight in cell.weights]

    plain = ["kernel", "recurrent_kernel", "bias"]
    for ours, theirs in ((LSTMCell, keras.layers.LSTMCell), (GRUCell, keras.layers.GRUCell)):
        ours, theirs = ours(U), theirs(U)
        assert names(ours) == names(theirs) == plain
        assert [x.shape for x in ours.weights] == [x.shape for x in theirs.weights]
    peepholes = ["peephole_input", "peephole_forget", "peephole_output"]
    norms = ["kernel_gain", "recurrent_gain", "cell_gain", "cell_shift"]
    assert sorted(names(LSTMCell(U, peephole=True, layer_norm=True))) == sorted(plain + peepholes + norms)
    coupled = LSTMCell(U, peephole=True, coupled_gates=True, use_bias=False)
    assert sorted(names(coupled)) == sorted(plain[:2] + peepholes[1:])
    assert sorted(names(GRUCell(U, layer_norm=True))) == sorted(plain + norms[:2])
    assert sorted(names(JordanCell(U, V))) == sorted([*plain, "output_kernel", "output_bias"])


def test_the_two_kernels_of_a_jordan_cell_are_drawn_apart():
    cell = JordanCell(U, U)
    cell.build((B, U))
    assert np.abs(numpy(cell.kernel) - numpy(cell.output_kernel)).max() > 0.1


def test_a_jordan_cell_is_as_wide_as_its_hidden_layer_unless_told():
    assert JordanCell(U).state_size == U and JordanCell(U, V).state_size == V


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ElmanCell, keras.layers.SimpleRNNCell),
        (GRUCell, keras.layers.GRUCell),
        (LSTMCell, keras.layers.LSTMCell),
    ],
)
def test_positional_arguments_mean_what_they_mean_in_keras(ours, theirs):
    ours, theirs = (inspect.signature(cell).parameters for cell in (ours, theirs))
    assert list(ours)[: len(theirs) - 1] == list(theirs)[:-1]  # the last are `kwargs`
    assert all(ours[name].default == theirs[name].default for name in list(theirs)[:-1])


@pytest.mark.parametrize("cell", [ElmanCell, JordanCell, GRUCell, LSTMCell])
@pytest.mark.parametrize("units", [0, -1, 2.5, True, None])
def test_units_that_are_no_width_raise(cell, units):
    with pytest.raises(ValueError, match=rf"`units` is a width.*at least 1\. Received: units={units}"):
        cell(units)


@pytest.mark.parametrize("cell", [ElmanCell, JordanCell, GRUCell, LSTMCell])
@pytest.mark.parametrize("shape", [(B, T, D), (B, None)])
def test_inputs_that_are_no_step_of_known_width_raise(cell, shape):
    with pytest.raises(ValueError, match=rf"`{cell.__name__}` takes one step of inputs \(B, D\).*input_shape="):
        cell(U).build(shape)


def test_a_stack_of_no_cells_raises():
    with pytest.raises(ValueError, match=r"`cells` must hold at least one cell\. Received: cells=\[\]"):
        StackedCells([])


def test_a_stack_of_what_is_no_cell_raises():
    with pytest.raises(ValueError, match="`StackedCells` runs a recurrent cell.*Received: cell='gru'"):
        StackedCells(["gru"])


@pytest.mark.parametrize("units", [0, -1, 2.5, True])
def test_output_units_that_are_no_width_raise(units):
    with pytest.raises(ValueError, match=rf"`output_units` is a width.*Received: output_units={units}"):
        JordanCell(U, units)


STEPS = {
    "ours": lambda: LSTMCell(U),
    "stacked": lambda: StackedCells([GRUCell(U), GRUCell(U)]),
    "wrapped": lambda: DropoutCell(LSTMCell(U)),
}


@pytest.mark.parametrize("name", STEPS)
def test_states_that_do_not_fit_raise(rng, name):
    cell, inputs = STEPS[name](), normal(rng, B, D)
    cell.build((B, D))
    state = normal(rng, B, U)
    for states in ([state], [state] * 3, [state, normal(rng, B, V)], [state, normal(rng, B, T, U)]):
        with pytest.raises(
            ValueError, match=r"`states` must hold one tensor for each state.*\(None, 13\), \(None, 13\)"
        ):
            cell(inputs, states)


@pytest.mark.parametrize("name", STEPS)
def test_inputs_that_are_no_step_of_floats_raise(rng, name):
    cell = STEPS[name]()
    states = cell.get_initial_state(batch_size=B)
    cell(normal(rng, B, D), states)
    with pytest.raises(ValueError, match=r"`inputs` must be floats with 2 axes.*Received: shape=\(2, 3, 7\)"):
        cell(normal(rng, B, T, D), states)
    with pytest.raises(ValueError, match=r"`inputs` must be floats with 2 axes.*dtype='int32'"):
        cell(np.ones((B, D), "int32"), states)
    with pytest.raises(ValueError, match=r"as wide as those that the cell was built for. Expected: 7. Received: 11"):
        cell(normal(rng, B, V), states)
