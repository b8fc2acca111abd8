"""Multiplicative attention, and its concat form."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention, compare
from keras_seqattn.layers.recurrent.cell import check_units
from keras_seqattn.ops import widen

SCORES = ("concat", "dot", "general")


@keras.saving.register_keras_serializable(package="keras_seqattn")
class LuongAttention(MemoryAttention):
    """Reads a source sequence by the product of each target step with each source step.

    With query the paper's h_t and value its h_s:

        logits  = query . value                                      "dot", eq. (8)
        logits  = query . (value @ key_kernel)                       "general"
        logits  = energy . tanh([query; value] @ kernel)             "concat"; kernel = [query_kernel; key_kernel]
        scores  = softmax of logits over S                           eq. (7)
        context = sum over S of scores * value

    Args:
        score: "dot" (query and value of one width), "general" or "concat".
        units: int, width U of the comparison, for "concat" alone.
        kernel_initializer: for all weights.
    Call arguments:
        query: (B, T, D) float.
        value: (B, S, V) float.
        key: (B, S, K) float, what is compared in place of `value`.
        query_mask: (B, T) bool, False where the context is to be zero.
        value_mask: (B, S) bool, True where a step may be read; a row with none reads zeros.
        attention_mask: (B, T, S) bool, True where this query may read this step.
        return_attention_scores: bool, also the scores.
    Returns: (B, T, V) float, in the layer's compute dtype; with the scores (B, T, S) when asked for.
    Raises: ValueError when `score` is unknown, `units` is missing or out of place, or the shapes do not fit.
    Reference: Luong, Pham, Manning 2015, arXiv 1508.04025.
    Example:
        >>> tuple(LuongAttention(score="general")(ops.ones((2, 3, 7)), ops.ones((2, 5, 11))).shape)
        (2, 3, 11)
    """

    def __init__(self, score="dot", units=None, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(kernel_initializer, **kwargs)
        if score not in SCORES:
            raise ValueError(f"`score` must be one of {', '.join(map(repr, SCORES))}. Received: {score=}.")
        if (units is not None) != (score == "concat"):
            raise ValueError(
                f"`units` is the width of the comparison of score 'concat', and of that alone. "
                f"Received: {score=}, {units=}."
            )
        if units is not None:
            check_units(units)
        self.score = score
        self.units = units

    def build(self, query_shape, value_shape, key_shape=None):
        self.check_shapes(query_shape, value_shape, key_shape)
        query_width, key_width = query_shape[-1], (value_shape if key_shape is None else key_shape)[-1]
        if self.score == "dot" and query_width != key_width:
            raise ValueError(
                "Score 'dot' multiplies query and value, so their widths must agree; 'general' has a kernel between. "
                f"Received: query_shape={tuple(query_shape)}, value_shape={tuple(value_shape)}."
            )
        if self.score == "general":
            self.key_kernel = self.add_kernel("key_kernel", key_width, query_width)
        if self.score == "concat":
            self.kernel = self.add_kernel("kernel", query_width + key_width, self.units)
            self.energy = self.add_energy(self.units)

    def project_key(self, key):
        if self.score == "general":
            return ops.matmul(key, self.key_kernel)  # (B, S, D)
        if self.score == "concat":
            return ops.matmul(key, self.kernel[-key.shape[-1] :])  # (B, S, U)
        return key

    def logits(self, query, keys):
        if self.score == "concat":
            return compare(ops.matmul(query, self.kernel[: query.shape[-1]]), keys, self.energy)
        return ops.matmul(widen(query), ops.transpose(widen(keys), (0, 2, 1)))  # (B, T, S)

    def get_config(self):
        return {**super().get_config(), "score": self.score, "units": self.units}
