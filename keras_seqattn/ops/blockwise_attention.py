"""Attention block by block, in memory linear in T and S: forward and, by a gradient of its own, backward.

    forward   for each block of queries, runs over the blocks of keys. Of each it takes a softmax by itself, and weighs
              the contexts so far and the new one by the sums that they are normalized with
    backward  computes the scores of each block again, from the logarithm of the sum of each row, which is all that is
              kept beside the contexts

Blocks that `causal` and `window` rule out are not visited. `ops/plain_attention.py` has the plain form.
"""

from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_seqattn.ops.block_loops import (
    add_to_block,
    add_to_rows,
    all_blocks,
    drawn,
    loop,
    with_block,
    with_gradient,
    zero_blocks,
)
from keras_seqattn.ops.plain_attention import along_diagonals, in_reach, sums_of_diagonals, wide, with_four_axes

NOTHING = -1e30  # the logit of what may not be read: finite, so that nothing turns to NaN


def blockwise_attention(query, key, value, mask=None, bias=None, distance_bias=None, causal=False, window=None,
                        offset=0, scale=None, dropout=0.0, seed=None, block=None):  # fmt: skip
    """`attention` in blocks of at most `block` queries and keys (None: by the number of heads).

    It has a gradient, and that has none. `seed` is a tensor (2,) int32, see `drawn`.
    """
    batch, num_queries, heads, width = ops.shape(query)
    num_keys, groups = ops.shape(key)[1:3]
    block = block or block_side(heads)
    rows, row_blocks = evenly(num_queries, block)
    columns, column_blocks = evenly(num_keys, block)
    plan = Plan(
        batch, heads, groups, num_queries, num_keys, rows, columns, row_blocks, column_blocks, causal, window, dropout
    )
    scale = width**-0.5 if scale is None else scale
    floats = {
        "query": plan.query_blocks(wide(query) * scale),
        "key": plan.key_blocks(wide(key)),
        "value": plan.key_blocks(wide(value)),
    }
    others = {} if isinstance(offset, int) and offset == 0 else {"offset": ops.cast(offset, "int32")}
    dtype = floats["query"].dtype
    mask = None if mask is None else with_four_axes(mask)
    by_key = mask is not None and mask.shape[1] == 1 and mask.shape[2] == 1
    if by_key or not plan.keys_fit():
        others["key_logit"] = plan.key_logits(mask if by_key else None, dtype)
    if mask is not None and not by_key:
        others["mask"] = plan.padded(plan.broadcast(ops.cast(mask, "bool")))
    if bias is not None:
        floats["bias"] = plan.padded(plan.broadcast(ops.cast(with_four_axes(bias), dtype)))
    if distance_bias is not None:
        floats["distance_bias"] = plan.padded_distances(ops.cast(distance_bias, dtype))
    if dropout:
        others["seed"] = seed
    context = with_gradient(plan.forward, plan.backward, floats, others)  # (B * nT, N, G * t, V)
    return ops.cast(plan.from_query_blocks(context), value.dtype)


