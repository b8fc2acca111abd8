"""Dropout around any cell."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.cell import output_size, zero_state
from keras_seqattn.layers.recurrent.dropout import dropout_mask, masked, seed_generator
from keras_seqattn.layers.recurrent.wrapper_cell import WrapperCell
from keras_seqattn.ops.arguments import check_rate


@keras.saving.register_keras_serializable(package="keras_seqattn")
class DropoutCell(WrapperCell):
    """Dropout around any cell, in training, by masks that are drawn once a sequence and are the same at every step:

        h'     = state_mask * h                          h is the cell's last output, one of its states
        output = output_mask * cell(input_mask * inputs, states with h' for h)

    What a cell adds up beside its output, such as the cell of an LSTM, is never dropped. A GRU adds up in its output:
    there `recurrent_dropout` of the cell itself, which drops in the recurrent product alone, is the better choice.

    Args:
        cell: recurrent cell, ours or Keras's.
        dropout: float in [0, 1), share of the inputs that is dropped.
        state_dropout: float in [0, 1), share of the last output that is dropped as it comes back into the cell.
        output_dropout: float in [0, 1), share of the output that is dropped as it leaves the cell.
        seed: int, of what is dropped.
    Call arguments:
        inputs: (B, D) float, one step.
        states: the cell's.
        memory, memory_mask: (B, S, V) float and (B, S) bool, where the cell attends.
    Returns: output and states, as the cell's. Trace: the cell's.
    Raises: ValueError when `cell` is no cell, or a rate outside [0, 1).
    Reference: Gal and Ghahramani 2016, arXiv 1512.05287.
    Example:
        >>> cell = DropoutCell(keras_seqattn.layers.LSTMCell(13), dropout=0.1, output_dropout=0.2)
        >>> layer = keras_seqattn.layers.Recurrent(cell, return_sequences=True)
        >>> tuple(layer(ops.ones((2, 5, 7)), training=True).shape)
        (2, 5, 13)
    """

    input_mask = None  # (B, D), while there is a sequence in training
    state_mask = None  # (B, U)
    output_mask = None  # (B, U), as wide as the output

    def __init__(self, cell, dropout=0.0, state_dropout=0.0, output_dropout=0.0, seed=None, **kwargs):
        super().__init__(cell, **kwargs)
        rates = {"dropout": dropout, "state_dropout": state_dropout, "output_dropout": output_dropout}
        for name, rate in rates.items():
            check_rate(rate, name)
        self.dropout = dropout
        self.state_dropout = state_dropout
        self.output_dropout = output_dropout
        self.seed = seed
        self.seed_generator = seed_generator(seed, *rates.values())

    def begin(self, rows, width, length, memory=None, training=False):
        self.end()
        if training:
            dtype, seed = self.compute_dtype, self.seed_generator
            hidden = self.hidden(zero_state(self.cell, rows, memory))
            self.input_mask = dropout_mask(self.dropout, (rows, width), dtype, seed)
            self.state_mask = dropout_mask(self.state_dropout, ops.shape(hidden), dtype, seed)
            self.output_mask = dropout_mask(self.output_dropout, (rows, output_size(self.cell)), dtype, seed)
        return super().begin(rows, width, length, memory, training)

    def end(self):
        self.input_mask = self.state_mask = self.output_mask = None
        super().end()

    def project(self, inputs, start=0):
        return super().project(masked(inputs, self.input_mask, start) if self.splits_inputs else inputs, start)

    def projected_within(self, projected):
        return super().projected_within(projected if self.splits_inputs else masked(projected, self.input_mask))

    def step(self, projected, states, memory=None, training=False, noise=()):
        if self.state_mask is not None:
            h = self.hidden(states)
            dropped = h * ops.cast(self.state_mask, h.dtype)
            states = keras.tree.map_structure(lambda state: dropped if state is h else state, states)
        return super().step(projected, states, memory, training, noise)

    def readout(self, outputs, memory=None, training=False):
        outputs, trace = super().readout(outputs, memory, training)
        if self.output_mask is not None:
            outputs = outputs * ops.cast(self.output_mask, outputs.dtype)[:, None, :]  # (B, T, U)
        return outputs, trace

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "state_dropout": self.state_dropout,
            "output_dropout": self.output_dropout,
            "seed": self.seed,
        }
