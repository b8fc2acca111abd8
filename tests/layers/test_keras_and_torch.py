"""Our recurrent layers against those of Keras and PyTorch, with the same weights, in float32."""

import keras
import numpy as np
import pytest
from keras import tree

from keras_seqattn.layers import Bidirectional, ElmanCell, GRUCell, LSTMCell, Recurrent
from tests.layers.paper_weights import numpy, randomize
from tests.reference.arrays import B, D, T, U, normal

MASK = np.array([[1, 1, 0], [1, 0, 1]], bool)


def close(actual, expected):
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("cell", "theirs"),
    [
        (ElmanCell(U), keras.layers.SimpleRNN),
        (GRUCell(U), keras.layers.GRU),
        (GRUCell(U, reset_after=False), lambda units, **k: keras.layers.GRU(units, reset_after=False, **k)),
        (LSTMCell(U), keras.layers.LSTM),
    ],
    ids=["elman", "gru", "gru_reset_before", "lstm"],
)
@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_outputs_and_states_equal_those_of_keras(rng, cell, theirs, mask, go_backwards):
    flags = {"return_sequences": True, "return_state": True, "go_backwards": go_backwards}
    inputs = normal(rng, B, T, D)
    ours, theirs = Recurrent(type(cell).from_config(cell.get_config()), **flags), theirs(U, **flags)
    ours(inputs)
    theirs(inputs)
    randomize(ours, rng)
    theirs.set_weights(ours.get_weights())
    pairs = zip(tree.flatten(ours(inputs, mask=mask)), tree.flatten(theirs(inputs, mask=mask)), strict=True)
    for actual, expected in pairs:
        close(actual, numpy(expected))


def torch_weights(layer, order):
    """Keras's gates, put in PyTorch's order: a list of `weight_ih, weight_hh, bias_ih, bias_hh`."""
    kernel, recurrent_kernel, bias = (numpy(weight) for weight in layer.cell.weights)
    bias = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])

    def reorder(x):
        parts = np.split(x, len(order), axis=-1)
        return np.concatenate([parts[gate] for gate in order], axis=-1)

    return [reorder(kernel).T, reorder(recurrent_kernel).T, reorder(bias[0]), reorder(bias[1])]


@pytest.mark.parametrize(
    ("make", "name", "order"),
    [
        (lambda: ElmanCell(U), "RNN", [0]),
        (lambda: GRUCell(U), "GRU", [1, 0, 2]),  # PyTorch: reset, update, candidate
        (lambda: LSTMCell(U), "LSTM", [0, 1, 2, 3]),  # PyTorch: input, forget, candidate, output, as Keras
    ],
    ids=["elman", "gru", "lstm"],
)
def test_outputs_and_states_equal_those_of_pytorch(rng, make, name, order):
    torch = pytest.importorskip("torch")
    inputs = normal(rng, B, T, D)
    layer = Bidirectional(Recurrent(make(), return_sequences=True, return_state=True))
    layer(inputs)
    randomize(layer, rng)
    theirs = getattr(torch.nn, name)(D, U, batch_first=True, bidirectional=True)
    weights = torch_weights(layer.layer, order) + torch_weights(layer.backward_layer, order)
    with torch.no_grad():
        for parameter, value in zip(theirs.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(value))
        expected, states = theirs(torch.tensor(inputs))
    output, *ours = layer(inputs)
    close(output, expected.numpy())
    states = [state.numpy() for state in (states if name == "LSTM" else [states])]  # each (2 directions, B, U)
    for actual, expected_state in zip(ours, [state[way] for way in (0, 1) for state in states], strict=True):
        close(actual, expected_state)
