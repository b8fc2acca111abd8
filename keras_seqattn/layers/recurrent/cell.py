"""What a cell is: three stages, so that whatever needs no feedback leaves the loop over time."""

import keras
from keras import ops

from keras_seqattn.layers.output_spec import in_compute_dtype

# Before its loop, `keras.layers.RNN` has cells of this class draw their masks; Keras exports it by its subclasses only.
DropoutRNNCell = next((base for base in keras.layers.LSTMCell.__bases__ if base.__name__ == "DropoutRNNCell"), object)


class RecurrentCell(keras.layers.Layer, DropoutRNNCell):
    """Base of the cells: Keras's cell protocol, cut into what comes before, in and after the loop.

        projected = project(inputs)                       before: one product for all steps
        output, states, trace = step(projected, states)   in the loop
        outputs, trace = readout(outputs, memory)         after: what needs no feedback

    `call(inputs, states)` runs the three on one step, so a cell of ours is a cell of `keras.layers.RNN` too.
    `trace` names every gate and inner value of the step; a graph that does not read it does not compute it.

    What is random is drawn before the loop, by `begin`: masks that are the same at every step stay with the cell until
    `end`, and what differs from step to step is returned, for `step` to receive its part as `noise`.

    A subclass sets `state_size` and `output_size`, and overrides `step` at least. A state of several axes stands in the
    list `state_size` as a tuple: `[(2, 3), 13]` is a matrix and a vector. A cell that reads a memory sets
    `attends = True` and overrides `prepare_memory`.
    """

    attends = False  # whether `step` and `readout` need a memory
    splits_inputs = False  # whether `project` can take the inputs in parts, by `start`, for their sum to be the whole
    drawn_ahead = None  # within `keras.layers.RNN`: what `begin` has returned for one step

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.quantization_mode is not None:
            raise ValueError(
                "Recurrent cells compute in floats: an error of rounding comes back at every step. "
                f"Received: dtype={self.dtype_policy.name!r}."
            )

    @property
    def loop_output_size(self):
        """Width of what `step` gives out, where `readout` changes it."""
        return self.output_size

    def begin(self, rows, width, length, memory=None, training=False):
        """Draws what is random, for `length` steps of `rows` rows of inputs, `width` wide.

        Masks that are the same at every step stay with the cell. Returns what differs: a structure of (T, B, ...).
        """
        return ()

    def end(self):
        """Forgets what `begin` has drawn."""
        return None

    def project(self, inputs, start=0):
        """The part of the inputs (..., B, D) that begins at feature `start`, multiplied. Here: as they are."""
        return inputs

    def prepare_memory(self, memory, memory_mask=None):
        """What `step` needs of the memory, computed once a sequence. A structure of tensors, or None."""
        return None

    def step(self, projected, states, memory=None, training=False, noise=()):
        """One step. Returns output (B, U), states and a dict of named inner values."""
        raise NotImplementedError(f"{type(self).__name__} must implement `step`.")

    def hidden(self, states):
        """The one among the states that is the cell's last output (B, U), before any readout."""
        return keras.tree.flatten(states)[0]

    def readout(self, outputs, memory=None, training=False):
        """From the loop's outputs (B, T, U) to the layer's. Returns outputs and a dict of named inner values."""
        return outputs, {}

    def call(self, inputs, states, training=False):
        check_step(self, inputs, states)
        output, states, _ = self.one_step(inputs, states, training=training)
        return output, states

    def compute_output_spec(self, *args, **kwargs):
        return in_compute_dtype(self, super().compute_output_spec(*args, **kwargs))

    def one_step(self, inputs, states, memory=None, training=False):
        """`step` between its `project` and its `readout`; `memory` as `prepare_memory` gave it.

        Returns output (B, U), states, and the trace of both stages.
        """
        if training and self.drawn_ahead is not None:
            if keras.tree.flatten(self.drawn_ahead):
                raise ValueError(
                    "What is drawn anew at every step, such as zoneout, `keras.layers.RNN` has no place for: train the "
                    f"cell in `Recurrent`. Received: {self!r}."
                )
            return step_and_read(self, self.project(inputs), states, memory, training)
        noise = self.begin(ops.shape(inputs)[0], inputs.shape[-1], 1, memory, training)
        noise = keras.tree.map_structure(lambda x: x[0], noise)
        results = step_and_read(self, self.project(inputs), states, memory, training, noise)
        self.end()
        return results

    def get_initial_state(self, batch_size=None):
        """The states before the first step: zeros, nested as `call` takes them."""
        return zeros(self.state_size, batch_size, self.compute_dtype)

    def quantize(self, mode=None, type_check=True, config=None):
        """Refuses. `model.quantize` warns with these words, and quantizes the layers that can be."""
        raise NotImplementedError(
            f"The recurrent cell '{self.path or self.name}' stays in {self.variable_dtype}: an error of rounding comes "
            f"back at every step. Received: {mode=}."
        )

    def get_dropout_mask(self, step_input):
        """`begin`, for `keras.layers.RNN`, which does not say whether this is training: `one_step` knows."""
        if self.attends:
            raise ValueError(
                f"`keras.layers.RNN` has no memory to read: run the cell in `Recurrent`. Received: {self!r}."
            )
        self.drawn_ahead = self.begin(ops.shape(step_input)[0], step_input.shape[-1], 1, training=True)

    def get_recurrent_dropout_mask(self, step_state):
        return None  # drawn by `begin`, with the others

    def reset_dropout_mask(self):
        """`end`, for `keras.layers.RNN`."""
        self.drawn_ahead = None
        self.end()

    def reset_recurrent_dropout_mask(self):
        return None


