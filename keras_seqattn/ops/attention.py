"""Scaled dot-product attention: one function, three ways to compute it."""

import keras
from keras import ops

from keras_seqattn.ops.arguments import check_count, check_rate
from keras_seqattn.ops.blockwise_attention import blockwise_attention
from keras_seqattn.ops.fused_attention import covers, fused_attention
from keras_seqattn.ops.plain_attention import all_scores, plain_attention

IMPLEMENTATIONS = ("auto", "plain", "blockwise", "fused")


def attention(query, key, value, mask=None, bias=None, distance_bias=None, causal=False, window=None, offset=0,
              scale=None, dropout=0.0, seed=None, implementation="auto"):  # fmt: skip
    """Reads values by how well their keys fit each query.

        logits  = scale * query . key + bias + distance_bias[s - t]    float32, whatever the inputs
        scores  = softmax of logits over the keys that may be read     zeros where none may be
        context = sum over S of dropout(scores) * value

    Head h reads key and value h // (H // N): with N < H, heads share keys, which are not repeated for it.

    Args:
        query: (B, T, H, K) float. key: (B, S, N, K) float. value: (B, S, N, V) float. N divides H.
        mask: bool, True = may be read: (B, S), (B, T, S), or four axes that broadcast to (B, H, T, S).
        bias: float, finite, added to the logits: four axes that broadcast to (B, H, T, S).
        distance_bias: (H, T + S - 1) float, added to the logits of a pair by its distance alone: entry s - t + T - 1.
            Memory stays linear in the length, where `bias` would be quadratic.
        causal: bool, whether query t reads no further than key t + offset.
        window: int, at least 1, how many keys a query reads around its own place, t + offset: with `causal` the last
            `window` ones; without, those less than `window` away on either side. None: all.
        offset: int or scalar int32 tensor, the place of the first query among the keys.
        scale: float, 1 / sqrt(K) by default.
        dropout: float in [0, 1), the share of scores that are dropped; the others grow by 1 / (1 - dropout).
        seed: int or keras.random.SeedGenerator, what is dropped.
        implementation: "plain", all scores at once; "blockwise", memory linear in T and S, forward and backward, and
            blocks that nothing may be read of are left out; "fused", the kernel of PyTorch or JAX, which takes no
            dropout; "auto", the kernel of PyTorch where it has arguments for all of this, otherwise "blockwise" for
            long sequences and "plain" for short ones and for those of unknown length.
    Returns: (B, T, H, V) float, in the dtype of `value`.
    Raises: ValueError when the heads do not share evenly, a setting is out of range, or "fused" cannot do it.
    References: Vaswani et al. 2017, arXiv 1706.03762, eq. (1); Dao et al. 2022, arXiv 2205.14135; Rabe, Staats 2021,
        arXiv 2112.05682; Ainslie et al. 2023, arXiv 2305.13245.
    Example:
        >>> query, memory = ops.ones((2, 3, 4, 5)), ops.ones((2, 7, 2, 5))
        >>> tuple(attention(query, memory, memory, causal=True, offset=4).shape)
        (2, 3, 4, 5)
    """
    query, key, value = (ops.convert_to_tensor(x) for x in (query, key, value))
    check_heads(query, key)
    check_window(window)
    check_rate(dropout, "dropout")
    check_implementation(implementation)
    if implementation == "auto":
        implementation = best(query, key, mask, bias, distance_bias, causal, window, offset, dropout)
    if dropout:
        seed = keras.random.randint((2,), 0, 2**31 - 1, dtype="int32", seed=seed)
    way = {"plain": plain_attention, "blockwise": blockwise_attention, "fused": fused_attention}[implementation]
    return way(query, key, value, mask, bias, distance_bias, causal, window, offset, scale, dropout, seed)


LONG = 2**20  # pairs of query and key from which on, on a CPU, blocks are as fast as all scores at once


def best(query, key, mask=None, bias=None, distance_bias=None, causal=False, window=None, offset=0, dropout=0.0):
    """The implementation that "auto" means.

    On PyTorch its kernel, for what that has arguments for. Otherwise by length; where it is not known beforehand, as it
    may not be in a graph of TensorFlow, "plain".
    """
    if keras.backend.backend() == "torch" and covers(mask, bias, distance_bias, causal, window, offset, dropout):
        return "fused"
    num_queries, num_keys = query.shape[1], key.shape[1]
    known = isinstance(num_queries, int) and isinstance(num_keys, int)  # JAX has symbols for what is not
    return "blockwise" if known and num_queries * num_keys >= LONG else "plain"


def attention_scores(query, key, mask=None, bias=None, distance_bias=None, causal=False, window=None, offset=0,
                     scale=None, rows=None):  # fmt: skip
    """The scores that `attention` reads by, before dropout, of all queries or of some.

    A pass of its own: asking for scores does not change how contexts are computed, and costs memory for the rows asked.

    Args:
        rows: which of the T queries: slice, list of ints or int tensor (R,), negative ones from the end; None all.
        query, key, mask, bias, distance_bias, causal, window, offset, scale: as for `attention`.
    Returns: (B, H, R, S) float32, or float64 where the inputs are.
    Example:
        >>> query, key = ops.ones((2, 3, 4, 5)), ops.ones((2, 7, 4, 5))
        >>> tuple(attention_scores(query, key, rows=[0, -1]).shape)
        (2, 4, 2, 7)
    """
    query, key = ops.convert_to_tensor(query), ops.convert_to_tensor(key)
    check_heads(query, key)
    check_window(window)
    rows = which_rows(rows, ops.shape(query)[1])
    return all_scores(query, key, mask, bias, distance_bias, causal, window, offset, scale, rows)


def which_rows(rows, num_rows):
    """A slice, a list of ints or an int tensor, as an int32 tensor of indices from the start; None stays None."""
    if rows is None:
        return None
    if isinstance(rows, slice):
        return ops.arange(num_rows, dtype="int32")[rows]
    rows = ops.cast(ops.convert_to_tensor(rows), "int32")
    return ops.where(rows < 0, rows + num_rows, rows)


def check_heads(query, key):
    """Raises ValueError unless the heads of `key` (B, S, N, K) divide those of `query` (B, T, H, K)."""
    if len(query.shape) != 4 or len(key.shape) != 4 or query.shape[2] % key.shape[2]:
        raise ValueError(
            "`query` (batch, steps, heads, width) and `key` have four axes, and the heads of `key` divide those of "
            f"`query`. Received: query.shape={tuple(query.shape)}, key.shape={tuple(key.shape)}."
        )


def check_window(window, name="window"):
    """Raises ValueError unless `window` is None or counts steps."""
    if window is not None:
        check_count(window, name)


def check_implementation(implementation):
    """Raises ValueError unless `attention` knows this way to compute."""
    if implementation not in IMPLEMENTATIONS:
        known = ", ".join(f'"{name}"' for name in IMPLEMENTATIONS)
        raise ValueError(f"`implementation` must be one of {known}. Received: {implementation=}.")
    if implementation == "fused" and keras.backend.backend() == "tensorflow":
        raise ValueError(
            "TensorFlow has no fused attention: there `implementation` must be one of auto, plain, blockwise. "
            f"Received: {implementation=}."
        )
