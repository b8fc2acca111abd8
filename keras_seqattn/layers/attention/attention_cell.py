"""Attention around a recurrent cell."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention
from keras_seqattn.layers.nesting import revive, serialize
from keras_seqattn.layers.recurrent.cell import (
    RecurrentCell,
    check_cell,
    check_units,
    output_size,
    stages,
    step_and_read,
    zero_state,
)


@keras.saving.register_keras_serializable(package="keras_seqattn")
class AttentionCell(RecurrentCell):
    """Any recurrent cell, reading a memory by attention at every step.

    With attend="after", Luong's order, the new output asks:

        output_t  = cell([inputs_t; vector_{t-1}])                   vector_{t-1} with `input_feeding`, sec. 3.3
        context_t = attention(output_t, memory)
        vector_t  = tanh(vector_kernel . [context_t; output_t])      eq. (5)

    With attend="before", Bahdanau's, the last output asks, and the cell reads the answer:

        context_t = attention(output_{t-1}, memory)                  eq. (5), (6)
        output_t  = cell([inputs_t; context_t; vector_{t-1}])        eq. (4)
        vector_t  as above

    Without `attention_units`, the vector is [context_t; output_t] itself. Attending after without input feeding needs
    no feedback: then all steps are read at once when the loop is over.

    Args:
        cell: recurrent cell, ours or Keras's.
        attention: `BahdanauAttention`, `LuongAttention`, or another `MemoryAttention`.
        attention_units: int, width A of the attention vector, or None.
        input_feeding: bool, whether the cell also reads the last attention vector.
        attend: "after" or "before".
    Call arguments:
        inputs: (B, D) float, one step.
        states: the cell's states, and with `input_feeding` the last attention vector (B, A).
        memory: (B, S, V) float. In decoding, `inputs` may have G rows for each row of the memory, next to each other.
        memory_mask: (B, S) bool, True where a step may be read.
    Returns: attention vector (B, A) and states. Trace: the cell's, and `attention_scores` (B, S).
    Raises: ValueError for a wrong cell, attention, width or order; by `Recurrent` for a memory that does not fit.
    References: Luong, Pham, Manning 2015, arXiv 1508.04025; Bahdanau, Cho, Bengio 2015, arXiv 1409.0473.
    Example:
        >>> attention = keras_seqattn.layers.LuongAttention(score="general")
        >>> cell = AttentionCell(keras_seqattn.layers.LSTMCell(13), attention, attention_units=11)
        >>> layer = keras_seqattn.layers.Recurrent(cell, return_sequences=True)
        >>> tuple(layer(ops.ones((2, 3, 7)), memory=ops.ones((2, 5, 17))).shape)
        (2, 3, 11)
    """

    attends = True

    def __init__(self, cell, attention, attention_units=None, input_feeding=True, attend="after", **kwargs):
        super().__init__(**kwargs)
        check_cell(cell, "AttentionCell")
        if not isinstance(attention, MemoryAttention):
            raise ValueError(
                "`attention` must be a `MemoryAttention`, such as `BahdanauAttention(units)` or `LuongAttention()`. "
                f"Received: attention={attention!r}."
            )
        if stages(cell).attends:
            raise ValueError(f"`cell` must not attend itself. Received: cell={cell!r}.")
        if attend not in ("after", "before"):
            raise ValueError(f"`attend` must be 'after' or 'before'. Received: {attend=}.")
        if attention_units is not None:
            check_units(attention_units, "attention_units")
        self.cell = cell
        self.attention = attention
        self.attention_units = attention_units
        self.input_feeding = input_feeding
        self.attend = attend
        self.splits_inputs = stages(cell).splits_inputs
        self.attends_at_once = attend == "after" and not input_feeding

    @property
    def output_size(self):
        if self.attention_units is not None:
            return self.attention_units
        if not self.built:
            raise ValueError("Without `attention_units` the output width is known only when the cell has been built.")
        return self.context_width + output_size(self.cell)

    @property
    def loop_output_size(self):
        return output_size(self.cell) if self.attends_at_once else self.output_size

    @property
    def state_size(self):
        inner = self.cell.state_size
        inner = list(inner) if isinstance(inner, list | tuple) else [inner]
        return [inner, self.output_size] if self.input_feeding else [inner]

    def build(self, inputs_shape, memory_shape):
        self.input_width, self.context_width = inputs_shape[-1], memory_shape[-1]
        width, inner = self.context_width + output_size(self.cell), output_size(self.cell)
        if self.attention_units is not None:
            self.vector_kernel = self.add_weight(
                shape=(width, self.attention_units), initializer="glorot_uniform", name="vector_kernel"
            )
        vector_width = width if self.attention_units is None else self.attention_units
        self.fed_width = (self.context_width if self.attend == "before" else 0) + (
            vector_width if self.input_feeding else 0
        )
        if not self.cell.built:
            self.cell.build((inputs_shape[0], self.input_width + self.fed_width))
            self.cell.built = True
        if not self.attention.built:
            self.attention.build((inputs_shape[0], None, inner), tuple(memory_shape))
            self.attention.built = True
        self.built = True  # `output_size` is known from here on

    def get_initial_state(self, batch_size=None):
        states = [zero_state(self.cell, batch_size)]
        if self.input_feeding:
            states.append(ops.zeros((batch_size, self.output_size), dtype=self.compute_dtype))
        return states

    def begin(self, rows, width):
        stages(self.cell).begin(rows, width + self.fed_width)

    def end(self):
        stages(self.cell).end()

    def prepare_memory(self, memory, memory_mask=None):
        return {
            "keys": self.attention.project_key(memory),
            "value": memory,
            "mask": None if memory_mask is None else ops.cast(memory_mask, "bool")[:, None, :],  # (B, 1, S)
        }

    def project(self, inputs, start=0):
        return stages(self.cell).project(inputs, start)

    def step(self, projected, states, memory=None, training=False):
        inner, fed, trace = states[0], [], {}
        if self.attend == "before":
            context, scores = self._read(hidden(self.cell, inner), memory)
            fed.append(context)
            trace["attention_scores"] = scores
        if self.input_feeding:
            fed.append(states[1])
        output, inner, gates = step_and_read(stages(self.cell), self._feed(projected, fed), inner, training=training)
        trace.update(gates)
        if self.attends_at_once:
            return output, [inner], trace
        if self.attend == "after":
            context, trace["attention_scores"] = self._read(output, memory)
        vector = self._vector(context, output)
        return vector, [inner, vector] if self.input_feeding else [inner], trace

    def _feed(self, projected, fed):
        """What the cell reads besides its inputs: added to the product of the inputs, or put beside the inputs."""
        if not fed:
            return projected
        fed = ops.concatenate(fed, axis=-1) if len(fed) > 1 else fed[0]
        if self.splits_inputs:
            return projected + self.cell.project(fed, start=self.input_width)
        return ops.concatenate([projected, fed], axis=-1)

    def _read(self, query, memory):
        """Context (B, V) and scores (B, S) for a query (B, U); G queries in a row may share one row of the memory."""
        rows, width = ops.shape(memory["value"])[0], query.shape[-1]
        query = ops.reshape(query, (rows, -1, width))  # (B, G, U)
        context, scores = self.attention.attend(query, memory["keys"], memory["value"], memory["mask"])
        return (
            ops.reshape(context, (-1, context.shape[-1])),
            ops.reshape(scores, (-1, ops.shape(scores)[-1])),
        )

    def _vector(self, context, output):
        both = ops.concatenate([context, output], axis=-1)  # (..., V + U)
        return both if self.attention_units is None else ops.tanh(ops.matmul(both, self.vector_kernel))

    def readout(self, outputs, memory=None, training=False):
        if not self.attends_at_once:
            return outputs, {}
        rows, width, length = ops.shape(memory["value"])[0], outputs.shape[-1], ops.shape(outputs)[1]
        queries = ops.reshape(outputs, (rows, -1, width))  # (B, G * T, U)
        context, scores = self.attention.attend(queries, memory["keys"], memory["value"], memory["mask"])
        context = ops.reshape(context, (-1, length, context.shape[-1]))
        scores = ops.reshape(scores, (-1, length, ops.shape(scores)[-1]))
        return self._vector(context, outputs), {"attention_scores": scores}

    def call(self, inputs, states, memory, memory_mask=None, training=False):
        output, states, _ = self.one_step(inputs, states, self.prepare_memory(memory, memory_mask), training)
        return output, states

    def get_config(self):
        return {
            **super().get_config(),
            "cell": serialize(self.cell),
            "attention": serialize(self.attention),
            "attention_units": self.attention_units,
            "input_feeding": self.input_feeding,
            "attend": self.attend,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "cell", "attention"))


def hidden(cell, states):
    """The part of the states that is the cell's last output: the first of the top cell."""
    cells = getattr(cell, "cells", None)
    return hidden(cells[-1], states[-1]) if cells else keras.tree.flatten(states)[0]
