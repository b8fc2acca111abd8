"""Additive attention."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention, compare
from keras_seqattn.ops import product
from keras_seqattn.ops.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_seqattn")
class BahdanauAttention(MemoryAttention):
    """Reads a source sequence by comparing each target step with each source step.

    A small network compares, so query and value may differ in width (query: the paper's s, value: its h):

        logits  = energy . tanh(query @ query_kernel + value @ key_kernel)   app. A.1.2
        scores  = softmax of logits over S                                   eq. (6)
        context = sum over S of scores * value                               eq. (5)

    With `normalize`, weight normalization keeps direction and length of the energy apart (Salimans and Kingma, eq. (2);
    Raffel et al., sec. 2.4):

        logits  = scale * energy / |energy| . tanh(query @ query_kernel + value @ key_kernel + bias)

    Args:
        units: int, width U in which query and value are compared, at least 1.
        normalize: bool, whether the energy has a `scale` of its own, sqrt(1 / U) at first, and the comparison a `bias`.
        kernel_initializer: for both kernels and the energy.
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
    References: Bahdanau, Cho, Bengio 2015, arXiv 1409.0473; Salimans, Kingma 2016, arXiv 1602.07868; Raffel et al.
        2017, arXiv 1704.00784.
    Example:
        >>> tuple(BahdanauAttention(units=13)(ops.ones((2, 3, 7)), ops.ones((2, 5, 11))).shape)
        (2, 3, 11)
    """

    def __init__(self, units, normalize=False, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(kernel_initializer, **kwargs)
        check_units(units)
        self.units = units
        self.normalize = normalize

    def build(self, query_shape, value_shape, key_shape=None):
        self.check_shapes(query_shape, value_shape, key_shape)
        key_width = (value_shape if key_shape is None else key_shape)[-1]
        self.query_kernel = self.add_kernel("query_kernel", query_shape[-1], self.units)
        self.key_kernel = self.add_kernel("key_kernel", key_width, self.units)
        self.energy = self.add_energy(self.units)
        if self.normalize:
            first_scale = keras.initializers.Constant(self.units**-0.5)
            self.scale = self.add_weight(shape=(), initializer=first_scale, name="scale")
            self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def project_key(self, key):
        keys = product(key, self.key_kernel)  # (B, S, U)
        return keys + self.bias if self.normalize else keys

    def logits(self, query, keys, mask=None):
        energy = normalized(self.energy, self.scale) if self.normalize else self.energy
        return compare(product(query, self.query_kernel), keys, energy)  # (B, T, S)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "normalize": self.normalize}


def normalized(energy, scale):
    """The vector (U,) with the direction of `energy` and the length `scale`."""
    wide = ops.cast(energy, "float32")  # the sum of squares of small numbers is zero in float16
    square = ops.maximum(ops.sum(ops.square(wide)), 1e-24)  # at 0, square ** -1.5 still fits float32: no NaN
    return ops.cast(wide * ops.rsqrt(square), energy.dtype) * scale
