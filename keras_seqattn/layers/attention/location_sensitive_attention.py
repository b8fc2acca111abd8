"""Additive attention that also sees where it looked before."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention, compare
from keras_seqattn.ops import masked_softmax, product
from keras_seqattn.ops.arguments import check_count, check_units


@keras.saving.register_keras_serializable(package="keras_seqattn")
class LocationSensitiveAttention(MemoryAttention):
    """Reads a source sequence by what it says and by where the step before has read.

    With query the paper's s_{i-1}, value its h_j, filters its F:

        features = last scores, convolved over S with filter_kernel                            eq. (8)
        logits   = energy . tanh(query @ query_kernel + value @ key_kernel
                                 + features @ location_kernel + bias)                          eq. (9)
        scores   = softmax of logits over S
        context  = sum over S of scores * value

    With `cumulative`, the sum of the scores of all steps before takes the place of the last scores, as in Tacotron 2.
    Before the first step, nothing has been read. In a cell, the last scores, or their sum, are a state. Padding before
    and after the steps that may be read is as good as gone; a gap amid them has room in the convolution.

    Args:
        units: int, width U in which query and value are compared, at least 1.
        filters: int, number F of filters, at least 1.
        kernel_size: int, steps that a filter sees, odd, so that a filter sees as far back as ahead.
        cumulative: bool, whether the scores of all steps before are seen.
        kernel_initializer: for all weights but the bias.
    Call arguments:
        query: (B, T, D) float.
        value: (B, S, V) float.
        key: (B, S, K) float, what is compared in place of `value`.
        query_mask: (B, T) bool, False where the context is to be zero; such a step is not seen by those after it.
        value_mask: (B, S) bool, True where a step may be read; a row with none reads zeros.
        attention_mask: (B, T, S) bool, True where this query may read this step.
        return_attention_scores: bool, also the scores.
    Returns: (B, T, V) float, in the layer's compute dtype; with the scores (B, T, S) when asked for.
    Raises: ValueError when a number is below 1, `kernel_size` is even, or the shapes do not fit.
    References: Chorowski et al. 2015, arXiv 1506.07503; Tacotron 2: Shen et al. 2018, arXiv 1712.05884.
    Example:
        >>> layer = LocationSensitiveAttention(units=13, filters=3, kernel_size=5)
        >>> tuple(layer(ops.ones((2, 3, 7)), ops.ones((2, 5, 11))).shape)
        (2, 3, 11)
    """

    remembers = True

    def __init__(
        self,
        units,
        filters=32,
        kernel_size=31,
        cumulative=False,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(kernel_initializer, **kwargs)
        check_units(units)
        check_count(filters, "filters")
        check_count(kernel_size, "kernel_size")
        if kernel_size % 2 == 0:
            raise ValueError(
                "A filter sees as many steps back as ahead, and the step itself, so `kernel_size` must be odd. "
                f"Received: {kernel_size=}."
            )
        self.units = units
        self.filters = filters
        self.kernel_size = kernel_size
        self.cumulative = cumulative

    def build(self, query_shape, value_shape, key_shape=None):
        self.check_shapes(query_shape, value_shape, key_shape)
        key_width = (value_shape if key_shape is None else key_shape)[-1]
        self.query_kernel = self.add_kernel("query_kernel", query_shape[-1], self.units)
        self.key_kernel = self.add_kernel("key_kernel", key_width, self.units)
        self.filter_kernel = self.add_kernel("filter_kernel", self.kernel_size, 1, self.filters)
        self.location_kernel = self.add_kernel("location_kernel", self.filters, self.units)
        self.energy = self.add_energy(self.units)
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def project_key(self, key):
        return product(key, self.key_kernel) + self.bias  # (B, S, U)

    def first_state(self, keys, queries):
        rows, length = ops.shape(keys)[:2]
        return [ops.zeros((rows, queries, length), dtype="float32")]

    def attend(self, query, keys, value, mask=None, state=(), training=False, noise=()):
        seen = ops.cast(state[0], "float32")  # (B, T, S)
        location = self._location(seen)  # (B, T, S, U)
        logits = compare(product(query, self.query_kernel), keys, self.energy, location)
        scores = ops.cast(masked_softmax(logits, mask), "float32")  # (B, T, S)
        given = ops.cast(scores, value.dtype)
        return product(given, value), given, [seen + scores if self.cumulative else scores]

    def _location(self, seen):
        rows, queries, length = ops.shape(seen)
        row = ops.cast(ops.reshape(seen, (-1, length, 1)), self.filter_kernel.dtype)  # (B * T, S, 1)
        features = ops.conv(row, self.filter_kernel, padding="same", data_format="channels_last")
        return ops.reshape(ops.matmul(features, self.location_kernel), (rows, queries, length, self.units))

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "cumulative": self.cumulative,
        }
