"""Attention that only moves forward."""

import keras
from keras import ops

from keras_seqattn.layers.attention.memory_attention import MemoryAttention
from keras_seqattn.layers.attention.scorers import make_scorer, needs_units
from keras_seqattn.layers.nesting import revive, serialize
from keras_seqattn.ops import linear_recurrence, product
from keras_seqattn.ops.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_seqattn")
class MonotonicAttention(MemoryAttention):
    """Reads one step of a source sequence after the other, and never goes back.

    Each target step begins where the last one stopped, asks of one source step after the other whether to stop there,
    and reads the first that it chooses; zeros when it chooses none, and so do all target steps after that.

        p_s     = sigmoid(logits of `score` + score_bias)                        eq. (12); the paper's i is t, j is s
        context = value of the first s from the last one read on with p_s > 1/2                             sec. 2.2

    Training reads the expectation instead, over choices by chance p_s, which noise drives towards 0 and 1:

        p_s      = sigmoid(logits of `score` + score_bias + noise * normal)                                 sec. 2.5
        q_s      = (1 - p_{s-1}) * q_{s-1} + last scores_s                                                  eq. (13)
        scores_s = p_s * q_s                                                                                eq. (14)
        context  = sum over S of scores * value

    Before the first target step, the first source step counts as read. In a cell, the last scores are a state.

    Args:
        score: "normalized_bahdanau" as in the paper, "bahdanau", "concat", "dot" or "general", or an attention that
            remembers nothing.
        units: int, width U of the comparison where a name of `score` makes one, else None.
        noise: float, standard deviation of the noise in training; 0 for none.
        initial_score_bias: float, first value of `score_bias`: the further below zero, the further training looks at
            first. -1 to -4 is usual, the lower the longer the source.
        hard_inference: bool, whether inference chooses; False reads the expectation there too, without noise.
        seed: int, of the noise; None draws one.
        kernel_initializer: for all weights that are made here, but the bias.
    Call arguments:
        query: (B, T, D) float.
        value: (B, S, V) float.
        key: (B, S, K) float, what is compared in place of `value`.
        query_mask: (B, T) bool, False where the context is to be zero, and nothing is chosen.
        value_mask: (B, S) bool, True where a step may be read; a row with none reads zeros.
        attention_mask: (B, T, S) bool, True where this query may read this step.
        return_attention_scores: bool, also the scores, whose sum over S is 1 at most.
        training: bool, whether the expectation is read.
    Returns: (B, T, V) float, in the layer's compute dtype; with the scores (B, T, S) when asked for.
    Raises: ValueError when a setting is unknown, missing, out of place or out of range, or the shapes do not fit.
    Reference: Raffel, Luong, Liu, Weiss, Eck 2017, arXiv 1704.00784.
    Example:
        >>> layer = MonotonicAttention(units=13)
        >>> context, scores = layer(ops.ones((2, 3, 7)), ops.ones((2, 5, 11)), return_attention_scores=True)
        >>> tuple(context.shape), tuple(scores.shape)
        ((2, 3, 11), (2, 3, 5))
    """

    remembers = True

    def __init__(
        self,
        score="normalized_bahdanau",
        units=None,
        noise=1.0,
        initial_score_bias=-1.0,
        hard_inference=True,
        seed=None,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(kernel_initializer, **kwargs)
        if (units is not None) != needs_units(score):
            raise ValueError(
                "`units` is the width of a comparison made here, such as 'normalized_bahdanau': it goes with that "
                f"alone. Received: {score=}, {units=}."
            )
        if units is not None:
            check_units(units)
        if not noise >= 0:
            raise ValueError(f"`noise` is a standard deviation, and must not be below 0. Received: {noise=}.")
        self.scorer = make_scorer(score, units, kernel_initializer=self.fresh_initializer(), dtype=self.dtype_policy)
        self.score = score
        self.units = units
        self.noise = noise
        self.initial_score_bias = initial_score_bias
        self.hard_inference = hard_inference
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, query_shape, value_shape, key_shape=None):
        self.check_shapes(query_shape, value_shape, key_shape)
        self.build_scorer(self.scorer, query_shape, value_shape, key_shape)
        first = keras.initializers.Constant(self.initial_score_bias)
        self.score_bias = self.add_weight(shape=(), initializer=first, name="score_bias")

    def project_key(self, key):
        return self.scorer.project_key(key)

    def first_state(self, keys, queries):
        rows, length = ops.shape(keys)[:2]
        first = ops.cast(ops.equal(ops.arange(length), 0), "float32")
        return [ops.broadcast_to(first[None, None, :], (rows, queries, length))]

    def begin(self, keys, queries, length, training=False):
        if not training or self.noise == 0:
            return []
        rows, steps = ops.shape(keys)[:2]
        shape = (length, rows, queries, steps)
        return [keras.random.normal(shape, stddev=self.noise, dtype="float32", seed=self.seed_generator)]

    def attend(self, query, keys, value, mask=None, state=(), training=False, noise=()):
        mask = None if mask is None else ops.cast(mask, "bool")
        last = ops.cast(state[0], "float32")  # (B, T, S)
        # All in float32, where a chance near 0 or 1 does not become one.
        energy = ops.cast(self.scorer.logits(query, keys, mask), "float32") + ops.cast(self.score_bias, "float32")
        if self.hard_inference and not training:
            chosen = energy > 0  # p > 1/2
            scores = first_chosen(chosen if mask is None else ops.logical_and(chosen, mask), last)
        else:
            for drawn in noise:
                energy = energy + drawn
            stop, go_on = ops.sigmoid(energy), ops.sigmoid(-energy)
            if mask is not None:  # a step that may not be read is passed by
                stop = ops.where(mask, stop, ops.zeros_like(stop))
                go_on = ops.where(mask, go_on, ops.ones_like(go_on))
            scores = expected(stop, go_on, last)
        given = ops.cast(scores, value.dtype)
        return product(given, value), given, [scores]

    def get_config(self):
        return {
            **super().get_config(),
            "score": self.score if isinstance(self.score, str) else serialize(self.score),
            "units": self.units,
            "noise": self.noise,
            "initial_score_bias": self.initial_score_bias,
            "hard_inference": self.hard_inference,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "score"))


def expected(stop, go_on, last):
    """How likely each step is the one that is read, eq. (13) and (14).

    Args:
        stop: (..., S) float, the chance p that a step is chosen when it is come by; go_on: 1 - p.
        last: (..., S) float, how likely each was the one read last.
    Returns: (..., S) float.
    """
    from_last = ops.concatenate([ops.zeros_like(go_on[..., :1]), go_on[..., :-1]], axis=-1)
    return stop * linear_recurrence(from_last, last)


def first_chosen(chosen, last):
    """One at the first step that is chosen (..., S), of those from the last one read on; zero elsewhere. float32."""
    candidates = ops.logical_and(chosen, ops.cumsum(last, axis=-1) > 0)
    first = ops.logical_and(candidates, ops.equal(ops.cumsum(ops.cast(candidates, "int32"), axis=-1), 1))
    return ops.cast(first, "float32")
