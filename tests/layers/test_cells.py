import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import ElmanCell, GRUCell, LSTMCell, StackedCells
from tests.layers.gradients import assert_slopes_equal, layer_gradients
from tests.layers.kinds import KINDS
from tests.layers.paper_weights import arrays, numpy, randomize
from tests.reference.arrays import B, D, T, U, normal
from tests.reference.over_time import run

KIND = pytest.mark.parametrize("kind", KINDS)


@KIND
@pytest.mark.parametrize("use_bias", [True, False])
def test_a_step_equals_the_papers_equations(rng, kind, use_bias):
    make, step, from_layer, num_states = KINDS[kind]
    cell = make(U, use_bias=use_bias)
    inputs, states = normal(rng, B, D), [normal(rng, B, U) for _ in range(num_states)]
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
    make, step, from_layer, num_states = KINDS[kind]
    cell = make(U)
    inputs, states = normal(rng, B, D), [normal(rng, B, U) for _ in range(num_states)]
    cell(inputs, states)
    randomize(cell, rng)
    share = [normal(rng, B, U) for _ in range(num_states + 1)]

    found_inputs, found = layer_gradients(
        cell,
        {"inputs": inputs, "states": states},
        lambda outputs: sum(
            ops.sum(ops.multiply(x, c)) for x, c in zip(keras.tree.flatten(outputs), share, strict=True)
        ),
    )

    def loss(values):
        total = 0
        for row in range(B):
            row_states = [state[row] for state in values["states"]]
            output, new_states, _ = step(from_layer(values), values["inputs"][row], row_states)
            total += sum(np.sum(x * c[row]) for x, c in zip([output, *new_states], share, strict=True))
        return total

    values = {**arrays(cell), "inputs": inputs.astype("float64"), "states": states}
    assert_slopes_equal(loss, values, {**found, **found_inputs}, rng)


@KIND
def test_a_cell_is_a_cell_of_keras(rng, kind):
    make, step, from_layer, num_states = KINDS[kind]
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


@pytest.mark.parametrize("name", ["GRUCell", "LSTMCell"])
def test_positional_arguments_mean_what_they_mean_in_keras(name):
    ours = {"GRUCell": GRUCell, "LSTMCell": LSTMCell}[name](U, "relu", "hard_sigmoid", False)
    theirs = getattr(keras.layers, name)(U, "relu", "hard_sigmoid", False).get_config()
    config = ours.get_config()
    assert {k: config[k] for k in config.keys() & theirs.keys() - {"name"}} == {
        k: theirs[k] for k in config.keys() & theirs.keys() - {"name"}
    }
    assert (config["activation"], config["recurrent_activation"], config["use_bias"]) == ("relu", "hard_sigmoid", False)


@pytest.mark.parametrize("cell", [ElmanCell, GRUCell, LSTMCell])
@pytest.mark.parametrize("units", [0, -1, 2.5, True, None])
def test_units_that_are_no_width_raise(cell, units):
    with pytest.raises(ValueError, match=rf"`units` is a width.*at least 1\. Received: units={units}"):
        cell(units)


@pytest.mark.parametrize("cell", [ElmanCell, GRUCell, LSTMCell])
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
