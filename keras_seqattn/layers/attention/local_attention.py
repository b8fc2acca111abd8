"""Attention to a window of the source."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention, places
from keras_seqattn.layers.attention.scorers import make_scorer, needs_units
from keras_seqattn.layers.nesting import revive, serialize
from keras_seqattn.ops import masked_softmax, product
from keras_seqattn.ops.arguments import check_count, check_units

ALIGNMENTS = ("monotonic", "predictive")


@keras.saving.register_keras_serializable(package="keras_seqattn")
class LocalAttention(MemoryAttention):
    """Reads a window of a source sequence around a position of each target step.

    With query the paper's h_t, places and steps counted from 1 (sec. 3.2):

        position = t                                                                        "monotonic"
        position = S * sigmoid(position_energy . tanh(query @ position_kernel))             "predictive", eq. (9)
        near     = position - window <= place <= position + window
        scores   = softmax of the logits of `score` over the steps that are near            eq. (7)
        scores   = scores * exp(-(place - position)^2 / (2 (window / 2)^2))                 "predictive", eq. (10)
        context  = sum over S of scores * value

    Places count the steps that may be read alone, and S is their number: a step that is masked is as good as gone.
    So is a target step that is masked: t does not count it. In a cell, t is a state.

    Args:
        score: "general", "dot", "concat", "bahdanau" or "normalized_bahdanau", or an attention that remembers nothing.
        window: int, the paper's D, at least 1.
        alignment: "monotonic", step t of the target beside step t of the source, or "predictive".
        units: int, width U of what predicts the position, and of the comparison that a name of `score` makes; None
            where neither has one.
        kernel_initializer: for all weights that are made here.
    Call arguments:
        query: (B, T, D) float.
        value: (B, S, V) float.
        key: (B, S, K) float, what is compared in place of `value`.
        query_mask: (B, T) bool, False where the context is to be zero.
        value_mask: (B, S) bool, True where a step may be read; a row with none reads zeros.
        attention_mask: (B, T, S) bool, True where this query may read this step.
        return_attention_scores: bool, also the scores.
    Returns: (B, T, V) float, in the layer's compute dtype, zeros where nothing is near; with the scores (B, T, S) when
        asked for.
    Raises: ValueError when a setting is unknown, missing, out of place or below 1, or the shapes do not fit.
    Reference: Luong, Pham, Manning 2015, arXiv 1508.04025.
    Example:
        >>> layer = LocalAttention(score="general", window=2, alignment="predictive", units=13)
        >>> tuple(layer(ops.ones((2, 3, 7)), ops.ones((2, 5, 11))).shape)
        (2, 3, 11)
    """

    def __init__(
        self,
        score="general",
        window=10,
        alignment="monotonic",
        units=None,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(kernel_initializer, **kwargs)
        check_count(window, "window")
        if alignment not in ALIGNMENTS:
            raise ValueError(f"`alignment` must be 'monotonic' or 'predictive'. Received: {alignment=}.")
        if (units is not None) != (alignment == "predictive" or needs_units(score)):
            raise ValueError(
                "`units` is the width of what predicts the position, and of a comparison made here such as 'concat': "
                f"it goes with these alone. Received: {alignment=}, {score=}, {units=}."
            )
        if units is not None:
            check_units(units)
        self.scorer = make_scorer(score, units, kernel_initializer=self.fresh_initializer(), dtype=self.dtype_policy)
        self.score = score
        self.window = window
        self.alignment = alignment
        self.units = units
        self.remembers = alignment == "monotonic"

    def build(self, query_shape, value_shape, key_shape=None):
        self.check_shapes(query_shape, value_shape, key_shape)
        self.build_scorer(self.scorer, query_shape, value_shape, key_shape)
        if self.alignment == "predictive":
            self.position_kernel = self.add_kernel("position_kernel", query_shape[-1], self.units)
            self.position_energy = self.add_energy(self.units, "position_energy")

    def project_key(self, key):
        return self.scorer.project_key(key)

    def first_state(self, keys, queries):
        if not self.remembers:
            return []
        return [ops.zeros((ops.shape(keys)[0], queries), dtype="int32")]  # how many steps there were

    def attend(self, query, keys, value, mask=None, state=(), training=False, noise=()):
        mask = None if mask is None else ops.cast(mask, "bool")
        place = ops.cast(places(keys, mask), "float32")  # (B or 1, T or 1, S)
        if self.remembers:
            state = [state[0] + 1]
            position = ops.cast(state[0], "float32")[:, :, None]  # (B, T, 1)
        else:
            position = place[:, :, -1:] * self._predicted(query)
        near = ops.abs(place - position) <= self.window  # (B, T, S)
        may_read = near if mask is None else ops.logical_and(mask, near)
        scores = masked_softmax(self.scorer.logits(query, keys, mask), may_read)
        if self.alignment == "predictive":
            scores = scores * ops.exp(-2.0 * ops.square((place - position) / self.window))
        scores = ops.cast(scores, value.dtype)  # (B, T, S)
        return product(scores, value), scores, list(state)

    def _predicted(self, query):
        """The position as a share of the source (B, T, 1), in float32: half precision cannot tell far places apart."""
        hidden = ops.cast(ops.tanh(product(query, self.position_kernel)), "float32")  # (B, T, U)
        return ops.sigmoid(ops.matmul(hidden, ops.cast(self.position_energy, "float32")[:, None]))

    def attend_in_turn(self, query, keys, value, mask=None, query_mask=None, training=False):
        if not self.remembers:
            return super().attend_in_turn(query, keys, value, mask, query_mask, training)
        # How many steps there were before each is known for all at once.
        if query_mask is None:
            before = ops.arange(ops.shape(query)[1], dtype="int32")[None, :]
        else:
            counts = ops.cast(query_mask, "int32")
            before = ops.cumsum(counts, axis=1) - counts  # (B, T)
        return self.attend(query, keys, value, mask, [before], training)[:2]

    def get_config(self):
        return {
            **super().get_config(),
            "score": self.score if isinstance(self.score, str) else serialize(self.score),
            "window": self.window,
            "alignment": self.alignment,
            "units": self.units,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "score"))
