"""Attention around a recurrent cell."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention
from keras_seqattn.layers.nesting import revive, serialize
from keras_seqattn.layers.output_spec import cast_floats
from keras_seqattn.layers.recurrent.cell import (
    RecurrentCell,
    check_cell,
    output_size,
    stages,
    step_and_read,
    zero_state,
)
from keras_seqattn.ops import product
from keras_seqattn.ops.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_seqattn")
class AttentionCell(RecurrentCell):
    """Any recurrent cell, reading a memory by attention at every step.

    With attend="after", Luong's order, the new output asks:

        output_t  = cell([inputs_t; vector_{t-1}])                                  vector_{t-1} with `input_feeding`
        context_t = attention(output_t, memory)
        vector_t  = attention_activation(vector_kernel . [context_t; output_t])     eq. (5)

    With attend="before", Bahdanau's, the last output asks, and the cell reads the answer:

        context_t = attention(output_{t-1}, memory)                                 eq. (5), (6)
        output_t  = cell([inputs_t; context_t; vector_{t-1}])                       below eq. (4)
        vector_t  as above

    Without `attention_units`, the vector is [context_t; output_t] itself. Several attentions read side by side, all one
    memory or each its own, and context_t is what they found, concatenated. Attending after without input feeding needs
    no feedback: then all steps are read at once when the loop is over, unless an attention remembers its last step.

    Args:
        cell: recurrent cell, ours or Keras's.
        attention: `BahdanauAttention`, `LuongAttention`, or another `MemoryAttention`; or a list of several.
        attention_units: int, width A of the attention vector, or None.
        input_feeding: bool, whether the cell also reads the last attention vector.
        attend: "after" or "before".
        attention_activation: of the attention vector; Keras name or function, None for none.
    Call arguments:
        inputs: (B, D) float, one step.
        states: the cell's states; with `input_feeding` the last attention vector (B, A); then a list for each attention
            that remembers, of what it does. These lists may be left out before the first step.
        memory: (B, S, V) float, or a list with one for each of several attentions. In decoding, `inputs` may have G
            rows for each row of the memory, next to each other.
        memory_mask: (B, S) bool, True where a step may be read; a list beside a list, in which None reads everything.
    Returns: attention vector (B, A) and states. Trace: the cell's, and `attention_scores` (B, S); of several attentions
        `attention_scores_0` and so on.
    Raises: ValueError for a wrong cell, attention, width or order, or memories that are not as many as the attentions;
        by `Recurrent` for a memory that does not fit.
    References: Luong, Pham, Manning 2015, arXiv 1508.04025; Bahdanau, Cho, Bengio 2015, arXiv 1409.0473.
    Example:
        >>> attention = keras_seqattn.layers.LuongAttention(score="general")
        >>> cell = AttentionCell(keras_seqattn.layers.LSTMCell(13), attention, attention_units=11)
        >>> layer = keras_seqattn.layers.Recurrent(cell, return_sequences=True)
        >>> tuple(layer(ops.ones((2, 3, 7)), memory=ops.ones((2, 5, 17))).shape)
        (2, 3, 11)
    """

    attends = True

    def __init__(
        self,
        cell,
        attention,
        attention_units=None,
        input_feeding=True,
        attend="after",
        attention_activation="tanh",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_cell(cell, "AttentionCell")
        attentions = list(attention) if isinstance(attention, list | tuple) else [attention]
        if not attentions or not all(isinstance(one, MemoryAttention) for one in attentions):
            raise ValueError(
                "`attention` must be a `MemoryAttention`, such as `BahdanauAttention(units)` or `LuongAttention()`, or "
                f"a list of them. Received: attention={attention!r}."
            )
        if stages(cell).attends:
            raise ValueError(f"`cell` must not attend itself. Received: cell={cell!r}.")
        if attend not in ("after", "before"):
            raise ValueError(f"`attend` must be 'after' or 'before'. Received: {attend=}.")
        if attention_units is not None:
            check_units(attention_units, "attention_units")
        self.cell = cell
        self.attention = attentions if isinstance(attention, list | tuple) else attention
        self.attention_units = attention_units
        self.input_feeding = input_feeding
        self.attend = attend
        self.attention_activation = keras.activations.get(attention_activation)
        self.attentions = attentions
        self.splits_inputs = stages(cell).splits_inputs
        self.attends_at_once = attend == "after" and not input_feeding and not any(one.remembers for one in attentions)

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
        shapes = self._one_for_each(memory_shape, isinstance(memory_shape[0], list | tuple))
        inner, self.input_width = output_size(self.cell), inputs_shape[-1]
        self.context_width = sum(shape[-1] for shape in shapes)
        width = self.context_width + inner
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
        for attention, shape in zip(self.attentions, shapes, strict=True):
            if not attention.built:
                attention.build((inputs_shape[0], None, inner), tuple(shape))
                attention.built = True
        self.built = True  # `output_size` is known from here on

    def _one_for_each(self, memory, is_list):
        """A list with the memory, its shape or its mask for each attention."""
        if not is_list:
            return [memory] * len(self.attentions)
        if len(memory) != len(self.attentions):
            raise ValueError(
                "A list of memories, or of their masks, holds one for each attention. "
                f"Received: {len(memory)} for {len(self.attentions)} attentions."
            )
        return list(memory)

    def hidden(self, states):
        return stages(self.cell).hidden(states[0])

    def get_initial_state(self, batch_size=None, memory=None):
        states = [zero_state(self.cell, batch_size)]
        if self.input_feeding:
            states.append(ops.zeros((batch_size, self.output_size), dtype=self.compute_dtype))
        return states if memory is None else states + self._first_memories(batch_size, memory)

    def _first_memories(self, rows, memory):
        """What each attention that remembers does so before the first step, in which there are `rows` queries."""
        return [
            [rows_of(x) for x in attention.first_state(read["keys"], rows // ops.shape(read["value"])[0])]
            for attention, read in zip(self.attentions, memory, strict=True)
            if attention.remembers
        ]

    def begin(self, rows, width, length, memory=None, training=False):
        noise = [stages(self.cell).begin(rows, width + self.fed_width, length, training=training)]
        for attention, read in zip(self.attentions, memory, strict=True):
            drawn = attention.begin(read["keys"], rows // ops.shape(read["value"])[0], length, training)
            noise.append(keras.tree.map_structure(lambda x: ops.reshape(x, (length, -1, *ops.shape(x)[3:])), drawn))
        return noise

    def end(self):
        stages(self.cell).end()

    def prepare_memory(self, memory, memory_mask=None):
        memories = self._one_for_each(memory, isinstance(memory, list | tuple))
        masks = self._one_for_each(memory_mask, isinstance(memory_mask, list | tuple))
        return [
            {
                "keys": attention.project_key(value),
                "value": value,
                "mask": None if mask is None else ops.cast(mask, "bool")[:, None, :],  # (B, 1, S)
            }
            for attention, value, mask in zip(self.attentions, memories, masks, strict=True)
        ]

    def project(self, inputs, start=0):
        return stages(self.cell).project(inputs, start)

    def step(self, projected, states, memory=None, training=False, noise=()):
        (cell_noise, *attention_noise) = noise or [()] * (1 + len(self.attentions))
        inner, remembered, fed, trace = states[0], states[2 if self.input_feeding else 1 :], [], {}
        if self.attend == "before":
            context, scores, remembered = self._read(
                stages(self.cell).hidden(inner), memory, remembered, training, attention_noise
            )
            fed.append(context)
            trace.update(scores)
        if self.input_feeding:
            fed.append(states[1])
        output, inner, gates = step_and_read(
            stages(self.cell), self._feed(projected, fed), inner, training=training, noise=cell_noise
        )
        trace.update(gates)
        if self.attends_at_once:
            return output, [inner], trace
        if self.attend == "after":
            context, scores, remembered = self._read(output, memory, remembered, training, attention_noise)
            trace.update(scores)
        vector = self._vector(context, output)
        return vector, [inner, *([vector] if self.input_feeding else []), *remembered], trace

    def _feed(self, projected, fed):
        """What the cell reads besides its inputs: added to the product of the inputs, or put beside the inputs."""
        if not fed:
            return projected
        fed = ops.concatenate(fed, axis=-1) if len(fed) > 1 else fed[0]
        if self.splits_inputs:
            return projected + self.cell.project(fed, start=self.input_width)
        return ops.concatenate([projected, fed], axis=-1)

    def _read(self, query, memory, remembered, training, noise):
        """What the attentions find for a query (B, U): context (B, V), scores (B, S) by name, what they remember.

        G queries in a row may share one row of the memory.
        """
        contexts, traced, states, remembered = [], [], [], list(remembered)
        for attention, read, drawn in zip(self.attentions, memory, noise, strict=True):
            rows = ops.shape(read["value"])[0]
            state = remembered.pop(0) if attention.remembers else []
            # Of G queries a row, with what each remembers and what was drawn for it.
            queries, state, drawn = keras.tree.map_structure(
                lambda x, rows=rows: ops.reshape(x, (rows, -1, *ops.shape(x)[1:])),  # (B, G, ...)
                (query, list(state), drawn),
            )
            context, scores, state = attention.attend(
                queries, read["keys"], read["value"], read["mask"], state, training, drawn
            )
            contexts.append(rows_of(context))
            traced.append(rows_of(scores))
            if attention.remembers:
                states.append([rows_of(x) for x in state])
        return self._side_by_side(contexts), self._named(traced), states

    def _side_by_side(self, contexts):
        return contexts[0] if len(contexts) == 1 else ops.concatenate(contexts, axis=-1)

    def _named(self, scores):
        names = ["attention_scores"] if len(scores) == 1 else [f"attention_scores_{i}" for i in range(len(scores))]
        return dict(zip(names, scores, strict=True))

    def _vector(self, context, output):
        both = ops.concatenate([context, output], axis=-1)  # (..., V + U)
        if self.attention_units is None:
            return both
        return self.attention_activation(product(both, self.vector_kernel))

    def readout(self, outputs, memory=None, training=False):
        if not self.attends_at_once:
            return outputs, {}
        width, length = outputs.shape[-1], ops.shape(outputs)[1]
        contexts, traced = [], []
        for attention, read in zip(self.attentions, memory, strict=True):
            queries = ops.reshape(outputs, (ops.shape(read["value"])[0], -1, width))  # (B, G * T, U)
            context, scores, _ = attention.attend(queries, read["keys"], read["value"], read["mask"], training=training)
            contexts.append(ops.reshape(context, (-1, length, context.shape[-1])))
            traced.append(ops.reshape(scores, (-1, length, ops.shape(scores)[-1])))
        return self._vector(self._side_by_side(contexts), outputs), self._named(traced)

    def call(self, inputs, states, memory, memory_mask=None, training=False):
        memory = self.prepare_memory(memory, memory_mask)
        first = self._first_memories(ops.shape(inputs)[0], memory)
        states = list(states)
        if first and len(states) == (2 if self.input_feeding else 1):
            states += first
        output, states, _ = self.one_step(inputs, states, memory, training)
        return output, cast_floats(self, states)

    def get_config(self):
        return {
            **super().get_config(),
            "cell": serialize(self.cell),
            "attention": serialize(self.attention),
            "attention_units": self.attention_units,
            "input_feeding": self.input_feeding,
            "attend": self.attend,
            "attention_activation": keras.activations.serialize(self.attention_activation),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "cell", "attention"))


def rows_of(x):
    """(B, G, ...) as (B * G, ...): one row a query."""
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))
