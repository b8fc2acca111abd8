"""Attention with all its scores at once: what short sequences use, and the reference for the other forms."""

import keras
from keras import ops

from keras_seqattn.ops.block_loops import drawn
from keras_seqattn.ops.masking import masked_softmax


def plain_attention(query, key, value, mask=None, bias=None, distance_bias=None, causal=False, window=None, offset=0,
                    scale=None, dropout=0.0, seed=None):  # fmt: skip
    """`attention` as the equation has it. Memory for B * H * T * S scores, several times over in training."""
    scores = all_scores(query, key, mask, bias, distance_bias, causal, window, offset, scale)  # (B, H, T, S)
    if dropout:
        stay = drawn(seed, 0, ops.shape(scores), dropout)
        scores = scores * ops.cast(stay, scores.dtype) / (1 - dropout)
    return contexts(ops.cast(scores, value.dtype), value)


def all_scores(query, key, mask=None, bias=None, distance_bias=None, causal=False, window=None, offset=0, scale=None,
               rows=None):  # fmt: skip
    """The scores (B, H, T, S) in float32 or float64; with `rows`, an int tensor (R,), those (B, H, R, S) alone."""
    num_queries, num_keys = ops.shape(query)[1], ops.shape(key)[1]
    mask, bias = (None if x is None else with_four_axes(x) for x in (mask, bias))
    if rows is not None:
        query = ops.take(query, rows, axis=1)
        mask, bias = (x if x is None or x.shape[2] == 1 else ops.take(x, rows, axis=2) for x in (mask, bias))
    logits = dot_products(query, key, scale)  # (B, H, T, S)
    if bias is not None:
        logits = logits + ops.cast(bias, logits.dtype)
    steps = ops.arange(num_queries, dtype="int32") if rows is None else rows
    if distance_bias is not None:
        if rows is None:
            by_pair = along_diagonals(distance_bias, num_queries, num_keys)  # (H, T, S)
        else:
            entries = ops.arange(num_keys, dtype="int32") - steps[:, None] + (num_queries - 1)  # (R, S)
            by_pair = ops.take(distance_bias, entries, axis=1)
        logits = logits + ops.cast(by_pair, logits.dtype)
    distances = ops.arange(num_keys, dtype="int32") - (steps[:, None] + offset)  # (T, S)
    within = in_reach(distances, causal, window)
    if within is not None:
        mask = within if mask is None else ops.logical_and(mask, within)
    return masked_softmax(logits, mask)


def with_four_axes(x):
    """A mask or bias of two axes (B, S) or three (B, T, S), with axes of 1 where H and T are not told apart."""
    x = ops.convert_to_tensor(x)
    return {2: lambda: x[:, None, None, :], 3: lambda: x[:, None, :, :], 4: lambda: x}[len(x.shape)]()


def in_reach(distances, causal=False, window=None):
    """Where a key at a distance of s - t from the query may be read: bool as `distances`, or None for everywhere.

        causal              s <= t
        window              |s - t| < window
        causal and window   t - window < s <= t

    Args:
        distances: int tensor of any shape.
    """
    reach = distances <= 0 if causal else None
    if window is not None:
        near = distances > -window if causal else ops.abs(distances) < window
        reach = near if reach is None else ops.logical_and(reach, near)
    return reach


def wide(x):
    """In float32 unless it is float64: products of half precision pass 65504, and sums of it lose what is small."""
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def heads_first(x, num_groups):
    """(B, T, H, K) -> (B, N, G * T, K), the G heads that read one of the N keys one below the other."""
    batch, steps, heads, width = ops.shape(x)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, num_groups, heads // num_groups * steps, width))


def dot_products(query, key, scale=None):
    """scale * query . key for each head and pair: (B, T, H, K), (B, S, N, K) -> (B, H, T, S), float32 or float64."""
    batch, num_queries, heads, width = ops.shape(query)
    scale = width**-0.5 if scale is None else scale
    if query.shape[1] == 1:
        return one_dot_product(wide(query) * scale, wide(key))
    query = heads_first(wide(query) * scale, key.shape[2])  # (B, N, G * T, K)
    # K stays the last axis: TensorFlow takes six times as long to bring S there, which tells where a cache is read.
    logits = ops.einsum("bntk,bnsk->bnts", query, ops.transpose(wide(key), (0, 2, 1, 3)))  # (B, N, G * T, S)
    return ops.reshape(logits, (batch, heads, num_queries, ops.shape(key)[1]))


