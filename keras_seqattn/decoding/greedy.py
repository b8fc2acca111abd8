"""The likeliest token at every step."""

from keras import ops

from keras_seqattn.decoding.buffers import check_max_length, start_buffer, write
from keras_seqattn.decoding.decoded import Decoded


class Greedy:
    """Takes the likeliest token at every step, until every sequence has ended.

        ids[t] = argmax of logits(ids[t-1], state)

    Call arguments:
        step: (ids (B,), state, time) -> logits (B, V), state, attention scores (B, S) or None.
        state: structure of tensors (B, ...).
        start_ids: (B,) int, what the first step reads.
        max_length: int, steps at most, the end token's included.
        end_id: int, the token that ends a sequence.
    Returns: `Decoded`.
    Raises: ValueError when `max_length` is below 1.
    Example:
        >>> def step(ids, state, time):  # counts upwards; 4 ends
        ...     return ops.one_hot(ids + 1, 5), state, None
        >>> found = Greedy()(step, [], ops.array([1, 2]), max_length=6, end_id=4)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[2, 3, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]]
    """

    def __call__(self, step, state, start_ids, max_length, end_id):
        check_max_length(max_length)

        def advance(ids, state, time):
            logits, state, attention = step(ids, state, time)
            log_probs = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)  # (B, V)
            chosen = ops.cast(self.choose(log_probs), "int32")  # (B,)
            gain = ops.take_along_axis(log_probs, chosen[:, None], axis=-1)[:, 0]
            return chosen, gain, state, attention

        chosen, scores, state, attention = advance(ops.cast(start_ids, "int32"), state, 0)
        ended = ops.equal(chosen, end_id)
        written = ops.where(ended, 0, chosen)
        ids = start_buffer(written, max_length, axis=1)  # (B, T)
        attention = {} if attention is None else {"scores": start_buffer(attention, max_length, axis=1)}  # (B, T, S)
        lengths = ops.cast(ops.logical_not(ended), "int32")

        def unfinished(time, chosen, ids, lengths, scores, ended, attention, state):
            return ops.logical_and(time < max_length, ops.logical_not(ops.all(ended)))

        def body(time, chosen, ids, lengths, scores, ended, attention, state):
            chosen, gain, state, read = advance(chosen, state, time)
            scores = scores + ops.where(ended, 0.0, gain)
            if attention:
                read = ops.where(ended[:, None], ops.zeros_like(read), read)
                attention = {"scores": write(attention["scores"], time, read, axis=1)}
            ended = ops.logical_or(ended, ops.equal(chosen, end_id))
            ids = write(ids, time, ops.where(ended, 0, chosen), axis=1)
            lengths = lengths + ops.cast(ops.logical_not(ended), "int32")
            return time + 1, chosen, ids, lengths, scores, ended, attention, state

        loop = (ops.convert_to_tensor(1, "int32"), chosen, ids, lengths, scores, ended, attention, state)
        _, _, ids, lengths, scores, _, attention, _ = ops.while_loop(unfinished, body, loop)
        return Decoded(ids, lengths, scores, attention.get("scores"))

    def choose(self, log_probs):
        """The next ids (B,) from the log-probabilities (B, V)."""
        return ops.argmax(log_probs, axis=-1)