class KerasCell:
    """Any cell of Keras's protocol seen as the three stages: everything happens in `step`."""

    attends = False
    splits_inputs = False

    def __init__(self, cell):
        self.cell = cell
        self.takes_training = getattr(cell, "_call_has_training_arg", False)
        self.loop_output_size = output_size(cell)

    def begin(self, rows, width, length, memory=None, training=False):
        # Keras's cells draw a dropout mask at first use and keep it: it must be drawn outside the loop.
        self.end()
        for cell in self._parts() if training else []:
            if hasattr(cell, "get_dropout_mask"):
                cell.get_dropout_mask(ops.ones((rows, width), dtype=cell.compute_dtype))
                cell.get_recurrent_dropout_mask(keras.tree.flatten(zero_state(cell, rows))[0])
            width = output_size(cell)
        return ()

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

    def step(self, projected, states, memory=None, training=False, noise=()):
        kwargs = {"training": training} if self.takes_training else {}
        output, new_states = self.cell(projected, states, **kwargs)
        new_states = list(new_states) if keras.tree.is_nested(new_states) else [new_states]
        # The cell computes in a dtype of its own; in the loop, what enters a step and what leaves it must agree.
        dtype = keras.tree.flatten(states)[0].dtype
        output, new_states = keras.tree.map_structure(lambda x: ops.cast(x, dtype), (output, new_states))
        return output, new_states, {}

    def hidden(self, states):
        if hasattr(self.cell, "cells"):
            return stages(self.cell.cells[-1]).hidden(states[-1])
        return keras.tree.flatten(states)[0]

    def readout(self, outputs, memory=None, training=False):
        return outputs, {}


def stages(cell):
    """The three stages of a cell: its own, or those of a cell of Keras's protocol."""
    return cell if isinstance(cell, RecurrentCell) else KerasCell(cell)


def step_and_read(cell, projected, states, memory=None, training=False, noise=()):
    """`step` and the `readout` of that one step. Returns output (B, U), states, and the trace of both."""
    output, states, trace = cell.step(projected, states, memory, training, noise)
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


def zeros(state_size, batch_size, dtype):
    """The list of zero states for a `state_size`: a width, or a list of widths, shapes and further lists."""
    sizes = state_size if isinstance(state_size, list | tuple) else [state_size]
    return [zero(size, batch_size, dtype) for size in sizes]


def zero(size, batch_size, dtype):
    """The zero state of a width or a shape, or the list of those of a list."""
    if isinstance(size, list):
        return [zero(one, batch_size, dtype) for one in size]
    return ops.zeros((batch_size, *(size if isinstance(size, tuple) else (size,))), dtype=dtype)


def zero_state(cell, batch_size, memory=None):
    """The states of any cell before its first step, as a list.

    Args:
        memory: as `prepare_memory` gave it. Without it, what a cell remembers of its memory is left out.
    """
    if not hasattr(cell, "get_initial_state"):
        return zeros(cell.state_size, batch_size, getattr(cell, "compute_dtype", keras.config.floatx()))
    kwargs = {"memory": memory} if memory is not None and stages(cell).attends else {}
    state = cell.get_initial_state(batch_size=batch_size, **kwargs)
    return list(state) if keras.tree.is_nested(state) else [state]


def check_states(states, expected, name):
    """Raises ValueError unless `states` holds tensors as many and as wide as `expected`."""
    flat, wanted = keras.tree.flatten(states), keras.tree.flatten(expected)
    if len(flat) != len(wanted) or not all(fits(a.shape, b.shape) for a, b in zip(flat, wanted, strict=True)):
        raise ValueError(
            f"`{name}` must hold one tensor for each state of the cell. "
            f"Expected: {[(None, *b.shape[1:]) for b in wanted]}. Received: {[tuple(a.shape) for a in flat]}."
        )


def check_step(cell, inputs, states):
    """Raises ValueError unless a cell can take a step with these inputs and states."""
    check_inputs(inputs, "(batch, features)", 2)
    if not cell.attends:  # an attention may remember something beyond the states that are known without its memory
        check_states(states, zero_state(cell, 1), "states")


def check_inputs(inputs, axes, rank):
    """Raises ValueError unless `inputs` are floats with the axes named."""
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if len(inputs.shape) != rank or not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"`inputs` must be floats with {rank} axes {axes}; integers go through `keras.layers.Embedding` or "
            f"`ops.one_hot` first. Received: shape={tuple(inputs.shape)}, {dtype=}."
        )


def fits(shape, expected):
    """Whether two shapes agree in all axes but the batch, as far as both are known."""
    return len(shape) == len(expected) and all(
        a == b or None in (a, b) for a, b in zip(shape[1:], expected[1:], strict=True)
    )
