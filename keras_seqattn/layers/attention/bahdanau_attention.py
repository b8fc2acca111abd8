"""Additive attention."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention, compare
from keras_seqattn.layers.recurrent.cell import check_units


@keras.saving.register_keras_serializable(package="keras_seqattn")
class BahdanauAttention(MemoryAttention):
    """Reads a source sequence by comparing each target step with each source step.

    A small network compares, so query and value may differ in width (query: the paper's s, value: its h):

        logits  = energy . tanh(query @ query_kernel + value @ key_kernel)   app. A.1.2
        scores  = softmax of logits over S                                   eq. (6)
        context = sum over S of scores * value                               eq. (5)

    Args:
        units: int, width U in which query and value are compared, at least 1.
        kernel_initializer: for all three weights.
    Call arguments:
        query: (B, T, D) float.
        value: (B, S, V) float.
        key: (B, S, K) float, what is compared in place of `value`.
        query_mask: (B, T) bool, False where the context is to be zero.
        value_mask: (B, S) bool, True where a step may be read; a row with none reads zeros.
        attention_mask: (B, T, S) bool, True where this query may read this step.
        return_attention_scores: bool, also the scores.
    Returns: (B, T, V) float, in the layer's compute dtype; with the scores (B, T, S) when asked for.
    Raises: ValueError when `units` is below 1 or the shapes do not fit.
    Reference: Bahdanau, Cho, Bengio 2015, arXiv 1409.0473.
    Example:
        >>> tuple(BahdanauAttention(units=13)(ops.ones((2, 3, 7)), ops.ones((2, 5, 11))).shape)
        (2, 3, 11)
    """

    def __init__(self, units, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(kernel_initializer, **kwargs)
        check_units(units)
        self.units = units

    def build(self, query_shape, value_shape, key_shape=None):
        self.check_shapes(query_shape, value_shape, key_shape)
        key_width = (value_shape if key_shape is None else key_shape)[-1]
        self.query_kernel = self.add_kernel("query_kernel", query_shape[-1], self.units)
        self.key_kernel = self.add_kernel("key_kernel", key_width, self.units)
        self.energy = self.add_energy(self.units)

    def project_key(self, key):
        return ops.matmul(key, self.key_kernel)  # (B, S, U)

    def logits(self, query, keys):
        return compare(ops.matmul(query, self.query_kernel), keys, self.energy)  # (B, T, S)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