def contexts(scores, value):
    """Sums of values by their scores: (B, H, T, S), (B, S, N, V) -> (B, T, H, V)."""
    batch, heads, num_queries, num_keys = ops.shape(scores)
    groups, width = value.shape[2:]
    if scores.shape[2] == 1:
        return one_context(scores, value)
    scores = ops.reshape(scores, (batch, groups, heads // groups * num_queries, num_keys))
    context = ops.matmul(scores, ops.transpose(value, (0, 2, 1, 3)))  # (B, N, G * T, V)
    return ops.transpose(ops.reshape(context, (batch, heads, num_queries, width)), (0, 2, 1, 3))


# A single query, as of a step of decoding, against all that is kept. Here the keys of all heads are one matrix
# (S, N * K), multiplied with another that has the query of each head in the rows of its own key head and zeros in the
# others: N times the products, and no copy of the keys, which is what a step costs (8 rows of 1,000 steps: a third).


def one_dot_product(query, key):
    """(B, 1, H, K), (B, S, N, K) -> (B, H, 1, S)."""
    (batch, _, heads, width), (_, num_keys, groups, _) = ops.shape(query), ops.shape(key)
    query = ops.transpose(ops.reshape(query, (batch, groups, heads // groups, width)), (0, 1, 3, 2))  # (B, N, K, G)
    own = ops.reshape(ops.eye(groups, dtype=query.dtype), (groups, 1, groups, 1))
    apart = ops.reshape(query[:, :, :, None, :] * own, (batch, groups * width, heads))  # (B, N * K, H)
    logits = ops.matmul(ops.reshape(key, (batch, num_keys, groups * width)), apart)  # (B, S, H)
    return ops.transpose(logits, (0, 2, 1))[:, :, None, :]


def one_context(scores, value):
    """(B, H, 1, S), (B, S, N, V) -> (B, 1, H, V)."""
    (batch, heads, _, _), (_, num_keys, groups, width) = ops.shape(scores), ops.shape(value)
    all_groups = ops.matmul(scores[:, :, 0], ops.reshape(value, (batch, num_keys, groups * width)))  # (B, H, N * V)
    all_groups = ops.reshape(all_groups, (batch, groups, heads // groups, groups, width))
    own = ops.reshape(ops.eye(groups, dtype=value.dtype), (groups, 1, groups, 1))
    return ops.reshape(ops.sum(all_groups * own, axis=3), (batch, 1, heads, width))


def along_diagonals(values, num_rows, num_columns):
    """Spreads a value for each diagonal over a table: (H, T + S - 1) -> (H, T, S), [t, s] = values[s - t + T - 1].

    T copies in one line, cut into rows that are one shorter than a copy and a zero: each begins one entry earlier.
    So neither this nor its gradient, a sum over each diagonal, gathers entry by entry.
    """
    heads, width = values.shape[0], num_rows + num_columns - 1
    line = ops.tile(ops.pad(values, ((0, 0), (0, 1))), (1, num_rows))  # (H, T * (R + 1))
    rows = ops.reshape(line[:, num_rows - 1 : num_rows - 1 + num_rows * width], (heads, num_rows, width))
    return rows[:, :, :num_columns]


def sums_of_diagonals(table):
    """The gradient of `along_diagonals`: (H, T, S) -> (H, T + S - 1), the sum over the entries of each diagonal."""
    heads, num_rows, num_columns = ops.shape(table)
    width = num_rows + num_columns - 1
    line = ops.reshape(ops.pad(table, ((0, 0), (0, 0), (0, num_rows - 1))), (heads, num_rows * width))
    copies = ops.reshape(ops.pad(line, ((0, 0), (num_rows - 1, 1))), (heads, num_rows, width + 1))
    return ops.sum(copies, axis=1)[:, :width]
