"""Multi-head attention."""

import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_seqattn.layers.attention.attention_cache import AttentionCache, released, times_of_slots, written
from keras_seqattn.layers.initializers import drawn_anew
from keras_seqattn.ops import attention, attention_scores
from keras_seqattn.ops.arguments import check_count, check_rate, check_units, is_count
from keras_seqattn.ops.attention import check_implementation, check_window, which_rows
from keras_seqattn.ops.plain_attention import in_reach
from keras_seqattn.ops.positions import alibi_bias, check_rotary_width, distances_of, relative_buckets, rotary

POSITIONS = (None, "rotary", "alibi", "relative")


@keras.saving.register_keras_serializable(package="keras_seqattn")
class MultiHeadAttention(keras.layers.Layer):
    """Reads a sequence by several comparisons at once.

        head_h  = attention(query W_h + b_h, key W'_h + b'_h, value W''_h + b''_h)    scores by query . key / sqrt(K)
        output  = sum over H of head_h W_out_h + b_out

    The arguments, weights and masks are those of `keras.layers.MultiHeadAttention` (without `attention_axes` and
    `flash_attention`): `set_weights` takes those of its layer as they are. Beside it:

    - `num_kv_heads` below `num_heads`: heads share keys and values, which are not repeated for it.
    - `positions`: "rotary" turns queries and keys; "alibi" lowers logits by distance; "relative" learns a bias for each
      head and bucket of distances, which are those before the query alone where the attention is causal.
    - `implementation`: memory may be linear in the length ("blockwise", "fused", and "auto" for long sequences).
    - Scores come from a pass of their own, of all queries or of some, and do not change how the output is computed.
    - `cache`: steps that were projected before are not projected again.

    With a cache and a value, the steps of query and value are new ones, the first at time `cache_index`. Their keys and
    values are written to the cache, and each query reads the steps up to its own, whatever `use_causal_mask` says;
    masks of the value are remembered. With `sliding_window`, the cache is a ring: time t has slot t mod
    `sliding_window`. With a cache (from `make_cross_cache`) and no value, the cache is read. A query of G times its
    rows is one of G beams a row: the cache is not repeated for them.

    Args:
        num_heads: int, number of heads H.
        key_dim: int, width K of a head's query and key.
        value_dim: int, width V of a head's value; `key_dim` by default.
        dropout: float, share of scores that are dropped in training.
        use_bias: bool, whether the projections have biases.
        output_shape: int or tuple, shape of each output step; the width of the query by default.
        num_kv_heads: int, number N of heads of key and value; `num_heads` by default, which it must divide.
        positions: None, "rotary", "alibi" or "relative". The last three are for self-attention.
        sliding_window: int, how many steps a query reads: with a causal mask the last ones, its own included; otherwise
            those less than `sliding_window` away. None: all.
        implementation: "auto", "plain", "blockwise" or "fused", see `keras_seqattn.ops.attention`.
        use_gate: bool, whether heads are multiplied by a sigmoid gate of the query before the output projection.
        num_buckets, max_distance: int, of "relative" positions.
        max_wavelength: float, of "rotary" positions.
        kernel_initializer, bias_initializer: of all projections.
        kernel_regularizer, bias_regularizer, activity_regularizer: of all projections.
        kernel_constraint, bias_constraint: of all projections.
        seed: int, of the dropout.
    Call arguments:
        query: (B, T, D) float.
        value: (B, S, D') float; None reads the cache.
        key: (B, S, D'') float, what is compared in place of `value`.
        query_mask: (B, T) bool, False where a query reads nothing.
        value_mask, key_mask: (B, S) bool, True where a step may be read.
        attention_mask: (T, S), (B, T, S) or (B, H, T, S) bool, True where this query may read this step. With a cache,
            S are its slots.
        return_attention_scores: bool, also the scores.
        score_rows: which queries' scores: slice, list of ints or int tensor (R,); None all.
        training: bool, whether scores are dropped.
        use_causal_mask: bool, whether query t reads no further than step t.
        cache: AttentionCache.
        cache_index: int or scalar int32 tensor, the time of the first query.
    Returns: (B, T, D) float; with the scores (B, H, R, S), before dropout, when asked for; and the new cache when one
        was given. The scores of a ring read at several steps at once are those of its slots before, then of the steps.
    Raises: ValueError when a setting is out of range, or arguments do not go together.
    References: Vaswani et al. 2017, arXiv 1706.03762, sec. 3.2.2; Ainslie et al. 2023, arXiv 2305.13245 (shared keys);
        Su et al. 2021, arXiv 2104.09864 (rotary); Press et al. 2022, arXiv 2108.12409 (ALiBi); Raffel et al. 2020,
        arXiv 1910.10683 (relative); Beltagy et al. 2020, arXiv 2004.05150 (sliding window).
    Example:
        >>> layer, steps = MultiHeadAttention(num_heads=4, key_dim=8, num_kv_heads=2), ops.ones((2, 3, 7))
        >>> output, scores = layer(steps, steps, use_causal_mask=True, return_attention_scores=True, score_rows=[-1])
        >>> tuple(output.shape), tuple(scores.shape)
        ((2, 3, 7), (2, 4, 1, 3))
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
        use_bias=True,
        output_shape=None,
        num_kv_heads=None,
        positions=None,
        sliding_window=None,
        implementation="auto",
        use_gate=False,
        num_buckets=32,
        max_distance=128,
        max_wavelength=10000.0,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        value_dim = key_dim if value_dim is None else value_dim
        check_count(num_heads, "num_heads")
        check_units(key_dim, "key_dim")
        check_units(value_dim, "value_dim")
        check_rate(dropout, "dropout")
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if not is_count(num_kv_heads) or num_heads % num_kv_heads:
            raise ValueError(
                "The heads share keys and values evenly, so `num_kv_heads` must divide `num_heads`. "
                f"Received: {num_heads=}, {num_kv_heads=}."
            )
        if positions not in POSITIONS:
            known = ", ".join(repr(name) for name in POSITIONS)
            raise ValueError(f"`positions` must be one of {known}. Received: {positions=}.")
        if positions == "rotary":
            check_rotary_width(key_dim, "`key_dim`")
        if positions == "relative" and not (
            is_count(num_buckets) and num_buckets >= 4 and is_count(max_distance) and max_distance > num_buckets // 2
        ):
            raise ValueError(
                "`num_buckets` must be at least 4, and `max_distance` above half of it. "
                f"Received: {num_buckets=}, {max_distance=}."
            )
        check_window(sliding_window, "sliding_window")
        check_implementation(implementation)
        if dropout and implementation == "fused":
            raise ValueError(
                "The fused kernels take no seed, so with `dropout` the `implementation` must be auto, plain "
                f"or blockwise. Received: {dropout=}, {implementation=}."
            )
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.value_dim = value_dim
        self.dropout = dropout
        self.use_bias = use_bias
        # Not `output_shape`, which is what Keras calls the shape of a layer's symbolic output.
        self.output_step_shape = (output_shape,) if isinstance(output_shape, int) else output_shape and (*output_shape,)
        self.num_kv_heads = num_kv_heads
        self.positions = positions
        self.sliding_window = sliding_window
        self.implementation = implementation
        self.use_gate = use_gate
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.max_wavelength = max_wavelength
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.activity_regularizer = keras.regularizers.get(activity_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.seed = seed
        self.supports_masking = True
        if dropout:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, query_shape, value_shape=None, key_shape=None):
        if value_shape is None:
            raise ValueError("The first call of the layer needs `value`: a cache does not tell how wide it was.")
        shapes = {"query": query_shape, "value": value_shape, "key": value_shape if key_shape is None else key_shape}
        for name, shape in shapes.items():
            if len(shape) != 3 or shape[-1] is None:
                raise ValueError(
                    f"`{name}` must have three axes (batch, steps, features) and a known width. "
                    f"Received: {name}_shape={tuple(shape)}."
                )
        if None not in (shapes["value"][1], shapes["key"][1]) and shapes["value"][1] != shapes["key"][1]:
            raise ValueError(
                "`value` and `key` must have one number of steps. "
                f"Received: value_shape={tuple(value_shape)}, key_shape={tuple(key_shape)}."
            )
        self.query_dense = self.projection("query", shapes["query"], self.num_heads, self.key_dim)
        self.key_dense = self.projection("key", shapes["key"], self.num_kv_heads, self.key_dim)
        if self.use_gate:
            self.gate_dense = self.projection("gate", shapes["query"], self.num_heads, self.value_dim, "sigmoid")
        self.value_dense = self.projection("value", shapes["value"], self.num_kv_heads, self.value_dim)
        step = self.output_step_shape or (query_shape[-1],)
        axes = "defgijklmnopq"[: len(step)]
        self.output_dense = keras.layers.EinsumDense(
            f"bthv,hv{axes}->bt{axes}",
            output_shape=(None, *step),
            bias_axes=axes if self.use_bias else None,
            name="attention_output",
            **self.projection_settings(),
        )
        self.output_dense.build((*query_shape[:2], self.num_heads, self.value_dim))
        if self.positions == "relative":
            self.relative_bias = self.add_weight(
                shape=(self.num_buckets, self.num_heads),
                initializer=keras.initializers.RandomNormal(stddev=query_shape[-1] ** -0.5),
                name="relative_bias",
            )

    def projection(self, name, shape, heads, width, activation=None):
        """A built layer from steps (B, T, D) to heads (B, T, H, K)."""
        dense = keras.layers.EinsumDense(
            "btd,dhk->bthk",
            output_shape=(None, heads, width),
            activation=activation,
            bias_axes="hk" if self.use_bias else None,
            name=name,
            **self.projection_settings(),
        )
        # Else Keras warns that it drops the mask of an input; taking it off the input would take it from others too.
        dense.supports_masking = True
        dense.build(shape)
        return dense

    def projection_settings(self):
        """What all projections share. One and the same initializer would draw the same numbers for each."""
        return {
            "kernel_initializer": drawn_anew(self.kernel_initializer),
            "bias_initializer": drawn_anew(self.bias_initializer),
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "activity_regularizer": self.activity_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "bias_constraint": self.bias_constraint,
            "dtype": self.dtype_policy,
        }

    def get_initial_cache(self, batch_size, max_length):
        """An AttentionCache in which nothing is written, for `max_length` steps; with a sliding window, a ring."""
        slots = max_length if self.sliding_window is None else min(max_length, self.sliding_window)
        return AttentionCache(
            ops.zeros((batch_size, slots, self.num_kv_heads, self.key_dim), dtype=self.compute_dtype),
            ops.zeros((batch_size, slots, self.num_kv_heads, self.value_dim), dtype=self.compute_dtype),
            ops.zeros((batch_size, slots), dtype="bool"),
        )

    def make_cross_cache(self, value, value_mask=None, key=None):
        """The AttentionCache of a source sequence, to be read by calls without a value.

        Args:
            value: (B, S, D') float. key: (B, S, D'') float, what is compared in its place.
            value_mask: (B, S) bool, True where a step may be read.
        """
        if not self.built:
            raise ValueError("The layer has no weights yet, so `build` or a call must come before `make_cross_cache`.")
        value = ops.cast(value, self.compute_dtype)
        key = value if key is None else ops.cast(key, self.compute_dtype)
        keys, values = self.key_dense(key), self.value_dense(value)
        mask = ops.ones(ops.shape(keys)[:2], dtype="bool") if value_mask is None else ops.cast(value_mask, "bool")
        return AttentionCache(keys, values, mask)

    def call(
        self,
        query,
        value=None,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        score_rows=None,
        training=None,
        use_causal_mask=False,
        cache=None,
        cache_index=None,
    ):
        self.check_call(query, value, use_causal_mask, cache, cache_index)
        queries = self.query_dense(query)  # (B, T, H, K)
        mask, query_mask = all_of(value_mask, key_mask), all_of(query_mask)  # (B, S), (B, T)
        attention_mask = None if attention_mask is None else with_heads_axis(ops.cast(attention_mask, "bool"))
        if value is None:
            attention_mask = None if attention_mask is None else fold_mask(attention_mask, queries, cache)
            queries = fold(queries, cache)  # (B, G * T, H, K)
            reading = scored = Reading(cache.key, cache.value, {"mask": all_of(by_key(cache.mask), attention_mask)})
        else:
            steps = AttentionCache(self.key_dense(value if key is None else key), self.value_dense(value), mask)
            if self.positions == "rotary":
                first = 0 if cache is None else cache_index
                queries = self.rotated(queries, first)
                steps = steps._replace(key=self.rotated(steps.key, first))
            if cache is not None and mask is None:
                steps = steps._replace(mask=ops.ones(ops.shape(steps.key)[:2], dtype="bool"))
            if cache is None:
                reading = scored = self.read_steps(queries, steps, attention_mask, use_causal_mask)
            elif self.sliding_window is None:
                reading, scored, cache = self.read_slots(queries, steps, attention_mask, cache, cache_index)
            else:
                reading, cache = self.read_ring(queries, steps, attention_mask, cache, cache_index)
                scored = reading
        drop = {"dropout": self.dropout, "seed": self.seed_generator} if self.dropout and training else {}
        context = attention(
            queries, reading.key, reading.value, **reading.settings, **drop, implementation=self.implementation
        )  # (B, T, H, V)
        batch, length = ops.shape(query)[:2]
        context = ops.reshape(context, (batch, length, self.num_heads, self.value_dim))
        if query_mask is not None:
            context = ops.where(query_mask[:, :, None, None], context, ops.zeros_like(context))
        if self.use_gate:
            context = context * self.gate_dense(query)
        results = (self.output_dense(context),)  # (B, T, D)
        if return_attention_scores:
            results += (self.scores(queries, scored, query_mask, score_rows, batch, length, value is None),)
        if cache is not None:
            results += (cache if value is None else released(cache, results),)
        return results if len(results) > 1 else results[0]

    def rotated(self, x, first):
        """Heads (B, T, H, K) of the steps from time `first` on, turned by their times."""
        return rotary(x, first + ops.arange(ops.shape(x)[1], dtype="int32"), self.max_wavelength)

    def read_steps(self, queries, steps, attention_mask, causal):
        """What queries read without a cache: the steps of this call."""
        mask = None if steps.mask is None else by_key(steps.mask)
        settings = {"mask": all_of(mask, attention_mask), "causal": causal, "window": self.sliding_window}
        bias = self.bias_by_distance(ops.shape(queries)[1], ops.shape(steps.key)[1], causal)
        return Reading(steps.key, steps.value, settings | bias)

    def read_slots(self, queries, steps, attention_mask, cache, index):
        """Writes steps to their slots. Returns what is read for contexts, and for scores, and the new cache."""
        cache = written(cache, steps, index)
        slots, length = ops.shape(cache.key)[1], ops.shape(queries)[1]

        def reading(slots):
            mask = None if attention_mask is None else attention_mask[..., :slots]
            mask = all_of(by_key(cache.mask[:, :slots]), mask)
            settings = {"mask": mask, "causal": True, "offset": index}
            bias = self.bias_by_distance(length, slots, True, index)
            return Reading(cache.key[:, :slots], cache.value[:, :slots], settings | bias)

        everything = reading(slots)
        if isinstance(index, int) and isinstance(length, int):  # then it is known which slots nobody has reached yet
            return reading(index + length), everything, cache
        return everything, everything, cache

    def read_ring(self, queries, steps, attention_mask, cache, index):
        """Writes steps to a ring. Returns what is read, and the new ring."""
        if attention_mask is not None:
            raise ValueError(
                "`attention_mask` names steps by their slots, and those of a sliding window change from step to step: "
                f"it takes masks of the value. Received: sliding_window={self.sliding_window} and a cache."
            )
        slots, length = ops.shape(cache.key)[1], ops.shape(queries)[1]
        new_cache = written(cache, steps, index, ring=True)
        now = index + ops.arange(length, dtype="int32")  # (T,)
        if queries.shape[1] == 1:
            source, times = new_cache, times_of_slots(slots, index + 1)
        else:  # the last steps overwrite what the first ones read
            source = AttentionCache(*(ops.concatenate(pair, axis=1) for pair in zip(cache, steps, strict=True)))
            times = ops.concatenate([times_of_slots(slots, index), now])
        distances = times - now[:, None]  # (T, S)
        reach = ops.logical_and(in_reach(distances, True, self.sliding_window), times >= 0)
        settings = {"mask": ops.logical_and(by_key(source.mask), reach)}  # (B, 1, T, S)
        if self.positions in ("alibi", "relative"):
            settings["bias"] = self.biases(distances, True)[None]  # (1, H, T, S)
        return Reading(source.key, source.value, settings), new_cache

    def bias_by_distance(self, num_queries, num_keys, causal, offset=0):
        """The argument `distance_bias` (H, T + S - 1) of `attention`, or none."""
        if self.positions not in ("alibi", "relative"):
            return {}
        return {"distance_bias": self.biases(distances_of(num_queries, num_keys, offset), causal)}

    def biases(self, distances, causal):
        """What each head adds to its logits at these distances: (...) int -> (H, ...)."""
        if self.positions == "alibi":
            return alibi_bias(distances, self.num_heads)
        buckets = relative_buckets(distances, self.num_buckets, self.max_distance, bidirectional=not causal)
        return ops.moveaxis(ops.take(ops.convert_to_tensor(self.relative_bias), buckets, axis=0), -1, 0)

    def scores(self, queries, reading, query_mask, rows, batch, length, folded):
        """(B, H, R, S) of the rows asked, of queries that may be folded."""
        rows = places = which_rows(rows, length)
        count = length if rows is None else ops.shape(rows)[0]
        if folded and rows is not None:  # the rows of each beam
            beams = ops.shape(queries)[1] // length
            places = ops.reshape(ops.arange(beams, dtype="int32")[:, None] * length + rows, (-1,))
        scores = attention_scores(queries, reading.key, **reading.settings, rows=places)  # (B, H, G * R, S)
        slots = ops.shape(reading.key)[1]
        scores = ops.reshape(scores, (ops.shape(queries)[0], self.num_heads, -1, count, slots))
        scores = ops.reshape(ops.transpose(scores, (0, 2, 1, 3, 4)), (batch, self.num_heads, count, slots))
        if query_mask is not None:
            query_mask = query_mask if rows is None else ops.take(query_mask, rows, axis=1)
            scores = ops.where(query_mask[:, None, :, None], scores, ops.zeros_like(scores))
        return ops.cast(scores, self.compute_dtype)

    def check_call(self, query, value, causal, cache, cache_index):
        """Raises ValueError when arguments do not go together."""
        if value is None:
            if cache is None or cache_index is not None or causal or self.positions or self.sliding_window:
                raise ValueError(
                    "Without `value`, a cache from `make_cross_cache` is read, of a sequence whose steps have no order "
                    "in common with the query's: it goes without `cache_index`, `use_causal_mask`, `positions` and "
                    f"`sliding_window`. Received: cache={'None' if cache is None else 'given'}, {cache_index=}, "
                    f"use_causal_mask={causal}, positions={self.positions!r}, sliding_window={self.sliding_window}."
                )
            return
        if (cache is None) != (cache_index is None):
            raise ValueError(
                "`cache` and `cache_index` go together: the index is the time of the first query. "
                f"Received: cache={'None' if cache is None else 'given'}, {cache_index=}."
            )
        lengths = (query.shape[1], value.shape[1])
        if (self.positions or cache is not None) and None not in lengths and lengths[0] != lengths[1]:
            raise ValueError(
                "`positions` and a cache with `value` are for self-attention, where query and value are the same "
                f"steps. Received: query.shape={tuple(query.shape)}, value.shape={tuple(value.shape)}, "
                f"positions={self.positions!r}."
            )

    def compute_output_spec(
        self,
        query,
        value=None,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        score_rows=None,
        training=None,
        use_causal_mask=False,
        cache=None,
        cache_index=None,
    ):
        self.check_call(query, value, use_causal_mask, cache, cache_index)
        batch, length, width = query.shape
        step = self.output_step_shape or (width,)
        results = (keras.KerasTensor((batch, length, *step), dtype=self.compute_dtype),)
        if return_attention_scores:
            num_keys = (value if cache is None else cache.key).shape[1]
            if cache is not None and value is not None and self.sliding_window is not None and length != 1:
                num_keys = None if None in (num_keys, length) else num_keys + length
            shape = (batch, self.num_heads, count_rows(score_rows, length), num_keys)
            results += (keras.KerasTensor(shape, dtype=self.compute_dtype),)
        if cache is not None:
            results += (keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), cache),)
        return results if len(results) > 1 else results[0]

    def compute_mask(self, query, previous_mask=None):
        return previous_mask  # the query's: Keras passes the first argument, and the mask that it carries

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_shape": self.output_step_shape,
            "num_kv_heads": self.num_kv_heads,
            "positions": self.positions,
            "sliding_window": self.sliding_window,
            "implementation": self.implementation,
            "use_gate": self.use_gate,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "max_wavelength": self.max_wavelength,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "seed": self.seed,
        }


class Reading(NamedTuple):
    """Keys (B, S, N, K), values (B, S, N, V), and how `attention` is to read them."""

    key: Any
    value: Any
    settings: dict


def count_rows(rows, length):
    """How many of `length` queries `score_rows` names, None where that is not known."""
    if rows is None:
        return length
    if isinstance(rows, slice):
        return None if length is None else len(range(*rows.indices(length)))
    return rows.shape[0] if hasattr(rows, "shape") else len(rows)


def all_of(*masks):
    """Where all of the masks that are there are True; None where none is there."""
    there = [ops.cast(mask, "bool") for mask in masks if mask is not None]
    return functools.reduce(ops.logical_and, there) if there else None


def by_key(mask):
    """(B, S) -> (B, 1, 1, S)."""
    return mask[:, None, None, :]


def with_heads_axis(mask):
    """(T, S), (B, T, S) or (B, H, T, S), with axes of 1 for those that are not there."""
    mask = mask[None] if len(mask.shape) == 2 else mask
    return mask[:, None] if len(mask.shape) == 3 else mask


def fold(x, cache):
    """Rows of beams as more steps of a row: (B * G, T, ...) -> (B, G * T, ...)."""
    return ops.reshape(x, (ops.shape(cache.mask)[0], -1, *ops.shape(x)[2:]))


def fold_mask(mask, queries, cache):
    """A mask (B * G or 1, H or 1, T, S) as `fold` has its queries: (B, H or 1, G * T, S)."""
    rows = ops.shape(cache.mask)[0]
    heads, length, num_keys = ops.shape(mask)[1:]
    mask = ops.broadcast_to(mask, (ops.shape(queries)[0], heads, length, num_keys))
    mask = ops.transpose(ops.reshape(mask, (rows, -1, heads, length, num_keys)), (0, 2, 1, 3, 4))
    return ops.reshape(mask, (rows, heads, -1, num_keys))