def block_side(heads):
    """How many queries and keys make a block: 512 for 8 heads, whose logits then take 8 MiB."""
    return int(min(1024, max(256, 512 * (8 / heads) ** 0.5 // 64 * 64)))


def evenly(length, most):
    """Blocks of equal size, at most `most`: their size, and how many. Ints or scalar tensors, as the length."""
    if isinstance(length, int):
        count = max(1, -(-length // most))
        size = -(-length // count)
        if count > 1 and most % 16 == 0:  # rows that begin where a cache line does
            size = -(-size // 16) * 16
        return size, max(1, -(-length // size))
    count = ops.maximum(1, (length + most - 1) // most)
    return (length + count - 1) // count, count


@dataclass(frozen=True)
class Plan:
    """How T queries and S keys are cut into blocks, and what is computed with each.

    Letters for axes beside those of the library: t rows and s columns of a block, nT and nS blocks.
    Blocks of queries (B * nT, N, G * t, K) have the G heads that share a key one below the other. Sizes that are not
    known beforehand are scalar tensors.
    """

    batch: Any
    heads: int
    groups: int  # N, heads of the keys
    num_queries: Any
    num_keys: Any
    rows: Any
    columns: Any
    row_blocks: Any
    column_blocks: Any
    causal: bool
    window: int | None
    dropout: float

    # Layout

    def keys_fit(self):
        """Whether it is known that the last block of keys is full."""
        return isinstance(self.num_keys, int) and self.num_keys == self.columns * self.column_blocks

    def query_blocks(self, x):
        """(B, T, H, K) -> (B * nT, N, G * t, K)."""
        shared, width = self.heads // self.groups, x.shape[-1]
        x = self.pad(x, 1, self.num_queries, self.rows * self.row_blocks)
        x = ops.reshape(x, (self.batch, self.row_blocks, self.rows, self.groups, shared, width))
        x = ops.transpose(x, (0, 1, 3, 4, 2, 5))  # (B, nT, N, G, t, K)
        return ops.reshape(x, (self.batch * self.row_blocks, self.groups, shared * self.rows, width))

    def from_query_blocks(self, x):
        """(B * nT, N, G * t, V) -> (B, T, H, V)."""
        shared, width = self.heads // self.groups, x.shape[-1]
        x = ops.reshape(x, (self.batch, self.row_blocks, self.groups, shared, self.rows, width))
        x = ops.transpose(x, (0, 1, 4, 2, 3, 5))  # (B, nT, t, N, G, V)
        x = ops.reshape(x, (self.batch, self.row_blocks * self.rows, self.heads, width))
        return x[:, : self.num_queries]

    def key_blocks(self, x):
        """(B, S, N, K) -> (B * nS, N, s, K)."""
        groups, width = x.shape[2:]
        x = self.pad(x, 1, self.num_keys, self.columns * self.column_blocks)
        x = ops.reshape(x, (self.batch, self.column_blocks, self.columns, groups, width))
        x = ops.transpose(x, (0, 1, 3, 2, 4))  # (B, nS, N, s, K)
        return ops.reshape(x, (self.batch * self.column_blocks, groups, self.columns, width))

    def key_logits(self, mask, dtype):
        """What is added to the logits of a key: 0, or NOTHING where it may not be read. (B * nS, N, s, 1)."""
        shape = (self.batch, self.num_keys, self.groups, 1)
        if mask is None:
            mask = ops.ones((1, 1, 1, 1), dtype="bool")
        mask = ops.transpose(ops.cast(mask, "bool"), (0, 3, 1, 2))  # (B, S, 1, 1)
        logits = ops.broadcast_to(ops.where(mask, ops.cast(0, dtype), ops.cast(NOTHING, dtype)), shape)
        padded = self.pad(logits, 1, self.num_keys, self.columns * self.column_blocks, NOTHING)
        blocks = ops.reshape(padded, (self.batch, self.column_blocks, self.columns, self.groups, 1))
        blocks = ops.transpose(blocks, (0, 1, 3, 2, 4))
        return ops.reshape(blocks, (self.batch * self.column_blocks, self.groups, self.columns, 1))

    def broadcast(self, x):
        """A mask or bias of four axes, each of which is known to be 1 or has the full length."""
        full = (self.batch, self.heads, self.num_queries, self.num_keys)
        if None not in x.shape:
            return x
        return ops.broadcast_to(x, tuple(1 if a == 1 else b for a, b in zip(x.shape, full, strict=True)))

    def padded(self, x):
        """A mask or bias (B or 1, H or 1, T or 1, S or 1) for whole blocks."""
        if x.shape[2] != 1:
            x = self.pad(x, 2, self.num_queries, self.rows * self.row_blocks)
        if x.shape[3] != 1:
            x = self.pad(x, 3, self.num_keys, self.columns * self.column_blocks)
        return x

    def padded_distances(self, x):
        """(H, T + S - 1) -> the same for whole blocks, distance s - t in entry s - t + nT * t - 1."""
        before = self.rows * self.row_blocks - self.num_queries
        after = self.columns * self.column_blocks - self.num_keys
        return ops.pad(x, ((0, 0), (before, after)))

    @staticmethod
    def pad(x, axis, length, padded_length, value=0):
        """`x` with an axis of `length` made longer."""
        if isinstance(length, int) and length == padded_length:
            return x
        widths = [[0, 0] for _ in x.shape]
        widths[axis][1] = padded_length - length
        return ops.pad(x, widths, constant_values=None if value == 0 else value)

    # Which blocks

    def columns_to_visit(self, i, offset):
        """The blocks of keys, from and to, in which a query of row block i may read."""
        first, last = i * self.rows + offset, i * self.rows + self.rows - 1 + offset  # places of its queries
        begin, end = 0, self.column_blocks
        if self.window is not None:
            begin = bounded((first - self.window + 1) // self.columns, end)
            if not self.causal:
                end = bounded((last + self.window - 1) // self.columns + 1, end)
        if self.causal:
            end = bounded(last // self.columns + 1, end)
        return begin, end

    def farthest(self, i, j, offset):
        """The least and the greatest distance s - t in a block."""
        middle = j * self.columns - i * self.rows - offset
        return middle - (self.rows - 1), middle + (self.columns - 1)

    def some_out_of_reach(self, i, j, offset):
        """Whether `causal` or `window` rules out some pair of a block."""
        least, greatest = self.farthest(i, j, offset)
        out = greatest > 0 if self.causal else greatest >= self.window
        return out if self.window is None else ops.logical_or(out, least <= -self.window)

    # What is computed

    def part(self, x, b, i, j):
        """The part of a padded mask or bias that belongs to a block: (H or 1, t or 1, s or 1)."""
        begin, size = [0, 0, 0, 0], [1, x.shape[1], 1, 1]
        for axis, index, length in ((0, b, 1), (2, i, self.rows), (3, j, self.columns)):
            if x.shape[axis] != 1:
                begin[axis], size[axis] = index * length, length
        return ops.slice(x, begin, size)[0]

    def logits(self, queries, keys, floats, others, b, i, j):
        """Of one block, (N, G * t, s), by queries (N, G * t, K') and keys (N, s, K') with what was added to both."""
        logits = ops.einsum("nqk,nsk->nqs", queries, keys)
        if not self.causal and self.window is None and not {"bias", "distance_bias", "mask"} & {*floats, *others}:
            return logits
        logits = ops.reshape(logits, (self.heads, self.rows, self.columns))
        if "bias" in floats:
            logits = logits + self.part(floats["bias"], b, i, j)
        if "distance_bias" in floats:
            size = (self.heads, self.rows + self.columns - 1)
            distances = ops.slice(floats["distance_bias"], (0, self.first_distance(i, j)), size)
            logits = logits + along_diagonals(distances, self.rows, self.columns)
        if "mask" in others:
            logits = ops.where(self.part(others["mask"], b, i, j), logits, ops.cast(NOTHING, logits.dtype))
        if self.causal or self.window is not None:
            offset = others.get("offset", 0)

            def within_reach():
                steps = ops.arange(self.columns, dtype="int32") - ops.arange(self.rows, dtype="int32")[:, None]
                distances = steps + (j * self.columns - i * self.rows - offset)  # (t, s)
                reach = in_reach(distances, self.causal, self.window)
                return ops.where(reach, logits, ops.cast(NOTHING, logits.dtype))

            # Most blocks lie within, and are spared a pass over their logits.
            logits = ops.cond(self.some_out_of_reach(i, j, offset), within_reach, lambda: logits)
        return ops.reshape(logits, (self.groups, -1, self.columns))

    def first_distance(self, i, j):
        """The entry of the padded `distance_bias` with which a block begins, of t + s - 1."""
        return (self.row_blocks - 1 - i) * self.rows + j * self.columns

    def factors(self, seed, a, j, dtype):
        """What dropout multiplies the scores (N, G * t, s) of a block by: 0, or 1 / (1 - dropout)."""
        shape = (self.groups, self.heads // self.groups * self.rows, self.columns)
        stay = drawn(seed, a * self.column_blocks + j, shape, self.dropout)
        return ops.cast(stay, dtype) / (1 - self.dropout)

    def forward(self, floats, others):
        """The contexts (B * nT, N, G * t, V); and for the gradient these, and the logarithm of each row's sum."""
        key_logit = [others["key_logit"]] if "key_logit" in others else []
        queries = with_columns(floats["query"], *(1 for _ in key_logit))  # (B * nT, N, G * t, K')
        keys = with_columns(floats["key"], *key_logit)  # (B * nS, N, s, K')
        values, dtype = floats["value"], queries.dtype
        rows = (self.groups, self.heads // self.groups * self.rows)

        def of_queries(a, contexts, sums):
            b, i, query = a // self.row_blocks, a % self.row_blocks, queries[a]

            def of_keys(j, context, log_sum):
                k = b * self.column_blocks + j
                logits = self.logits(query, keys[k], floats, others, b, i, j)
                scores = ops.softmax(logits)  # (N, G * t, s)
                # The greatest score is 1 / sum of exp(logits - greatest logit): one pass fewer than for that sum.
                here = ops.max(logits, -1, keepdims=True) - ops.log(ops.max(scores, -1, keepdims=True))
                both = ops.logaddexp(log_sum, here)  # (N, G * t, 1)
                if self.dropout:
                    scores = scores * self.factors(others["seed"], a, j, dtype)
                new = ops.matmul(scores, values[k])  # (N, G * t, V)
                return context * ops.exp(log_sum - both) + new * ops.exp(here - both), both

            first = (
                ops.zeros((*rows, values.shape[-1]), dtype=dtype),
                ops.full((*rows, 1), NOTHING, dtype=dtype),
            )
            context, log_sum = loop(*self.columns_to_visit(i, others.get("offset", 0)), of_keys, first)
            readable = log_sum > NOTHING / 2
            # A row that reads nothing: zeros, and a sum that makes its scores zero when they are computed again.
            context = ops.where(readable, context, ops.zeros_like(context))
            log_sum = ops.where(readable, log_sum, ops.full_like(log_sum, -NOTHING))
            return with_block(contexts, a, context), with_block(sums, a, log_sum)

        count = self.batch * self.row_blocks
        blocks = [zero_blocks(count, (*rows, width), dtype) for width in (values.shape[-1], 1)]
        contexts, sums = (all_blocks(x) for x in loop(0, count, of_queries, blocks))
        return contexts, (contexts, sums)

    def backward(self, floats, others, kept, d_contexts):
        """The gradients of `floats`.

        scores   = exp(logits - log_sum)
        d_value  = sum over t of scores * dropped * d_context
        d_logits = scores * (d_context . value * dropped - context . d_context)
        """
        contexts, sums = kept
        inner = ops.sum(contexts * d_contexts, axis=-1, keepdims=True)  # (B * nT, N, G * t, 1)
        key_logit = [others["key_logit"]] if "key_logit" in others else []
        # What is taken from all of a row stands in one more column of the product, which saves a pass over the block.
        queries = with_columns(floats["query"], -sums, *(1 for _ in key_logit))
        keys = with_columns(floats["key"], 1, *key_logit)
        values = floats["value"] if self.dropout else with_columns(floats["value"], 1)
        d_rows = d_contexts if self.dropout else with_columns(d_contexts, -inner)
        dtype = queries.dtype

        def of_queries(a, d_queries, *shared):
            b, i = a // self.row_blocks, a % self.row_blocks
            query, d_context = floats["query"][a], d_contexts[a]
            longer_query, longer_d_context, inner_a = queries[a], d_rows[a], inner[a]

            def of_keys(j, d_query, d_keys, d_values, *d_biases):
                k = b * self.column_blocks + j
                scores = ops.exp(self.logits(longer_query, keys[k], floats, others, b, i, j))  # (N, G * t, s)
                d_scores = ops.einsum("nqv,nsv->nqs", longer_d_context, values[k])
                if self.dropout:
                    factors = self.factors(others["seed"], a, j, dtype)
                    d_logits = scores * (d_scores * factors - inner_a)
                    dropped = scores * factors
                else:
                    d_logits, dropped = scores * d_scores, scores
                d_values = add_to_block(d_values, k, ops.einsum("nqs,nqv->nsv", dropped, d_context))
                d_keys = add_to_block(d_keys, k, ops.einsum("nqs,nqk->nsk", d_logits, query))
                d_query = d_query + ops.matmul(d_logits, floats["key"][k])
                return d_query, d_keys, d_values, *self.add_to_biases(d_biases, d_logits, floats, b, i, j)

            bounds = self.columns_to_visit(i, others.get("offset", 0))
            d_query, *shared = loop(*bounds, of_keys, [ops.zeros_like(query), *shared])
            return with_block(d_queries, a, d_query), *shared

        blocks = [
            zero_blocks(ops.shape(floats[name])[0], ops.shape(floats[name])[1:], dtype)
            for name in ("query", "key", "value")
        ]
        biases = self.zero_biases(floats, dtype)
        found = loop(0, self.batch * self.row_blocks, of_queries, [*blocks, *biases])
        gradients = dict(zip(("query", "key", "value"), (all_blocks(x) for x in found[:3]), strict=True))
        return gradients | self.bias_gradients(found[3:], floats)

    # Gradients of biases

    def zero_biases(self, floats, dtype):
        """Where the gradients of the biases are added up."""
        zeros = []
        if "bias" in floats:
            sizes, counts = self.bias_blocks(floats["bias"])
            zeros.append(zero_blocks(counts[0] * counts[1] * counts[2], sizes, dtype))
        if "distance_bias" in floats:
            zeros.append(ops.zeros_like(ops.transpose(floats["distance_bias"])))  # (nT * t + nS * s - 1, H)
        return zeros

    def bias_blocks(self, bias):
        """The part of a bias that a block has, (H or 1, t or 1, s or 1), and how many there are along B, T and S."""
        full = [bias.shape[axis] != 1 for axis in range(4)]
        sizes = (self.heads, self.rows, self.columns)
        counts = (self.batch, self.row_blocks, self.column_blocks)
        return (
            [size if there else 1 for size, there in zip(sizes, full[1:], strict=True)],
            [count if there else 1 for count, there in zip(counts, (full[0], full[2], full[3]), strict=True)],
        )

    def add_to_biases(self, d_biases, d_logits, floats, b, i, j):
        """The sums of `zero_biases`, with what a block adds."""
        if not d_biases:
            return []
        d_biases, added = [*d_biases], []
        d_logits = ops.reshape(d_logits, (self.heads, self.rows, self.columns))
        if "bias" in floats:
            counts = self.bias_blocks(floats["bias"])[1]
            one = [axis for axis in range(3) if floats["bias"].shape[axis + 1] == 1]
            summed = ops.sum(d_logits, axis=one, keepdims=True) if one else d_logits
            place = 0
            for axis, index, count in zip((0, 2, 3), (b, i, j), counts, strict=True):
                place = place * count + (index if floats["bias"].shape[axis] != 1 else 0)
            added.append(add_to_block(d_biases.pop(0), place, summed))
        if "distance_bias" in floats:
            sums = ops.transpose(sums_of_diagonals(d_logits))  # (t + s - 1, H)
            added.append(add_to_rows(d_biases.pop(0), self.first_distance(i, j), sums))
        return added

    def bias_gradients(self, found, floats):
        """The gradients of the biases, from their sums."""
        found, gradients = [*found], {}
        if "bias" in floats:
            sizes, counts = self.bias_blocks(floats["bias"])
            blocks = ops.reshape(all_blocks(found.pop(0)), (*counts, *sizes))  # (B, nT, nS, H, t, s)
            blocks = ops.transpose(blocks, (0, 3, 1, 4, 2, 5))
            gradients["bias"] = ops.reshape(blocks, ops.shape(floats["bias"]))
        if "distance_bias" in floats:
            gradients["distance_bias"] = ops.transpose(found.pop(0))
        return gradients


def with_columns(x, *columns):
    """(..., K) with more columns: tensors (..., 1), or numbers."""
    columns = [ops.full_like(x[..., :1], column) if isinstance(column, int) else column for column in columns]
    return ops.concatenate([x, *columns], axis=-1) if columns else x


def bounded(x, end):
    """An index at least 0 and at most `end`: ints or scalar tensors."""
    if isinstance(x, int) and isinstance(end, int):
        return min(max(x, 0), end)
    return ops.minimum(ops.maximum(x, 0), end)
