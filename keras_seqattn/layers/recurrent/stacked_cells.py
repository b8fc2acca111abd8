"""Cells on top of each other."""

import keras

from keras_seqattn.layers.nesting import revive, serialize
from keras_seqattn.layers.recurrent.cell import (
    RecurrentCell,
    check_cell,
    check_step,
    output_size,
    stages,
    step_and_read,
    zero_state,
)


@keras.saving.register_keras_serializable(package="keras_seqattn")
class StackedCells(RecurrentCell):
    """Cells on top of each other, as one cell: each reads the output of the one below, in the same step.

        output_0, states_0 = cells[0](inputs, states_0)
        output_l, states_l = cells[l](output_{l-1}, states_l)

    Args:
        cells: list of cells, from the inputs upwards; ours or Keras's, at least one. Those that attend all read the
            memory of the call.
    Call arguments:
        inputs: (B, D) float, one step.
        states: list with one list of states a cell.
        memory, memory_mask: (B, S, V) float and (B, S) bool, where a cell attends.
    Returns: output of the last cell, and the list of the cells' states. Trace: each cell's, as `<index>/<name>`.
    Raises: ValueError when there is no cell, or one is not a cell.
    Example:
        >>> cells = StackedCells([keras_seqattn.layers.GRUCell(13), keras_seqattn.layers.LSTMCell(11)])
        >>> output, states = cells(ops.ones((2, 7)), cells.get_initial_state(batch_size=2))
        >>> tuple(output.shape), len(states)
        ((2, 11), 2)
    """

    def __init__(self, cells, **kwargs):
        super().__init__(**kwargs)
        if not cells:
            raise ValueError(f"`cells` must hold at least one cell. Received: {cells=}.")
        for cell in cells:
            check_cell(cell, "StackedCells")
        self.cells = list(cells)
        self.attends = any(stages(cell).attends for cell in self.cells)
        self.splits_inputs = stages(self.cells[0]).splits_inputs

    @property
    def state_size(self):
        return [
            list(cell.state_size) if isinstance(cell.state_size, list | tuple) else [cell.state_size]
            for cell in self.cells
        ]

    @property
    def output_size(self):
        return output_size(self.cells[-1])

    @property
    def loop_output_size(self):
        return stages(self.cells[-1]).loop_output_size

    def build(self, inputs_shape, memory_shape=None):
        for cell in self.cells:
            if not cell.built:
                if stages(cell).attends:
                    cell.build(inputs_shape, memory_shape)
                else:
                    cell.build(inputs_shape)
                cell.built = True
            inputs_shape = (inputs_shape[0], output_size(cell))

    def get_initial_state(self, batch_size=None, memory=None):
        memory = memory or [None] * len(self.cells)
        return [zero_state(cell, batch_size, read) for cell, read in zip(self.cells, memory, strict=True)]

    def begin(self, rows, width, length, memory=None, training=False):
        noise, memory = [], memory or [None] * len(self.cells)
        for cell, read in zip(self.cells, memory, strict=True):
            noise.append(stages(cell).begin(rows, width, length, read, training))
            width = output_size(cell)
        return noise

    def end(self):
        for cell in self.cells:
            stages(cell).end()

    def prepare_memory(self, memory, memory_mask=None):
        return [stages(cell).prepare_memory(memory, memory_mask) for cell in self.cells]

    def project(self, inputs, start=0):
        return stages(self.cells[0]).project(inputs, start)

    def step(self, projected, states, memory=None, training=False, noise=()):
        memory, noise = memory or [None] * len(self.cells), noise or [()] * len(self.cells)
        x, new_states, traces = projected, [], {}
        for index, (cell, state) in enumerate(zip(self.cells, states, strict=True)):
            cell = stages(cell)
            if index:
                x = cell.project(x)
            # The last one's readout needs no feedback, and leaves the loop.
            run = step_and_read if index < len(self.cells) - 1 else type(cell).step
            x, state, trace = run(cell, x, state, memory[index], training, noise[index])
            new_states.append(state)
            traces.update({f"{index}/{name}": value for name, value in trace.items()})
        return x, new_states, traces

    def hidden(self, states):
        return stages(self.cells[-1]).hidden(states[-1])

    def readout(self, outputs, memory=None, training=False):
        last = len(self.cells) - 1
        outputs, trace = stages(self.cells[last]).readout(outputs, memory[last] if memory else None, training)
        return outputs, {f"{last}/{name}": value for name, value in trace.items()}

    def call(self, inputs, states, memory=None, memory_mask=None, training=False):
        check_step(self, inputs, states)
        memory = None if memory is None else self.prepare_memory(memory, memory_mask)
        output, states, _ = self.one_step(inputs, states, memory, training)
        return output, states

    def get_config(self):
        return {**super().get_config(), "cells": serialize(self.cells)}

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "cells"))
