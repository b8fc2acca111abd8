"""Beam search."""

from keras import ops, tree

from keras_seqattn.decoding.buffers import check_max_length, is_count, start_buffer, write
from keras_seqattn.decoding.decoded import Decoded

IMPOSSIBLE = -1e30  # a log-probability; finite, so that no product or difference with it is NaN


class Beam:
    """Keeps the `width` best partial answers at every step, in one graph.

        score   = log_prob / ((5 + length) / 6) ** length_penalty        eq. (14), without coverage
        beams_t = the `width` best of beams_{t-1} x vocabulary, by score

    A finished beam is frozen: it keeps its score and length, and competes as it is. The search stops when no beam that
    is still growing could overtake the answers to be returned. Ids, states and attention are reordered along the beams.
    `length` counts the end token.

    Args:
        width: int, beams G a sentence, at least 1; one beam is greedy search.
        length_penalty: float, at least 0; 0 ranks by probability, more favours longer answers.
        num_return: int, answers R a sentence, at most `width`, best first; None gives the best one, without the axis.
    Call arguments:
        step: (ids (B * G,), state, time) -> logits (B * G, V), state, attention scores (B * G, S) or None. The beams of
            a sentence stand next to each other; in the first call, G is 1. What `step` reads beside its state, such as
            an encoder's memory, keeps its B rows.
        state: structure of tensors (B, ...).
        start_ids: (B,) int, what the first step reads.
        max_length: int, steps at most, the end token's included.
        end_id: int, the token that ends a sequence.
    Returns: `Decoded`.
    Raises: ValueError when a setting is out of its range.
    Reference: Wu et al. 2016, arXiv 1609.08144, sec. 7.
    Example:
        >>> def step(ids, state, time):  # counts upwards; 4 ends
        ...     return ops.one_hot(ids + 1, 5), state, None
        >>> found = Beam(width=3)(step, [], ops.array([1, 2]), max_length=6, end_id=4)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[2, 3, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]]
    """

    def __init__(self, width=4, length_penalty=0.0, num_return=None):
        if not is_count(width):
            raise ValueError(f"`width` is a number of beams and must be an integer of at least 1. Received: {width=}.")
        if not length_penalty >= 0:  # NaN is not
            raise ValueError(f"`length_penalty` must be at least 0. Received: {length_penalty=}.")
        if num_return is not None and not (is_count(num_return) and num_return <= width):
            raise ValueError(f"`num_return` must be an integer from 1 to `width`. Received: {num_return=}, {width=}.")
        self.width = width
        self.length_penalty = length_penalty
        self.num_return = num_return

    def penalty(self, lengths):
        """What a log-probability is divided by, for answers of these lengths."""
        return ((5.0 + ops.cast(lengths, "float32")) / 6.0) ** self.length_penalty

    def __call__(self, step, state, start_ids, max_length, end_id):
        check_max_length(max_length)
        beams, wait_for = self._first(step, state, start_ids, max_length, end_id), self.num_return or 1
        last_penalty = self.penalty(max_length)

        def unfinished(time, beams):
            ended, log_probs = beams["ended"], beams["log_probs"]
            ranks = log_probs / self.penalty(beams["lengths"])
            settled = ops.top_k(ops.where(ended, ranks, IMPOSSIBLE), wait_for)[0][:, -1]  # (B,)
            # Log-probabilities only fall, so this is the best that a growing beam can still reach.
            hope = ops.max(ops.where(ended, IMPOSSIBLE, log_probs / last_penalty), axis=1)  # (B,)
            return ops.logical_and(time < max_length, ops.logical_not(ops.all(settled >= hope)))

        def body(time, beams):
            return time + 1, self._advance(step, beams, time, end_id)

        _, beams = ops.while_loop(unfinished, body, (ops.convert_to_tensor(1, "int32"), beams))
        return self._results(beams)

    def _first(self, step, state, start_ids, max_length, end_id):
        """One step a sentence, which then fans out into its beams."""
        logits, state, attention = step(ops.cast(start_ids, "int32"), state, 0)
        log_probs, chosen = best_tokens(logits, self.width)  # (B, K)
        spare = self.width - log_probs.shape[-1]
        log_probs = ops.pad(log_probs, ((0, 0), (0, spare)), constant_values=IMPOSSIBLE)  # (B, G)
        chosen = ops.pad(chosen, ((0, 0), (0, spare)), constant_values=end_id)
        ended = ops.equal(chosen, end_id)
        beams = {
            "chosen": chosen,
            "log_probs": log_probs,
            "lengths": ops.ones_like(chosen),
            "ended": ended,
            "ids": start_buffer(ops.where(ended, 0, chosen), max_length, axis=2),  # (B, G, T)
            "state": tree.map_structure(lambda x: ops.repeat(x, self.width, axis=0), state),  # (B * G, ...)
        }
        if attention is not None:
            attention = ops.repeat(attention[:, None, :], self.width, axis=1)  # (B, G, S)
            beams["attention"] = start_buffer(attention, max_length, axis=2)  # (B, G, T, S)
        return beams

    def _advance(self, step, beams, time, end_id):
        ended, lengths = beams["ended"], beams["lengths"]
        logits, state, attention = step(ops.reshape(beams["chosen"], _rows(ended)), beams["state"], time)
        # The best of all are among the best of each beam, so the vocabulary is passed over once.
        log_probs, tokens = best_tokens(logits, self.width)  # (B * G, K)
        num_tokens = tokens.shape[-1]
        log_probs, tokens = (ops.reshape(x, (-1, self.width, num_tokens)) for x in (log_probs, tokens))  # (B, G, K)
        # A finished beam goes on in one way only, at no cost.
        stay = ops.where(ops.equal(ops.arange(num_tokens), 0), 0.0, IMPOSSIBLE)  # (K,)
        log_probs = beams["log_probs"][:, :, None] + ops.where(ended[:, :, None], stay, log_probs)
        tokens = ops.where(ended[:, :, None], end_id, tokens)
        lengths = lengths + ops.cast(ops.logical_not(ended), "int32")  # (B, G)
        ranks = log_probs / self.penalty(lengths)[:, :, None]

        log_probs, tokens, ranks = (ops.reshape(x, (-1, self.width * num_tokens)) for x in (log_probs, tokens, ranks))
        _, best = ops.top_k(ranks, self.width)  # (B, G)
        best = ops.cast(best, "int32")
        parents = ops.floor_divide(best, num_tokens)
        log_probs = ops.take_along_axis(log_probs, best, axis=1)
        chosen = ops.take_along_axis(tokens, best, axis=1)
        was_ended = _take(ended, parents)
        now_ended = ops.logical_or(was_ended, ops.equal(chosen, end_id))
        written = ops.where(now_ended, 0, chosen)
        moved = {
            "chosen": _like(chosen, ended),
            "log_probs": _like(log_probs, ended),
            "lengths": _like(_take(lengths, parents), ended),
            "ended": _like(now_ended, ended),
            "ids": write(_take(beams["ids"], parents), time, written, axis=2),
            "state": tree.map_structure(lambda x: _take_rows(x, parents, self.width), state),
        }
        if attention is not None:
            attention = ops.reshape(attention, (-1, self.width, attention.shape[-1] or ops.shape(attention)[-1]))
            read = _take(ops.where(ended[:, :, None], ops.zeros_like(attention), attention), parents)
            moved["attention"] = write(_take(beams["attention"], parents), time, read, axis=2)
        return moved

    def _results(self, beams):
        """The beams stand best first: each step sorts them."""
        scores = beams["log_probs"] / self.penalty(beams["lengths"])
        lengths = beams["lengths"] - ops.cast(beams["ended"], "int32")  # without the end token
        found = Decoded(beams["ids"], lengths, scores, beams.get("attention"))
        some = slice(0, self.num_return) if self.num_return else 0
        return Decoded(*(None if x is None else x[:, some] for x in found))


def best_tokens(logits, count):
    """Log-probabilities (N, K) and ids (N, K) of the K likeliest tokens, K being `count` or the whole vocabulary."""
    logits = ops.cast(logits, "float32")
    top, tokens = ops.top_k(logits, min(count, logits.shape[-1]))
    return top - ops.logsumexp(logits, axis=-1, keepdims=True), ops.cast(tokens, "int32")


def _rows(ended):
    """Shape (B * G,), static where B is."""
    return (-1,) if ended.shape[0] is None else (ended.shape[0] * ended.shape[1],)


def _like(x, known):
    """`x` with the static shape of `known`: a loop's shapes must not be forgotten on the way."""
    return ops.reshape(x, ops.shape(known))


def _take(x, parents):
    """Reorders (B, G, ...) by parents (B, G)."""
    return _like(_take_rows(ops.reshape(x, _rows(x) + tuple(ops.shape(x)[2:])), parents, x.shape[1]), x)


def _take_rows(x, parents, width):
    """Reorders (B * G, ...) by parents (B, G)."""
    batch = ops.shape(parents)[0]
    rows = ops.reshape(parents + ops.arange(batch, dtype="int32")[:, None] * width, (-1,))
    return _like(ops.take(x, rows, axis=0), x)
