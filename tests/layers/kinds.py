"""The cells beside their references, for tests that hold for each of them."""

from keras_seqattn.layers import ElmanCell, GRUCell, LSTMCell
from tests.layers import paper_weights
from tests.reference import cells

# name: (constructor of a cell from units and options, reference step, its weights from the layer's, number of states)
KINDS = {
    "elman": (ElmanCell, cells.elman_step, paper_weights.elman, 1),
    "gru": (
        lambda units, **options: GRUCell(units, reset_after=False, **options),
        cells.gru_step,
        paper_weights.gru,
        1,
    ),
    "gru_reset_after": (GRUCell, cells.gru_reset_after_step, paper_weights.gru, 1),
    "lstm": (LSTMCell, cells.lstm_step, paper_weights.lstm, 2),
}
