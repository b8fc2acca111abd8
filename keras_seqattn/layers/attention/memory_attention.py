"""What Bahdanau's and Luong's attention share: a query reads a value by scores over its steps."""

import keras
from keras import ops

from keras_seqattn.layers.output_spec import in_compute_dtype
from keras_seqattn.ops import masked_softmax, widen


class MemoryAttention(keras.layers.Layer):
    """Base of the attentions that a recurrent network reads a source sequence with.

        keys    = project_key(value)                   once a sequence
        scores  = softmax of logits(query, keys) over S
        context = sum over S of scores * value

    A subclass implements `build`, `project_key` and `logits`.
    """

    def __init__(self, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    def add_kernel(self, name, *shape):
        """A weight from the layer's initializer, drawn anew for each."""
        fresh = getattr(self.kernel_initializer, "clone", lambda: self.kernel_initializer)()
        return self.add_weight(shape=shape, initializer=fresh, name=name)

    def add_energy(self, units):
        """The vector (U,) of an additive comparison, initialized as the kernel (U, 1) that it is."""

        def initializer(shape, dtype=None):
            return ops.reshape(self.kernel_initializer((*shape, 1), dtype=dtype), shape)

        return self.add_weight(shape=(units,), initializer=initializer, name="energy")

    def project_key(self, key):
        """What each query is compared with: (B, S, V) to (B, S, K), computed once a sequence."""
        return key

    def logits(self, query, keys):
        """(B, T, D) against (B, S, K): (B, T, S)."""
        raise NotImplementedError(f"{type(self).__name__} must implement `logits`.")

    def attend(self, query, keys, value, mask=None):
        """Reads `value` (B, S, V) for `query` (B, T, D), by keys from `project_key`.

        Args:
            mask: bool, broadcast against (B, T, S), True = may be read; a row with none reads zeros.
        Returns: context (B, T, V) and scores (B, T, S), in the dtype of `value`.
        """
        scores = ops.cast(masked_softmax(self.logits(query, keys), mask), value.dtype)  # (B, T, S)
        return ops.matmul(scores, value), scores

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        attention_mask=None,
        return_attention_scores=False,
    ):
        mask = None if value_mask is None else value_mask[:, None, :]  # (B, 1, S)
        if attention_mask is not None:
            mask = attention_mask if mask is None else ops.logical_and(mask, attention_mask)  # (B, T, S)
        context, scores = self.attend(query, self.project_key(value if key is None else key), value, mask)
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


def compare(query, keys, energy):
    """The additive comparison energy . tanh(query + key) of every query with every key.

    Args:
        query: (B, T, U) float; keys: (B, S, U) float; energy: (U,) float.
    Returns: (B, T, S) float; float32 where the input is float16, as a long sum may pass 65504.
    """
    pairs = ops.tanh(query[:, :, None, :] + keys[:, None, :, :])  # (B, T, S, U)
    return ops.matmul(widen(pairs), widen(energy)[:, None])[..., 0]
