"""The cells beside their references, for tests that hold for each of them."""

from functools import partial

from keras import tree

from keras_seqattn.layers import ElmanCell, GRUCell, JordanCell, LSTMCell
from tests.layers import paper_weights
from tests.reference import cells
from tests.reference.arrays import B, V, normal

# name: (constructor of a cell from units and options, reference step, its weights from the layer's, number of states)
KINDS = {
    "elman": (ElmanCell, cells.elman_step, paper_weights.elman, 1),
    "jordan": (partial(JordanCell, output_units=V), cells.jordan_step, paper_weights.jordan, 1),
    "gru": (partial(GRUCell, reset_after=False), cells.gru_step, paper_weights.gru, 1),
    "gru_reset_after": (GRUCell, cells.gru_reset_after_step, paper_weights.gru, 1),
    "lstm": (LSTMCell, cells.lstm_step, paper_weights.lstm, 2),
}
# Every option that changes the equations, alone and together.
VARIANTS = {
    "gru_layer_norm": (
        partial(GRUCell, layer_norm=True, reset_after=False), cells.layer_norm_gru_step, paper_weights.gru, 1,
    ),
    "gru_reset_after_layer_norm": (
        partial(GRUCell, layer_norm=True), partial(cells.layer_norm_gru_step, reset_after=True), paper_weights.gru, 1,
    ),
    "lstm_peephole": (partial(LSTMCell, peephole=True), cells.peephole_lstm_step, paper_weights.lstm, 2),
    "lstm_coupled": (partial(LSTMCell, coupled_gates=True), cells.coupled_lstm_step, paper_weights.lstm, 2),
    "lstm_layer_norm": (partial(LSTMCell, layer_norm=True), cells.layer_norm_lstm_step, paper_weights.lstm, 2),
    "lstm_every_option": (
        partial(LSTMCell, peephole=True, coupled_gates=True, layer_norm=True),
        partial(cells.layer_norm_lstm_step, gates="fco", peephole=True),
        paper_weights.lstm,
        2,
    ),
    "lstm_peephole_layer_norm": (
        partial(LSTMCell, peephole=True, layer_norm=True),
        partial(cells.layer_norm_lstm_step, peephole=True),
        paper_weights.lstm,
        2,
    ),
}  # fmt: skip
EVERY_KIND = {**KINDS, **VARIANTS}


def states_of(cell, rng):
    """States of a cell, drawn at random."""
    return [normal(rng, B, width) for width in tree.flatten(cell.state_size)]
