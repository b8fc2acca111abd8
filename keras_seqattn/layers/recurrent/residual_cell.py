"""A shortcut past a cell."""

import keras
from keras import ops

from keras_seqattn.layers.recurrent.cell import step_and_read
from keras_seqattn.layers.recurrent.wrapper_cell import WrapperCell


@keras.saving.register_keras_serializable(package="keras_seqattn")
class ResidualCell(WrapperCell):
    """A shortcut past a cell, by which deep stacks of cells train:

        output = cell(inputs) + inputs

    The states are the cell's own: what it knows of the last step has no shortcut.

    Args:
        cell: recurrent cell whose output is as wide as its inputs; ours or Keras's.
    Call arguments:
        inputs: (B, D) float, one step.
        states: the cell's.
        memory, memory_mask: (B, S, V) float and (B, S) bool, where the cell attends.
    Returns: output (B, D) and the cell's states. Trace: the cell's.
    Raises: ValueError when `cell` is no cell, or, when it is built, its output is not as wide as the inputs.
    Reference: Wu et al. 2016, arXiv 1609.08144, eq. (5), (6).
    Example:
        >>> cell = ResidualCell(keras_seqattn.layers.GRUCell(7))
        >>> output, states = cell(ops.ones((2, 7)), [ops.zeros((2, 7))])
        >>> tuple(output.shape)
        (2, 7)
    """

    @property
    def loop_output_size(self):
        return self.output_size

    def build(self, inputs_shape, memory_shape=None):
        super().build(inputs_shape, memory_shape)
        self.width = inputs_shape[-1]
        if self.output_size != self.width:
            raise ValueError(
                "`ResidualCell` adds the inputs to the cell's output, so they must have one width. "
                f"Received: inputs_shape={tuple(inputs_shape)}, output width {self.output_size} of cell={self.cell!r}."
            )

    def project(self, inputs, start=0):
        """The cell's projection, and beside it the inputs, in their place among zeros: parts add up to the whole."""
        if not self.splits_inputs:
            return inputs
        zeros = [(0, 0)] * (len(inputs.shape) - 1)
        after = self.width - start - inputs.shape[-1]
        shortcut = ops.pad(inputs, [*zeros, (start, after)]) if start or after else inputs
        return ops.concatenate([self.inner.project(inputs, start), shortcut], axis=-1)  # (..., G * U + D)

    def step(self, projected, states, memory=None, training=False, noise=()):
        projected, inputs = (
            ops.split(projected, [projected.shape[-1] - self.width], axis=-1)
            if self.splits_inputs
            else (self.projected_within(projected), projected)
        )
        output, states, trace = step_and_read(self.inner, projected, states, memory, training, noise)
        return output + inputs, states, trace

    def readout(self, outputs, memory=None, training=False):
        return outputs, {}
