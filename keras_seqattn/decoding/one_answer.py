"""One answer a sentence, token by token."""

from keras import ops

from keras_seqattn.decoding.buffers import check_max_length, empty_buffer, write
from keras_seqattn.decoding.constraints import FORBIDDEN, tokens_so_far
from keras_seqattn.decoding.decoded import Decoded
from keras_seqattn.decoding.decoder import Decoder

IMPOSSIBLE = -1e30  # a log-probability; finite, so that no product or difference with it is NaN


class OneAnswer(Decoder):
    """The steps of a decoder that keeps one answer a sentence; how it chooses a token is what `choose` says.

    ids[t] = choose(constrained logits(ids[t-1], state))
    score  = sum over t of log_softmax(logits)[ids[t]]
    """

    def choose(self, logits, time, seed):
        """The next ids (B,) from the constrained logits (B, V); `seed` is what `first_seed` gave, or None."""
        raise NotImplementedError("A decoder chooses the next token.")

    def first_seed(self):
        """The seed of a call, (2,) int, where chance decides; else None."""

    def start(self, step, state, start_ids, max_length, end_id, prompt_ids=None, prompt_mask=None, source_mask=None):
        check_max_length(max_length)
        self.check_constraints(max_length)
        chosen, seed = ops.cast(start_ids, "int32"), self.first_seed()
        nothing = {
            "time": 0,
            "chosen": chosen,
            "ids": empty_buffer(chosen, max_length, axis=1),  # (B, T)
            "lengths": ops.zeros_like(chosen),
            "scores": ops.zeros_like(chosen, dtype="float32"),
            "ended": ops.zeros_like(chosen, dtype="bool"),
            "state": state,
            **self.prompt(prompt_ids, prompt_mask),
            **({} if seed is None else {"seed": seed}),
        }
        progress = self.advance(step, nothing, end_id)
        return {**progress, "time": ops.convert_to_tensor(1, "int32")}

    def advance(self, step, progress, end_id):
        time, ids = progress["time"], progress["ids"]
        max_length = ops.shape(ids)[1]
        logits, state, read = step(progress["chosen"], progress["state"], time)
        logits = ops.cast(logits, "float32")
        allowed = logits
        if self.constraints:
            allowed = self.constrained(logits, tokens_so_far(ids, time, end_id, progress.get("prompt")))
        chosen = ops.cast(self.choose(allowed, time, progress.get("seed")), "int32")  # (B,)
        gain = log_prob_of(logits, chosen)
        if self.constraints:
            stuck = ops.equal(ops.take_along_axis(allowed, chosen[:, None], axis=1)[:, 0], FORBIDDEN)
            chosen, gain = ops.where(stuck, end_id, chosen), ops.where(stuck, IMPOSSIBLE, gain)
        over = ops.greater_equal(time, max_length)  # only where someone advances by hand
        frozen = ops.logical_or(progress["ended"], over)  # (B,)
        chosen = ops.cast(ops.where(progress["ended"], end_id, chosen), "int32")
        ended = ops.logical_or(progress["ended"], ops.logical_and(ops.equal(chosen, end_id), ops.logical_not(over)))
        advanced = {
            **progress,
            "time": time + 1,
            "chosen": chosen,
            "ids": write(ids, time, ops.where(ended, 0, chosen), axis=1),
            "lengths": progress["lengths"] + ops.cast(ops.logical_not(ops.logical_or(ended, frozen)), "int32"),
            "scores": progress["scores"] + ops.where(frozen, 0.0, gain),
            "ended": ended,
            "state": state,
        }
        if read is not None:
            buffer = progress["attention"] if "attention" in progress else empty_buffer(read, max_length, axis=1)
            read = ops.where(frozen[:, None], ops.zeros_like(read), read)
            advanced["attention"] = write(buffer, time, read, axis=1)  # (B, T, S)
        return advanced

    def finished(self, progress):
        longest = ops.greater_equal(progress["time"], ops.shape(progress["ids"])[1])
        return ops.logical_or(longest, ops.all(progress["ended"]))

    def result(self, progress):
        return Decoded(progress["ids"], progress["lengths"], progress["scores"], progress.get("attention"))


def log_prob_of(logits, tokens):
    """log_softmax(logits (N, V)) of one token a row: (N,)."""
    return ops.take_along_axis(logits, tokens[:, None], axis=1)[:, 0] - ops.logsumexp(logits, axis=-1)
