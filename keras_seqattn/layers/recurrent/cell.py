"""What a cell is: three stages, so that whatever needs no feedback leaves the loop over time."""

import keras
from keras import ops

from keras_seqattn.layers.output_spec import in_compute_dtype


class RecurrentCell(keras.layers.Layer):
    """Base of the cells: Keras's cell protocol, cut into what comes before, in and after the loop.

        projected = project(inputs)                       before: one product for all steps
        output, states, trace = step(projected, states)   in the loop
        outputs, trace = readout(outputs, memory)         after: what needs no feedback

    `call(inputs, states)` runs the three on one step, so a cell of ours is a cell of `keras.layers.RNN` too.
    `trace` names every gate and inner value of the step; a graph that does not read it does not compute it.

    A subclass sets `state_size` and `output_size`, and overrides `step` at least. A cell that reads a memory sets
    `attends = True` and overrides `prepare_memory`.
    """

    attends = False  # whether `step` and `readout` need a memory
    splits_inputs = False  # whether `project` can take the inputs in parts, by `start`

    @property
    def loop_output_size(self):
        """Width of what `step` gives out, where `readout` changes it."""
        return self.output_size

    def begin(self, rows, width):
        """Draws what is the same at every step, such as dropout masks, for `rows` rows of inputs, `width` wide."""
        return None  # a body of its own, for AutoGraph

    def end(self):
        """Forgets what `begin` has drawn."""
        return None

    def project(self, inputs, start=0):
        """The part of the inputs that begins at feature `start`, multiplied; any leading axes. Here: as they are."""
        return inputs

    def prepare_memory(self, memory, memory_mask=None):
        """What `step` needs of the memory, computed once a sequence. A structure of tensors, or None."""
        return None

    def step(self, projected, states, memory=None, training=False):
        """One step. Returns output (B, U), states and a dict of named inner values."""
        raise NotImplementedError(f"{type(self).__name__} must implement `step`.")

    def readout(self, outputs, memory=None, training=False):
        """From the loop's outputs (B, T, U) to the layer's. Returns outputs and a dict of named inner values."""
        return outputs, {}

    def call(self, inputs, states, training=False):
        output, states, _ = self.one_step(inputs, states, training=training)
        return output, states

    def compute_output_spec(self, *args, **kwargs):
        return in_compute_dtype(self, super().compute_output_spec(*args, **kwargs))

    def one_step(self, inputs, states, memory=None, training=False):
        """`step` between its `project` and its `readout`; `memory` as `prepare_memory` gave it.

        Returns output (B, U), states, and the trace of both stages.
        """
        self.begin(ops.shape(inputs)[0], inputs.shape[-1])
        results = step_and_read(self, self.project(inputs), states, memory, training)
        self.end()
        return results

    def get_initial_state(self, batch_size=None):
        """The states before the first step: zeros, nested as `call` takes them."""
        return keras.tree.map_structure(
            lambda size: ops.zeros((batch_size, size), dtype=self.compute_dtype), list(self._sizes())
        )

    def _sizes(self):
        return self.state_size if isinstance(self.state_size, list | tuple) else [self.state_size]


class KerasCell:
    """Any cell of Keras's protocol seen as the three stages: everything happens in `step`."""

    attends = False
    splits_inputs = False

    def __init__(self, cell):
        self.cell = cell
        self.takes_training = getattr(cell, "_call_has_training_arg", False)
        self.loop_output_size = output_size(cell)

    def begin(self, rows, width):
        # Keras's cells draw a dropout mask at first use and keep it: it must be drawn outside the loop.
        self.end()
        for cell in self._parts():
            if hasattr(cell, "get_dropout_mask"):
                cell.get_dropout_mask(ops.ones((rows, width), dtype=cell.compute_dtype))
                cell.get_recurrent_dropout_mask(keras.tree.flatten(cell.get_initial_state(batch_size=rows))[0])
            width = output_size(cell)

    def end(self):
        for cell in self._parts():
            if hasattr(cell, "reset_dropout_mask"):
                cell.reset_dropout_mask()
                cell.reset_recurrent_dropout_mask()

    def _parts(self):
        """The cell, or the cells of `keras.layers.StackedRNNCells`."""
        return getattr(self.cell, "cells", [self.cell])

    def project(self, inputs, start=0):
        return inputs

    def prepare_memory(self, memory, memory_mask=None):
        return None

    def step(self, projected, states, memory=None, training=False):
        kwargs = {"training": training} if self.takes_training else {}
        output, new_states = self.cell(projected, states, **kwargs)
        new_states = list(new_states) if keras.tree.is_nested(new_states) else [new_states]
        # The cell computes in a dtype of its own; in the loop, what enters a step and what leaves it must agree.
        dtype = keras.tree.flatten(states)[0].dtype
        output, new_states = keras.tree.map_structure(lambda x: ops.cast(x, dtype), (output, new_states))
        return output, new_states, {}

    def readout(self, outputs, memory=None, training=False):
        return outputs, {}


def stages(cell):
    """The three stages of a cell: its own, or those of a cell of Keras's protocol."""
    return cell if isinstance(cell, RecurrentCell) else KerasCell(cell)


def step_and_read(cell, projected, states, memory=None, training=False):
    """`step` and the `readout` of that one step. Returns output (B, U), states, and the trace of both."""
    output, states, trace = cell.step(projected, states, memory, training)
    output, read = cell.readout(output[:, None, :], memory, training)
    return output[:, 0, :], states, {**trace, **{name: value[:, 0] for name, value in read.items()}}


def check_cell(cell, owner):
    """Raises ValueError unless `cell` keeps the cell protocol of Keras."""
    if not (isinstance(cell, RecurrentCell) or (callable(cell) and hasattr(cell, "state_size"))):
        raise ValueError(
            f"`{owner}` runs a recurrent cell: a layer with `state_size` whose call takes `(inputs, states)`, "
            f"such as `GRUCell(units)`. Received: cell={cell!r}."
        )


def output_size(cell):
    """Width of a cell's output."""
    size = getattr(cell, "output_size", None)
    return keras.tree.flatten(cell.state_size)[0] if size is None else size


def zero_state(cell, batch_size):
    """The zero state of any cell, as a list."""
    state = cell.get_initial_state(batch_size=batch_size)
    return list(state) if keras.tree.is_nested(state) else [state]


def check_units(units, name="units"):
    """Raises ValueError unless `units` is a whole number of at least 1."""
    if isinstance(units, bool) or not isinstance(units, int) or units < 1:
        raise ValueError(f"`{name}` is a width and must be an integer of at least 1. Received: {name}={units!r}.")
