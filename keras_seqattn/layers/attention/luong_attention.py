"""Multiplicative attention, its concat form, and its location form."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention, compare, places
from keras_seqattn.ops import product, widen
from keras_seqattn.ops.arguments import check_count, check_units

SCORES = ("concat", "dot", "general", "location")
SCALED_SCORES = ("dot", "general")


@keras.saving.register_keras_serializable(package="keras_seqattn")
class LuongAttention(MemoryAttention):
    """Reads a source sequence by the product of each target step with each source step.

    With query the paper's h_t and value its h_s:

        logits  = query . value                                      "dot"
        logits  = query . (value @ key_kernel)                       "general"
        logits  = energy . tanh([query; value] @ kernel)             "concat"; kernel = [query_kernel; key_kernel]
        logits  = query @ location_kernel, its first S               "location", sec. 3.1
        scores  = softmax of logits over S                           eq. (7)
        context = sum over S of scores * value

    "location" does not look at the value, only at the places of the steps that may be read, which are counted without
    those that may not. It knows `max_steps` places: more steps are an error where the layer is built for so many, and
    where they come later, in a longer call or a graph of open shapes, the end is not read, as in the paper.

    Args:
        score: "dot" (query and value of one width), "general", "concat" or "location".
        units: int, width U of the comparison, for "concat" alone.
        max_steps: int, number of places, for "location" alone.
        use_scale: bool, whether "dot" and "general" are multiplied by a learned `scale`, 1 at first.
        kernel_initializer: for all weights but the scale.
    Call arguments:
        query: (B, T, D) float.
        value: (B, S, V) float.
        key: (B, S, K) float, what is compared in place of `value`.
        query_mask: (B, T) bool, False where the context is to be zero.
        value_mask: (B, S) bool, True where a step may be read; a row with none reads zeros.
        attention_mask: (B, T, S) bool, True where this query may read this step.
        return_attention_scores: bool, also the scores.
    Returns: (B, T, V) float, in the layer's compute dtype; with the scores (B, T, S) when asked for.
    Raises: ValueError when `score` is unknown, a setting is missing or out of place, the shapes do not fit, or S is
        above `max_steps` when the layer is built.
    Reference: Luong, Pham, Manning 2015, arXiv 1508.04025.
    Example:
        >>> tuple(LuongAttention(score="general")(ops.ones((2, 3, 7)), ops.ones((2, 5, 11))).shape)
        (2, 3, 11)
    """

    def __init__(
        self,
        score="dot",
        units=None,
        max_steps=None,
        use_scale=False,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(kernel_initializer, **kwargs)
        if score not in SCORES:
            raise ValueError(f"`score` must be one of {', '.join(map(repr, SCORES))}. Received: {score=}.")
        if (units is not None) != (score == "concat"):
            raise ValueError(
                f"`units` is the width of the comparison of score 'concat', and of that alone. "
                f"Received: {score=}, {units=}."
            )
        if (max_steps is not None) != (score == "location"):
            raise ValueError(
                f"`max_steps` is the number of places that score 'location' knows, and that alone. "
                f"Received: {score=}, {max_steps=}."
            )
        if use_scale and score not in SCALED_SCORES:
            raise ValueError(f"`use_scale` is for the scores 'dot' and 'general'. Received: {score=}, {use_scale=}.")
        if units is not None:
            check_units(units)
        if max_steps is not None:
            check_count(max_steps, "max_steps")
        self.score = score
        self.units = units
        self.max_steps = max_steps
        self.use_scale = use_scale

    def build(self, query_shape, value_shape, key_shape=None):
        self.check_shapes(query_shape, value_shape, key_shape)
        key_shape = value_shape if key_shape is None else key_shape
        query_width, key_width = query_shape[-1], key_shape[-1]
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
        if self.score == "location":
            if key_shape[1] is not None and key_shape[1] > self.max_steps:
                raise ValueError(
                    "Score 'location' has a weight for each place of the memory, so the memory must not have more "
                    f"steps than `max_steps`. Received: {key_shape[1]} steps, max_steps={self.max_steps}."
                )
            self.location_kernel = self.add_kernel("location_kernel", query_width, self.max_steps)
        if self.use_scale:
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def project_key(self, key):
        if self.score == "general":
            return product(key, self.key_kernel)  # (B, S, D)
        if self.score == "concat":
            return product(key, self.kernel[-key.shape[-1] :])  # (B, S, U)
        return key

    def logits(self, query, keys, mask=None):
        if self.score == "concat":
            return compare(product(query, self.kernel[: query.shape[-1]]), keys, self.energy)
        if self.score == "location":
            return self._location_logits(query, keys, mask)
        logits = product(widen(query), ops.transpose(widen(keys), (0, 2, 1)))  # (B, T, S)
        return logits * ops.cast(self.scale, logits.dtype) if self.use_scale else logits

    def _location_logits(self, query, keys, mask):
        every = product(widen(query), widen(self.location_kernel))  # (B, T, max_steps)
        place = places(keys, mask) - 1  # (B or 1, T or 1, S)
        known = ops.clip(place, 0, self.max_steps - 1)
        known = ops.broadcast_to(known, (*ops.shape(every)[:2], ops.shape(known)[-1]))
        logits = ops.take_along_axis(every, known, axis=-1)  # (B, T, S)
        # -1e9: beside any step that is known, nothing.
        return ops.where(place < self.max_steps, logits, ops.cast(-1e9, logits.dtype))

    def get_config(self):
        return {
            **super().get_config(),
            "score": self.score,
            "units": self.units,
            "max_steps": self.max_steps,
            "use_scale": self.use_scale,
        }
