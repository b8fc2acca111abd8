"""What Bahdanau's and Luong's attention share: a query reads a value by scores over its steps."""

import keras
from keras import ops

from keras_seqattn.layers.initializers import drawn_anew
from keras_seqattn.layers.output_spec import in_compute_dtype
from keras_seqattn.ops import keep_rows, masked_softmax, product, scan, widen


class MemoryAttention(keras.layers.Layer):
    """Base of the attentions that a recurrent network reads a source sequence with.

        keys    = project_key(value)                   once a sequence
        scores  = score(logits(query, keys, mask))     here: softmax over S
        context = sum over S of scores * value

    A subclass implements `build`, `project_key` and `logits`. One whose scores depend on those of the step before, or
    on how many steps there were, sets `remembers = True`, and overrides `first_state` and `attend`: then the queries
    are read one after the other.
    """

    remembers = False  # whether a step depends on the ones before it

    def __init__(self, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    def fresh_initializer(self):
        """The layer's initializer, drawing anew: one and the same object draws the same numbers each time."""
        return drawn_anew(self.kernel_initializer)

    def add_kernel(self, name, *shape):
        """A weight from the layer's initializer, drawn anew for each."""
        return self.add_weight(shape=shape, initializer=self.fresh_initializer(), name=name)

    def add_energy(self, units, name="energy"):
        """The vector (U,) of an additive comparison, initialized as the kernel (U, 1) that it is."""

        def initializer(shape, dtype=None):
            return ops.reshape(self.kernel_initializer((*shape, 1), dtype=dtype), shape)

        return self.add_weight(shape=(units,), initializer=initializer, name=name)

    def build_scorer(self, scorer, query_shape, value_shape, key_shape=None):
        """Builds the attention that this one compares query and value with."""
        if not scorer.built:
            scorer.build(query_shape, value_shape, key_shape)
            scorer.built = True

    def project_key(self, key):
        """What each query is compared with: (B, S, V) to (B, S, K), computed once a sequence."""
        return key

    def logits(self, query, keys, mask=None):
        """(B, T, D) against (B, S, K): (B, T, S). The mask is for logits that depend on where a step stands."""
        raise NotImplementedError(f"{type(self).__name__} must implement `logits`.")

    def first_state(self, keys, queries):
        """What is remembered before the first step by `queries` queries a row: a list of tensors (B, queries, ...)."""
        return []

    def begin(self, keys, queries, length, training=False):
        """Draws what is random in `length` steps of `queries` queries a row: a structure of (T, B, queries, ...)."""
        return ()

    def attend(self, query, keys, value, mask=None, state=(), training=False, noise=()):
        """Reads `value` (B, S, V) for `query` (B, T, D), by keys from `project_key`.

        Args:
            mask: bool, broadcast against (B, T, S), True = may be read; a row with none reads zeros.
            state: where the attention remembers, what it remembers of the step before; the T queries are then those
                of one step, such as the beams of a row, each with a state of its own.
            noise: this step's part of what `begin` has drawn.
        Returns: context (B, T, V) and scores (B, T, S), in the dtype of `value`, and the new state.
        """
        scores = ops.cast(masked_softmax(self.logits(query, keys, mask), mask), value.dtype)  # (B, T, S)
        return product(scores, value), scores, []

    def attend_in_turn(self, query, keys, value, mask=None, query_mask=None, training=False):
        """`attend` for queries that are steps of one sequence, each after the one before. Context and scores.

        Where `query_mask` (B, T) is False, a step leaves no trace in those after it.
        """
        if not self.remembers:
            return self.attend(query, keys, value, mask, training=training)[:2]
        length = query.shape[1] if query.shape[1] is not None else ops.shape(query)[1]
        steps = {"query": ops.moveaxis(query, 1, 0), "noise": self.begin(keys, 1, length, training)}
        each_step = mask is not None and mask.shape[1] != 1
        if each_step:
            steps["mask"] = ops.moveaxis(mask, 1, 0)
        if query_mask is not None:
            steps["keep"] = ops.moveaxis(ops.cast(query_mask, "bool"), 1, 0)

        def step(state, now):
            may_read = now["mask"][:, None] if each_step else mask
            context, scores, new_state = self.attend(
                now["query"][:, None], keys, value, may_read, state, training, now["noise"]
            )
            if query_mask is not None:
                new_state = keep_rows(now["keep"], new_state, state)
            return new_state, (context[:, 0], scores[:, 0])

        _, results = scan(step, self.first_state(keys, 1), steps, length)
        return tuple(ops.moveaxis(x, 0, 1) for x in results)  # (B, T, V), (B, T, S)

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=False,
    ):
        mask = None if value_mask is None else value_mask[:, None, :]  # (B, 1, S)
        if attention_mask is not None:
            mask = attention_mask if mask is None else ops.logical_and(mask, attention_mask)  # (B, T, S)
        keys = self.project_key(value if key is None else key)
        context, scores = self.attend_in_turn(query, keys, value, mask, query_mask, training)
        if query_mask is not None:
            context = ops.where(query_mask[:, :, None], context, ops.zeros_like(context))
        return (context, scores) if return_attention_scores else context

    def compute_output_spec(self, *args, **kwargs):
        return in_compute_dtype(self, super().compute_output_spec(*args, **kwargs))

    def compute_mask(self, query, previous_mask=None):
        return previous_mask  # the query's: Keras passes the first argument, and the mask that it carries

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    def check_shapes(self, query_shape, value_shape, key_shape=None):
        """Raises ValueError unless the shapes are (B, T, D), (B, S, V) and (B, S, K), of one batch size."""
        shapes = {"query": query_shape, "value": value_shape, "key": value_shape if key_shape is None else key_shape}
        for name, shape in shapes.items():
            if len(shape) != 3 or shape[-1] is None:
                raise ValueError(
                    f"`{name}` must have three axes (batch, steps, features) and a known width. "
                    f"Received: {name}_shape={tuple(shape)}."
                )
        batch = {shape[0] for shape in shapes.values()} - {None}
        if len(batch) > 1 or (None not in (value_shape[1], shapes["key"][1]) and value_shape[1] != shapes["key"][1]):
            raise ValueError(
                "`query`, `value` and `key` must have one batch size, `value` and `key` one number of steps. Received: "
                + ", ".join(f"{name}_shape={tuple(shape)}" for name, shape in shapes.items())
                + "."
            )


def compare(query, keys, energy, location=None):
    """The additive comparison energy . tanh(query + key) of every query with every key.

    Args:
        query: (B, T, U) float; keys: (B, S, U) float; energy: (U,) float.
        location: (B, T, S, U) float, what is added besides, or None.
    Returns: (B, T, S) float; float32 where the input is float16, as a long sum may pass 65504.
    """
    pairs = query[:, :, None, :] + keys[:, None, :, :]  # (B, T, S, U)
    pairs = ops.tanh(pairs if location is None else pairs + location)
    return ops.matmul(widen(pairs), widen(energy)[:, None])[..., 0]


def places(keys, mask=None):
    """The place of each step among those that may be read, counted from 1 as the papers do: (B or 1, T or 1, S) int32.

    A step that may not be read has the place of the last one before it that may.
    """
    if mask is None:
        return ops.arange(1, ops.shape(keys)[1] + 1, dtype="int32")[None, None, :]
    return ops.cumsum(ops.cast(mask, "int32"), axis=-1)
