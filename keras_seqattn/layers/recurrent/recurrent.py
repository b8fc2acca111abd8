"""A cell run over time."""

import keras
from keras import ops, tree

from keras_seqattn.layers.nesting import revive, serialize
from keras_seqattn.layers.output_spec import cast_floats, in_compute_dtype
from keras_seqattn.layers.recurrent.cell import check_cell, check_inputs, check_states, stages, zero_state
from keras_seqattn.layers.recurrent.ragged import padded
from keras_seqattn.ops import keep_rows, scan


@keras.saving.register_keras_serializable(package="keras_seqattn")
class Recurrent(keras.layers.Layer):
    """A cell run over time: `keras.layers.RNN` whose cells may read a memory, and tell what happened inside.

        output_t, states_t = cell(inputs_t, states_{t-1})        where mask_t
        output_t, states_t = output_{t-1}, states_{t-1}          elsewhere

    So the last output and the states of a padded row are those of the row without its padding, and a row with no step
    at all gives zeros. What needs no feedback runs once for all steps, before and after the loop (`RecurrentCell`).

    Args:
        cell: a recurrent cell, ours or Keras's.
        return_sequences: bool, every output (B, T, U) rather than the last (B, U).
        return_state: bool, also the last states, one tensor each.
        return_trace: bool, also every gate and inner value by name, each (B, T, ...), zero where the mask is False.
        go_backwards: bool, read from the last step to the first; outputs come in that order.
        stateful: bool, begin where the last call ended; needs a static batch size. `reset_state()` forgets.
        zero_output_for_mask: bool, masked steps of a sequence give zeros rather than the last output repeated.
    Call arguments:
        inputs: (B, T, D) float. A `tf.RaggedTensor` is padded, and its mask goes on with the outputs.
        initial_state: states of the cell, nested as the cell has them or flat; zeros when None. What an attention
            remembers of its last step may be left out.
        mask: (B, T) bool, True where a step counts. Keras passes the mask that the inputs carry as `mask`, and as
            `inputs_mask` where there are other tensors beside them.
        memory: (B, S, V) float, for cells that attend; a list of several where the cell reads several.
        memory_mask: (B, S) bool, True where a step of the memory may be read; a list beside a list.
    Returns: output; then each state, then the trace (a dict), as asked for.
    Raises: ValueError when the inputs are not (B, T, D), the states do not fit the cell, a memory is missing, or given
        to a cell that reads none, or has another batch size.
    Example:
        >>> layer = Recurrent(keras_seqattn.layers.LSTMCell(13), return_sequences=True, return_trace=True)
        >>> output, trace = layer(ops.ones((2, 5, 7)))
        >>> tuple(output.shape), sorted(trace)
        ((2, 5, 13), ['candidate', 'cell', 'forget_gate', 'input_gate', 'output_gate'])
    """

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        return_trace=False,
        go_backwards=False,
        stateful=False,
        zero_output_for_mask=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_cell(cell, "Recurrent")
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.return_trace = return_trace
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True

    def build(self, inputs_shape, memory_shape=None):
        self._check_shapes(inputs_shape, memory_shape)
        self.input_width = inputs_shape[-1]
        if not self.cell.built:
            step_shape = (inputs_shape[0], *inputs_shape[2:])
            if stages(self.cell).attends:
                self.cell.build(step_shape, memory_shape)
            else:
                self.cell.build(step_shape)
            self.cell.built = True
        if self.stateful:
            if inputs_shape[0] is None:
                raise ValueError(
                    "A `stateful` layer keeps one state a row, so the batch size must be static: "
                    f"give the input a `batch_shape`. Received: inputs_shape={tuple(inputs_shape)}."
                )
            self.states = [
                self.add_weight(shape=state.shape, initializer="zeros", trainable=False, name=f"state_{index}")
                for index, state in enumerate(tree.flatten(zero_state(self.cell, inputs_shape[0])))
            ]

    def _check_inputs(self, inputs):
        check_inputs(inputs, "(batch, time, features)", 3)
        if inputs.shape[-1] != self.input_width:
            raise ValueError(
                "`inputs` must be as wide as those that the layer was built for. "
                f"Expected: {self.input_width}. Received: shape={tuple(inputs.shape)}."
            )
        if self.stateful and inputs.shape[0] != self.states[0].shape[0]:
            raise ValueError(
                "A `stateful` layer keeps one state a row, so every call, and the signature that it is exported with, "
                f"needs the batch size that it was built with. Expected: {self.states[0].shape[0]}. "
                f"Received: shape={tuple(inputs.shape)}."
            )

    def _check_shapes(self, inputs_shape, memory_shape):
        if len(inputs_shape) != 3:
            raise ValueError(
                f"`inputs` must have three axes (batch, time, features). Received: inputs_shape={tuple(inputs_shape)}."
            )
        if not stages(self.cell).attends:
            if memory_shape is not None:
                raise ValueError(
                    "`memory` is for cells that attend, such as `AttentionCell(cell, attention)`. "
                    f"Received: cell={self.cell!r}."
                )
            return
        # One shape may be a list too, when it comes from a file; its members are then sizes, not shapes.
        several = memory_shape is not None and any(hasattr(x, "__len__") for x in memory_shape)
        shapes = list(memory_shape) if several else [memory_shape]
        for shape in shapes:
            if shape is None or len(shape) != 3:
                raise ValueError(
                    "The cell attends, so the call needs `memory` with three axes (batch, source steps, features). "
                    f"Received: memory_shape={memory_shape}."
                )
            if None not in (inputs_shape[0], shape[0]) and inputs_shape[0] != shape[0]:
                raise ValueError(
                    "`memory` holds one source sequence for each row of `inputs`, so their batch sizes must agree. "
                    f"Received: inputs_shape={tuple(inputs_shape)}, memory_shape={memory_shape}."
                )

    def _first_states(self, initial, batch_size, prepared):
        """The states to begin with, nested as the cell has them, in the compute dtype."""
        own = cast_floats(self, zero_state(self.cell, batch_size))
        every = own if prepared is None else extended(own, zero_state(self.cell, batch_size, prepared))
        if self.stateful and len(tree.flatten(every)) > len(tree.flatten(own)):
            raise ValueError(
                "A `stateful` layer carries states of fixed width, but this cell's attention remembers where in the "
                f"memory it has been. Received: cell={self.cell!r}."
            )
        if initial is None and self.stateful:
            initial = [ops.copy(state) for state in self.states]  # they are assigned to after the loop
        if initial is None:
            return every
        flat = tree.flatten(initial)
        given = every if len(flat) == len(tree.flatten(every)) else own
        check_states(initial, given, "initial_state")
        states = extended(tree.pack_sequence_as(given, flat), every)
        return tree.map_structure(lambda state, zero: ops.cast(state, zero.dtype), states, every)

    def call(
        self,
        inputs,
        initial_state=None,
        mask=None,
        memory=None,
        memory_mask=None,
        training=False,
        inputs_mask=None,
    ):
        inputs, mask = padded(inputs, inputs_mask if mask is None else mask)
        memory, memory_mask = padded(memory, memory_mask)
        self._check_inputs(inputs)
        self._check_shapes(inputs.shape, None if memory is None else tree.map_structure(lambda x: x.shape, memory))
        cell, rows = stages(self.cell), ops.shape(inputs)[0]
        length = inputs.shape[1] if inputs.shape[1] is not None else ops.shape(inputs)[1]
        prepared = cell.prepare_memory(memory, memory_mask) if cell.attends else None
        states = self._first_states(initial_state, rows, prepared)

        mask = None if mask is None else ops.cast(mask, "bool")
        if self.go_backwards:  # from here on everything stands in the order of reading
            inputs, mask = ops.flip(inputs, axis=1), None if mask is None else ops.flip(mask, axis=1)
        noise = cell.begin(rows, inputs.shape[-1], length, prepared, training)
        steps = {"x": cell.project(ops.moveaxis(inputs, 1, 0)), "noise": noise}  # (T, B, ...)
        if mask is not None:
            steps["keep"] = ops.moveaxis(mask, 1, 0)  # (T, B)
        every_output = self.return_sequences or self.return_trace
        carry = {"states": states}
        if mask is not None or not every_output:
            carry["output"] = ops.zeros((rows, cell.loop_output_size), dtype=self.compute_dtype)

        def step(carry, now):
            output, states, trace = cell.step(now["x"], carry["states"], prepared, training, now["noise"])
            if mask is not None:
                output = keep_rows(now["keep"], output, carry["output"])
                states = keep_rows(now["keep"], states, carry["states"])
            collected = {"output": output} if every_output else {}
            if self.return_trace:
                collected["trace"] = trace
            return {"states": states, "output": output} if "output" in carry else {"states": states}, collected

        last, collected = scan(step, carry, steps, length, training)

        if self.stateful:
            for variable, state in zip(self.states, tree.flatten(last["states"]), strict=True):
                variable.assign(state)
        results = self._results(cell, last, collected, prepared, mask, training)
        cell.end()
        return results

    def _results(self, cell, last, collected, prepared, mask, training):
        trace = tree.map_structure(lambda x: ops.moveaxis(x, 0, 1), collected.get("trace", {}))
        if self.return_sequences or self.return_trace:
            outputs = ops.moveaxis(collected["output"], 0, 1)  # (B, T, ...)
        else:
            outputs = last["output"][:, None, :]
        final, read = cell.readout(outputs, prepared, training)
        if mask is not None and final is not outputs:
            # As in the loop, zeros until the first step that counts, whatever a readout makes of no output.
            begun = ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0  # (B, T)
            final = zero_elsewhere(begun[:, -1:] if final.shape[1] == 1 else begun, final)
        if self.return_sequences and mask is not None and self.zero_output_for_mask:
            final = zero_elsewhere(mask, final)
        results = [final if self.return_sequences else final[:, -1]]
        if self.return_state:
            results += tree.flatten(cast_floats(self, last["states"]))
        if self.return_trace:
            trace = {**trace, **read}
            results.append(trace if mask is None else tree.map_structure(lambda x: zero_elsewhere(mask, x), trace))
        return results[0] if len(results) == 1 else tuple(results)

    def compute_output_spec(self, *args, **kwargs):
        return in_compute_dtype(self, super().compute_output_spec(*args, **kwargs))

    def compute_mask(self, inputs, mask=None):
        if isinstance(mask, list | tuple):
            mask = mask[0]
        _, mask = padded(inputs, mask)
        if mask is not None and self.go_backwards:
            mask = ops.flip(mask, axis=1)  # the outputs stand in the order of reading
        first = mask if self.return_sequences else None
        if not (self.return_state or self.return_trace):
            return first
        return None if first is None else [first]

    def reset_state(self):
        """Forgets what a `stateful` layer carried over."""
        for state in self.states if self.stateful and self.built else []:
            state.assign(ops.zeros(state.shape, dtype=state.dtype))

    def get_config(self):
        return {
            **super().get_config(),
            "cell": serialize(self.cell),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "return_trace": self.return_trace,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "zero_output_for_mask": self.zero_output_for_mask,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "cell"))


def extended(states, full):
    """`states`, with what `full` has beyond it at the end of each list."""
    if not isinstance(full, list | tuple):
        return states
    return [extended(a, b) for a, b in zip(states, full, strict=False)] + list(full[len(states) :])


def zero_elsewhere(keep, x):
    """`x` (B, T, ...) where `keep` (B, T) is True, else zero."""
    keep = ops.reshape(keep, (*ops.shape(keep), *(1 for _ in x.shape[2:])))
    return ops.where(keep, x, ops.zeros_like(x))
