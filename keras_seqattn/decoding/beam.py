"""Beam search."""

from keras import ops, tree

from keras_seqattn.decoding.buffers import check_max_length, is_number, start_buffer, write
from keras_seqattn.decoding.constraints import tokens_so_far
from keras_seqattn.decoding.decoded import Decoded
from keras_seqattn.decoding.decoder import Decoder
from keras_seqattn.decoding.one_answer import IMPOSSIBLE
from keras_seqattn.ops.arguments import is_count

NOTHING = 1e-10  # attention; where a source step was read less, its logarithm would outweigh everything else


class Beam(Decoder):
    """Keeps the `width` best partial answers at every step, in one graph.

        rank    = log_prob / ((5 + length) / 6) ** length_penalty
                  + coverage_penalty * sum over source of log(min(sum over t of attention, 1))    eq. (14)
        beams_t = the `width` best of beams_{t-1} x vocabulary, by rank

    A finished beam is frozen: it keeps its rank and length, and competes as it is. The search stops when no beam that
    is still growing could overtake the answers to be returned. Ids, states and attention are reordered along the beams.
    `length` counts the end token.

    Constraints act on each beam before the beams compete: what they rule out is in no answer, and what they make less
    likely ranks lower by as much. They raise no log-probability above 0. `Decoded.scores` are the ranks, with the
    model's own log-probabilities: a `RepetitionPenalty` moves the order alone.

    Args:
        width: int, beams G a sentence, at least 1; one beam is greedy search.
        length_penalty: float, at least 0; 0 ranks by probability, more favours longer answers.
        num_return: int, answers R a sentence, at most `width`, best first; None gives the best one, without the axis.
        coverage_penalty: float, at least 0; more favours answers that have read every step of the source. The paper
            takes 0.2 for both penalties. It needs a step with attention scores. A source step that was read less than
            1e-10 counts as read so much.
        constraints: sequence of `Constraint`s; () costs nothing.
    Call arguments:
        step: (ids (B * G,), state, time) -> logits (B * G, V), state, attention scores (B * G, S) or None. The beams of
            a sentence stand next to each other; in the first call, G is 1. What `step` reads beside its state, such as
            an encoder's memory, keeps its B rows.
        state: structure of tensors (B, ...).
        start_ids: (B,) int, what the first step reads.
        max_length: int, steps at most, the end token's included.
        end_id: int, the token that ends a sequence.
        prompt_ids, prompt_mask: as for every `Decoder`.
        source_mask: (B, S) bool, the source steps that are to be covered. None: those of which the first step reads
            anything at all, which with a softmax are all that are not masked; local or hard attention wants the mask.
    Returns: `Decoded`.
    Raises: ValueError when a setting is out of its range, or when coverage has no attention to count.
    Reference: Wu et al. 2016, arXiv 1609.08144, sec. 7.
    Example:
        >>> def step(ids, state, time):  # counts upwards; 4 ends
        ...     return ops.one_hot(ids + 1, 5), state, None
        >>> found = Beam(width=3)(step, [], ops.array([1, 2]), max_length=6, end_id=4)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[2, 3, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]]
    """

    def __init__(self, width=4, length_penalty=0.0, num_return=None, coverage_penalty=0.0, constraints=()):
        super().__init__(constraints)
        if not is_count(width):
            raise ValueError(f"`width` is a number of beams and must be an integer of at least 1. Received: {width=}.")
        if not length_penalty >= 0:  # NaN is not
            raise ValueError(f"`length_penalty` must be at least 0. Received: {length_penalty=}.")
        if num_return is not None and not (is_count(num_return) and num_return <= width):
            raise ValueError(f"`num_return` must be an integer from 1 to `width`. Received: {num_return=}, {width=}.")
        if not (is_number(coverage_penalty) and coverage_penalty >= 0):
            raise ValueError(f"`coverage_penalty` must be a number of at least 0. Received: {coverage_penalty=}.")
        self.width = width
        self.length_penalty = length_penalty
        self.num_return = num_return
        self.coverage_penalty = coverage_penalty

    def penalty(self, lengths):
        """What a log-probability is divided by, for answers of these lengths."""
        return ((5.0 + ops.cast(lengths, "float32")) / 6.0) ** self.length_penalty

    def uncovered(self, beams):
        """What the source steps that a beam has not read add to its rank (B, G): at most 0, and 0 without coverage."""
        if "coverage" not in beams:
            return ops.zeros_like(beams["log_probs"])
        read = ops.clip(beams["coverage"], NOTHING, 1.0)  # (B, G, S)
        logs = ops.where(beams["source_mask"][:, None, :], ops.log(read), 0.0)
        return self.coverage_penalty * ops.sum(logs, axis=-1)

    def start(self, step, state, start_ids, max_length, end_id, prompt_ids=None, prompt_mask=None, source_mask=None):
        """Takes one step a sentence, which then fans out into its beams; arguments as in a call.

        Returns: the beams, a dict of tensors (B, G, ...); the model's state and the prompt are (B * G, ...), its source
            (B, S), and `time` is ().
        """
        check_max_length(max_length)
        self.check_constraints(max_length)
        start_ids, prompt = ops.cast(start_ids, "int32"), self.prompt(prompt_ids, prompt_mask)
        logits, state, read = step(start_ids, state, 0)
        if self.coverage_penalty and read is None:
            raise ValueError(
                "`coverage_penalty` counts how much of the source was read, so `step` must give attention scores. "
                f"Received: coverage_penalty={self.coverage_penalty}, attention=None."
            )
        so_far = None
        if self.constraints:
            blank = ops.zeros((ops.shape(start_ids)[0], max_length), "int32")
            so_far = tokens_so_far(blank, 0, end_id, prompt.get("prompt"))
        ranked, log_probs, chosen = self.best_tokens(logits, so_far, end_id)  # each (B, K)
        missing = ((0, 0), (0, self.width - chosen.shape[-1]))
        chosen = ops.pad(chosen, missing, constant_values=end_id)  # (B, G)
        ended = ops.equal(chosen, end_id)
        beams = {
            "time": ops.convert_to_tensor(1, "int32"),
            "chosen": chosen,
            "log_probs": ops.pad(log_probs, missing, constant_values=IMPOSSIBLE),
            "lengths": ops.ones_like(chosen),
            "ended": ended,
            "ids": start_buffer(ops.where(ended, 0, chosen), max_length, axis=2),  # (B, G, T)
            "state": self.fan_out(state),  # (B * G, ...)
            **self.fan_out(prompt),
        }
        if self.constraints:
            beams["ranked"] = ops.pad(ranked, missing, constant_values=IMPOSSIBLE)
        if read is not None:
            attention = ops.repeat(read[:, None, :], self.width, axis=1)  # (B, G, S)
            beams["attention"] = start_buffer(attention, max_length, axis=2)  # (B, G, T, S)
        if self.coverage_penalty:
            beams["coverage"] = ops.cast(attention, "float32")  # (B, G, S)
            beams["source_mask"] = read > 0 if source_mask is None else ops.cast(source_mask, "bool")
        return beams

    def finished(self, beams):
        """Whether the answers to be returned stand: () bool.

        The log-probability of a growing beam only falls, the length penalty only grows, and coverage takes away
        something or, once the whole source is read, nothing. So `log_probs / penalty(max_length)`, without coverage,
        is the most that a growing beam can still reach; what it lacks now it may yet read.
        """
        ended, log_probs = beams["ended"], beams.get("ranked", beams["log_probs"])
        max_length = ops.shape(beams["ids"])[2]
        ranks = log_probs / self.penalty(beams["lengths"]) + self.uncovered(beams)
        settled = ops.top_k(ops.where(ended, ranks, IMPOSSIBLE), self.num_return or 1)[0][:, -1]  # (B,)
        hope = ops.max(ops.where(ended, IMPOSSIBLE, log_probs / self.penalty(max_length)), axis=1)  # (B,)
        return ops.logical_or(beams["time"] >= max_length, ops.all(settled >= hope))

    def advance(self, step, beams, end_id):
        time, ended, lengths = beams["time"], beams["ended"], beams["lengths"]
        logits, state, read = step(ops.reshape(beams["chosen"], _rows(ended)), beams["state"], time)
        so_far = None
        if self.constraints:
            ids = ops.reshape(beams["ids"], (*_rows(ended), beams["ids"].shape[2] or ops.shape(beams["ids"])[2]))
            so_far = tokens_so_far(ids, time, end_id, beams.get("prompt"), self.width)
        gains = self.best_tokens(logits, so_far, end_id)
        num_tokens = gains[2].shape[-1]
        ranked, log_probs, tokens = (ops.reshape(x, (-1, self.width, num_tokens)) for x in gains)  # each (B, G, K)
        # A finished beam goes on in one way only, at no cost; so does every beam where there is no more room.
        frozen = ops.logical_or(ended, time >= ops.shape(beams["ids"])[2])  # (B, G)
        stay = ops.where(ops.equal(ops.arange(num_tokens), 0), 0.0, IMPOSSIBLE)  # (K,)
        log_probs = beams["log_probs"][:, :, None] + ops.where(frozen[:, :, None], stay, log_probs)
        if self.constraints:
            ranked = beams["ranked"][:, :, None] + ops.where(frozen[:, :, None], stay, ranked)
        else:
            ranked = log_probs
        tokens = ops.where(frozen[:, :, None], beams["chosen"][:, :, None], tokens)
        lengths = lengths + ops.cast(ops.logical_not(frozen), "int32")  # (B, G)
        grown = dict(beams)
        if read is not None:
            read = ops.reshape(read, (-1, self.width, read.shape[-1] or ops.shape(read)[-1]))  # (B, G, S)
            read = ops.where(frozen[:, :, None], ops.zeros_like(read), read)
        if self.coverage_penalty:
            grown["coverage"] = beams["coverage"] + ops.cast(read, "float32")
        ranks = ranked / self.penalty(lengths)[:, :, None] + self.uncovered(grown)[:, :, None]  # (B, G, K)

        ranks, ranked, log_probs, tokens = (
            ops.reshape(x, (-1, self.width * num_tokens)) for x in (ranks, ranked, log_probs, tokens)
        )
        _, best = ops.top_k(ranks, self.width)  # (B, G)
        best = ops.cast(best, "int32")
        parents = ops.floor_divide(best, num_tokens)
        chosen = ops.take_along_axis(tokens, best, axis=1)
        # Where there is no more room, no beam has chosen.
        now_ended = ops.logical_or(_take(ended, parents), ops.equal(chosen, end_id))
        moved = {
            **beams,
            "time": time + 1,
            "chosen": _like(chosen, ended),
            "log_probs": _like(ops.take_along_axis(log_probs, best, axis=1), ended),
            "lengths": _like(_take(lengths, parents), ended),
            "ended": _like(now_ended, ended),
            "ids": write(_take(beams["ids"], parents), time, ops.where(now_ended, 0, chosen), axis=2),
            "state": tree.map_structure(lambda x: _take_rows(x, parents, self.width), state),
        }
        if self.constraints:
            moved["ranked"] = _like(ops.take_along_axis(ranked, best, axis=1), ended)
        if read is not None:
            moved["attention"] = write(_take(beams["attention"], parents), time, _take(read, parents), axis=2)
        if self.coverage_penalty:
            moved["coverage"] = _take(grown["coverage"], parents)
        return moved

    def result(self, beams):
        """`Decoded`: the beams stand best first, as each step sorts them."""
        scores = beams["log_probs"] / self.penalty(beams["lengths"]) + self.uncovered(beams)
        lengths = beams["lengths"] - ops.cast(beams["ended"], "int32")  # without the end token
        found = Decoded(beams["ids"], lengths, scores, beams.get("attention"))
        some = slice(0, self.num_return) if self.num_return else 0
        return Decoded(*(None if x is None else x[:, some] for x in found))

    def best_tokens(self, logits, so_far, end_id):
        """The K best tokens of each row of logits (N, V), K being `width` or the whole vocabulary, each (N, K).

        The best of all beams are among the best of each, so the vocabulary is passed over once.

        Returns: log-probabilities to rank by, log-probabilities of the model, ids. What is ruled out is an answer that
            has ended at a probability of nothing, as if there were fewer beams.
        """
        logits = ops.cast(logits, "float32")
        allowed = self.constrained(logits, so_far) if self.constraints else logits
        top, tokens = ops.top_k(allowed, min(self.width, logits.shape[-1]))
        normalizer, tokens = ops.logsumexp(logits, axis=-1, keepdims=True), ops.cast(tokens, "int32")
        ranked = ops.maximum(top - normalizer, IMPOSSIBLE)
        if not self.constraints:
            return ranked, ranked, tokens
        forbidden = ops.equal(ranked, IMPOSSIBLE)
        log_probs = ops.take_along_axis(logits, tokens, axis=1) - normalizer
        log_probs = ops.where(forbidden, IMPOSSIBLE, log_probs)
        return ops.minimum(ranked, 0.0), log_probs, ops.where(forbidden, end_id, tokens)

    def fan_out(self, rows):
        """Each tensor (B, ...) of a structure with every row repeated for its beams: (B * G, ...)."""
        return tree.map_structure(lambda x: ops.repeat(x, self.width, axis=0), rows)


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
