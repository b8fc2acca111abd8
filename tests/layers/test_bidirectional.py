import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_seqattn.layers import Bidirectional, GRUCell, LSTMCell, Recurrent
from tests.layers.kinds import KINDS, states_of
from tests.layers.paper_weights import arrays, numpy, randomize
from tests.reference.arrays import B, D, T, U, V, normal
from tests.reference.over_time import run

MASK = np.array([[1, 0, 1], [1, 1, 0]], bool)


def close(actual, expected):
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
def test_outputs_states_and_trace_equal_the_loop_in_both_directions(rng, kind, mask):
    make, step, from_layer, num_states = KINDS[kind]
    inputs = normal(rng, B, T, D)
    flags = {"return_sequences": True, "return_state": True, "return_trace": True}
    layer = Bidirectional(Recurrent(make(U), **flags))
    first = states_of(layer.layer.cell, rng) + states_of(layer.layer.cell, rng)
    layer(inputs)
    randomize(layer, rng)
    output, *states, trace = layer(inputs, initial_state=first, mask=mask)
    forward, forward_states, forward_trace = run(
        step, from_layer(arrays(layer.layer)), inputs, num_states, first[:num_states], mask
    )
    backward, backward_states, backward_trace = run(
        step, from_layer(arrays(layer.backward_layer)), inputs, num_states, first[num_states:], mask, go_backwards=True
    )
    close(output, np.concatenate([forward, backward[:, ::-1]], axis=-1))
    for state, expected in zip(states, forward_states + backward_states, strict=True):
        close(state, expected)
    expected = {f"forward/{name}": x for name, x in forward_trace.items()}
    expected |= {f"backward/{name}": x[:, ::-1] for name, x in backward_trace.items()}
    assert trace.keys() == expected.keys()
    for name, value in trace.items():
        close(value, expected[name])


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_every_way_to_merge_is_that_of_keras(rng, merge_mode, return_sequences):
    inputs = normal(rng, B, T, D)
    theirs = keras.layers.Bidirectional(keras.layers.LSTM(U, return_sequences=return_sequences), merge_mode=merge_mode)
    ours = Bidirectional(Recurrent(LSTMCell(U), return_sequences=return_sequences), merge_mode=merge_mode)
    expected = theirs(inputs)
    ours(inputs)
    ours.set_weights(theirs.get_weights())
    for a, b in zip(tree.flatten(ours(inputs)), tree.flatten(expected), strict=True):
        close(a, numpy(b))


def test_the_two_directions_have_weights_of_their_own():
    layer = Bidirectional(Recurrent(GRUCell(U)))
    layer.build((B, T, D))
    forward, backward = (numpy(x.cell.kernel) for x in (layer.layer, layer.backward_layer))
    assert np.abs(forward - backward).max() > 0.1


def test_masked_steps_are_as_good_as_gone(rng):
    inputs = normal(rng, B, T, D)
    layer = Bidirectional(Recurrent(GRUCell(U), return_sequences=True, return_state=True))
    output, *states = layer(inputs, mask=MASK)
    for row in range(B):
        alone, *alone_states = layer(inputs[row : row + 1, MASK[row]])
        close(alone[0], numpy(output)[row, MASK[row]])
        for state, expected in zip(alone_states, states, strict=True):
            close(state[0], numpy(expected)[row])


def test_a_row_without_any_step_gives_zeros(rng):
    output = Bidirectional(Recurrent(GRUCell(U)))(normal(rng, B, T, D), mask=np.array([[0, 0, 0], [1, 1, 1]], bool))
    assert not numpy(output)[0].any() and numpy(output)[1].all()


def test_the_mask_that_inputs_carry_counts_beside_an_initial_state(rng):
    inputs, first = np.abs(normal(rng, B, T, D)) * MASK[:, :, None], [normal(rng, B, U) for _ in range(2)]
    layer = Bidirectional(Recurrent(GRUCell(U)))
    expected = layer(inputs, initial_state=first, mask=MASK)
    close(layer(keras.layers.Masking()(inputs), initial_state=first), numpy(expected))


@pytest.mark.parametrize("merge_mode", ["concat", None])
@pytest.mark.parametrize("return_state", [False, True])
def test_the_mask_goes_on_with_the_sequences(rng, merge_mode, return_state):
    inputs = keras.layers.Masking()(np.abs(normal(rng, B, T, D)) * MASK[:, :, None])
    recurrent = Recurrent(GRUCell(U), return_sequences=True, return_state=return_state)
    outputs = Bidirectional(recurrent, merge_mode=merge_mode)(inputs)
    sequences = tree.flatten(outputs)[: 1 if merge_mode else 2]
    for sequence in sequences:
        mean = keras.layers.GlobalAveragePooling1D()(sequence)
        close(mean, np.stack([numpy(sequence)[row, MASK[row]].mean(axis=0) for row in range(B)]))


def test_a_stateful_layer_goes_on_where_it_ended_until_it_is_reset(rng):
    layer, inputs = Bidirectional(Recurrent(GRUCell(U), stateful=True)), normal(rng, B, T, D)
    layer.reset_state()
    first, second = numpy(layer(inputs)), numpy(layer(inputs))
    assert np.abs(first - second).max() > 1e-3
    layer.reset_state()
    close(layer(inputs), first)


def test_a_backward_layer_of_ones_own_may_differ(rng):
    backward = Recurrent(LSTMCell(V), return_sequences=True, go_backwards=True)
    layer = Bidirectional(Recurrent(GRUCell(U), return_sequences=True), backward)
    inputs = normal(rng, B, T, D)
    output = numpy(layer(inputs))
    close(output[..., U:], numpy(ops.flip(backward(inputs), axis=1)))


@pytest.mark.parametrize(("forward", "backward", "count"), [(GRUCell, LSTMCell, 1), (LSTMCell, GRUCell, 2)])
def test_states_are_shared_out_between_cells_that_differ(rng, forward, backward, count):
    backward = Recurrent(backward(V), return_state=True, go_backwards=True)
    layer = Bidirectional(Recurrent(forward(U), return_state=True), backward)
    inputs = normal(rng, B, T, D)
    _, *states = layer(inputs)
    again, *_ = layer(inputs, initial_state=states)
    close(again[:, U:], numpy(backward(inputs, initial_state=states[count:])[0]))


def test_layers_that_do_not_fit_raise():
    recurrent = Recurrent(GRUCell(U))
    with pytest.raises(ValueError, match="must be `Recurrent` layers. Received: layer="):
        Bidirectional(keras.layers.LSTM(U))
    with pytest.raises(ValueError, match=r"must be `Recurrent` layers.*backward_layer=<LSTM"):
        Bidirectional(recurrent, keras.layers.LSTM(U))
    with pytest.raises(ValueError, match=r"`merge_mode` must be one of \['ave'.*or None. Received: merge_mode='max'"):
        Bidirectional(recurrent, merge_mode="max")
    with pytest.raises(ValueError, match=r"`backward_layer` backwards.*Received: go_backwards=False and False"):
        Bidirectional(recurrent, Recurrent(GRUCell(U)))
    with pytest.raises(ValueError, match=r"with the same flags.*differing=\['return_sequences'\]"):
        Bidirectional(recurrent, Recurrent(GRUCell(U), go_backwards=True, return_sequences=True))
