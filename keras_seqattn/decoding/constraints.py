"""What an answer must or must not be, whichever way it is searched for."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_seqattn.decoding.buffers import is_number
from keras_seqattn.ops.arguments import is_count

FORBIDDEN = -float("inf")  # a logit; what a model itself rules out, by -1e9 or -1e30, stays likelier than this


class SoFar(NamedTuple):
    """What a constraint may look at: the tokens that stand before the one to be chosen.

    The rows are those of the logits, N: one a sentence, or one a beam. A row's prompt stands flush right before its
    answer, so that its tokens follow each other without a gap. Rows whose answer has ended hold anything after its end.

    Attributes:
        ids: (N, L) int32, L = P + T: the prompt and then the answer.
        mask: (N, L) bool, True where there is a token.
        index: () int32, where in `ids` the next token will stand; P + `time`.
        time: () int32, tokens of the answer so far.
        end_id: int, the token that ends an answer.
        beams: int G, rows that stand next to each other for one sentence; 1 without beams and in the first step.
    """

    ids: Any
    mask: Any
    index: Any
    time: Any
    end_id: Any
    beams: int


def tokens_so_far(ids, time, end_id, prompt=None, beams=1):
    """`SoFar` of answers (N, T) of which `time` tokens stand, and of a prompt's ids and mask (N, P), flush right."""
    time = ops.cast(time, "int32")
    mask = ops.broadcast_to(ops.less(ops.arange(ops.shape(ids)[1]), time), ops.shape(ids))
    index = time
    if prompt is not None:
        ids = ops.concatenate([prompt["ids"], ids], axis=1)  # (N, P + T)
        mask = ops.concatenate([prompt["mask"], mask], axis=1)
        index = time + ops.shape(prompt["ids"])[1]
    return SoFar(ids, mask, index, time, end_id, beams)


class Constraint:
    """Changes the logits of a step before a token is chosen from them; a base for the ones here and for your own.

    A constraint is called as `constraint(logits, so_far)`, with logits (N, V) float32 and `SoFar`, and gives logits of
    the same shape. To rule a token out it sets its logit to minus infinity. It runs in graph and under XLA: no Python
    `if` on tensors, static shapes. Any function will do; a class can also refuse a `max_length` that it does not fit.

    Several act in the order given, each on what the one before has left; nothing that is ruled out returns. Where they
    leave no token at all the answer ends, and its score is at most -1e30.

    Example:
        >>> class Upwards(Constraint):  # every token is above the one before
        ...     def __call__(self, logits, so_far):
        ...         last = ops.max(ops.where(so_far.mask, so_far.ids, -1), axis=1, keepdims=True)  # (N, 1)
        ...         return ops.where(ops.arange(logits.shape[-1]) > last, logits, -np.inf)
        >>> step = lambda ids, state, time: (ops.ones((1, 5)), state, None)
        >>> found = keras_seqattn.decoding.Greedy(constraints=[Upwards()])(step, [], ops.array([0]), 9, end_id=4)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[0, 1, 2, 3, 0, 0, 0, 0, 0]]
    """

    def __call__(self, logits, so_far):
        raise NotImplementedError("A constraint gives the logits (N, V) that it leaves.")

    def check(self, max_length):
        """Raises ValueError where no answer of at most `max_length` steps can obey."""

    def get_config(self):
        """The settings as plain JSON."""
        return {name: getattr(value, "tolist", lambda value=value: value)() for name, value in vars(self).items()}


class MinLength(Constraint):
    """No end before the answer has `length` tokens, the end token and the prompt not counted.

    Args:
        length: int, at least 0.
    Raises: ValueError when `length` is below 0, or above the `max_length` of a call.
    Example:
        >>> step = lambda ids, state, time: (ops.array([[0.0, 1.0, 2.0]]), state, None)  # 2 ends
        >>> found = keras_seqattn.decoding.Greedy(constraints=[MinLength(3)])(step, [], ops.array([0]), 5, end_id=2)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[1, 1, 1, 0, 0]]
    """

    def __init__(self, length):
        if not is_count(length) and (length != 0 or isinstance(length, bool)):
            raise ValueError(
                f"`length` is a number of tokens and must be an integer of at least 0. Received: {length=}."
            )
        self.length = length

    def __call__(self, logits, so_far):
        is_end = ops.equal(ops.arange(logits.shape[-1]), so_far.end_id)  # (V,)
        return ops.where(ops.logical_and(is_end, ops.less(so_far.time, self.length)), FORBIDDEN, logits)

    def check(self, max_length):
        if self.length > max_length:
            raise ValueError(
                "An answer takes `max_length` steps at most, so the `length` of `MinLength` must not be above it. "
                f"Received: length={self.length}, {max_length=}."
            )


class SuppressTokens(Constraint):
    """These tokens stand in no answer.

    Args:
        ids: ints, at least one.
    Raises: ValueError when `ids` are not integers of at least 0, or a call's vocabulary does not have them.
    Example:
        >>> step = lambda ids, state, time: (ops.array([[0.0, 1.0, 2.0]]), state, None)
        >>> found = keras_seqattn.decoding.Greedy(constraints=[SuppressTokens([2])])(step, [], ops.array([0]), 3, 0)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[1, 1, 1]]
    """

    def __init__(self, ids):
        listed = np.asarray(ids)
        if listed.ndim != 1 or not listed.size or listed.dtype.kind not in "iu" or (listed < 0).any():
            raise ValueError(f"`ids` are the tokens to suppress: a list of integers of at least 0. Received: {ids=}.")
        self.ids = [int(token) for token in listed]

    def __call__(self, logits, so_far):
        num_tokens = logits.shape[-1]
        if max(self.ids) >= num_tokens:
            raise ValueError(
                f"The `ids` of `SuppressTokens` must be below the size of the vocabulary, {num_tokens}. "
                f"Received: ids={self.ids}."
            )
        return ops.where(np.isin(np.arange(num_tokens), self.ids), FORBIDDEN, logits)


class Prefix(Constraint):
    """Each answer begins with given tokens, such as the tag of a language or what a person has typed.

    Args:
        ids: (P,) int for all rows alike, or (B, P) for each row; lists, arrays, or tensors of the graph around.
        mask: bool, like `ids`, True where a token is forced; the steps where it is False are free. None forces all.
    Raises: ValueError when the ranks are wrong, or P is above the `max_length` of a call.
    Example:
        >>> step = lambda ids, state, time: (ops.one_hot(ids + 1, 9), state, None)  # counts upwards
        >>> begin = Prefix([[5, 3], [6, 0]], mask=[[True, True], [True, False]])
        >>> found = keras_seqattn.decoding.Greedy(constraints=[begin])(step, [], ops.array([0, 0]), 4, end_id=8)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[5, 3, 4, 5], [6, 7, 0, 0]]
    """

    def __init__(self, ids, mask=None):
        ids, mask = (np.asarray(x) if isinstance(x, list | tuple) else x for x in (ids, mask))
        if len(getattr(ids, "shape", ())) not in (1, 2):
            raise ValueError(
                "`ids` are the tokens that begin each answer, (P,) for all rows or (B, P) for each. "
                f"Received: ids of shape {tuple(getattr(ids, 'shape', ()))}."
            )
        if mask is not None and len(mask.shape) != len(ids.shape):
            raise ValueError(
                "`mask` tells of each of `ids` whether it is forced, and has their shape. "
                f"Received: ids of shape {tuple(ids.shape)}, mask of shape {tuple(mask.shape)}."
            )
        self.ids = ids
        self.mask = mask

    def __call__(self, logits, so_far):
        if self.ids.shape[-1] == 0:
            return logits
        ids = ops.convert_to_tensor(self.ids)
        mask = ops.ones_like(ids, dtype="bool") if self.mask is None else ops.cast(self.mask, "bool")
        size = ops.shape(ids)[-1]
        now = ops.minimum(so_far.time, size - 1)
        token, forced = (ops.take(x, now, axis=-1)[..., None] for x in (ops.cast(ids, "int32"), mask))  # (B, 1), (1,)
        if len(token.shape) == 2:  # the beams of a sentence share its prefix
            token, forced = (ops.repeat(x, so_far.beams, axis=0) for x in (token, forced))  # (N, 1)
        forced = ops.logical_and(forced, ops.less(so_far.time, size))
        other = ops.not_equal(ops.arange(logits.shape[-1]), token)
        return ops.where(ops.logical_and(forced, other), FORBIDDEN, logits)

    def check(self, max_length):
        size = self.ids.shape[-1]
        if size is not None and size > max_length:
            raise ValueError(
                "An answer takes `max_length` steps at most, so the `ids` of `Prefix` must not be more. "
                f"Received: ids of shape {tuple(self.ids.shape)}, {max_length=}."
            )

    def get_config(self):
        """The settings as plain JSON; tensors of a graph, which differ from call to call, are left out."""
        given = {"ids": self.ids, "mask": self.mask}
        return {name: value.tolist() if isinstance(value, np.ndarray) else None for name, value in given.items()}


class RepetitionPenalty(Constraint):
    """Tokens that stand in the prompt or in the answer so far become less likely.

        logit = logit / penalty    where it is positive
                logit * penalty    where it is negative

    once, however often the token stands there. The result depends on where the logits' zero lies: it wants a model's
    logits as they come, not log-probabilities.

    Args:
        penalty: float, above 0; 1 changes nothing, the paper takes 1.2, and below 1 repetition is favoured.
    Raises: ValueError when `penalty` is not above 0.
    Reference: Keskar et al. 2019, CTRL, arXiv 1909.05858, sec. 4.1.
    Example:
        >>> step = lambda ids, state, time: (ops.array([[1.0, 1.5, 2.0]]), state, None)
        >>> rarely = RepetitionPenalty(2.5)
        >>> found = keras_seqattn.decoding.Greedy(constraints=[rarely])(step, [], ops.array([0]), 3, end_id=0)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[2, 1, 0]]
    """

    def __init__(self, penalty):
        if not (is_number(penalty) and penalty > 0):
            raise ValueError(f"`penalty` must be a number above 0; 1 changes nothing. Received: {penalty=}.")
        self.penalty = penalty

    def __call__(self, logits, so_far):
        penalized = ops.where(logits < 0, logits * self.penalty, logits / self.penalty)
        return ops.where(which_tokens(so_far.ids, so_far.mask, logits.shape[-1]), penalized, logits)


class NoRepeatNgrams(Constraint):
    """No `size` tokens in a row stand twice in prompt and answer.

    Args:
        size: int, tokens of an n-gram, at least 1; 1 lets no token stand twice.
    Raises: ValueError when `size` is below 1.
    Reference: Paulus et al. 2017, arXiv 1705.04304, sec. 2.5.
    Example:
        >>> step = lambda ids, state, time: (ops.array([[0.0, 1.0, 2.0]]), state, None)
        >>> greedy = keras_seqattn.decoding.Greedy(constraints=[NoRepeatNgrams(2)])
        >>> found = greedy(step, [], ops.array([0]), max_length=4, end_id=9)
        >>> ops.convert_to_numpy(found.ids).tolist()
        [[2, 2, 1, 2]]
    """

    def __init__(self, size):
        if not is_count(size):
            raise ValueError(f"`size` is a number of tokens and must be an integer of at least 1. Received: {size=}.")
        self.size = size

    def __call__(self, logits, so_far):
        ids, mask, before = so_far.ids, so_far.mask, self.size - 1
        if ids.shape[1] is not None and ids.shape[1] < self.size:
            return logits
        windows = ops.shape(ids)[1] - before  # W; window w holds the tokens w ... w + before
        repeated = mask[:, before:]  # (N, W): a token stands at the window's last place
        for place in range(before):
            # The last tokens so far are compared with the first ones of each window.
            index = so_far.index - before + place
            there = ops.clip(index, 0, ops.shape(ids)[1] - 1)
            last = ops.take(ids, there, axis=1)[:, None]  # (N, 1)
            is_token = ops.logical_and(ops.take(mask, there, axis=1)[:, None], ops.equal(index, there))
            same = ops.logical_and(ops.equal(ids[:, place : place + windows], last), is_token)
            repeated = ops.logical_and(repeated, ops.logical_and(same, mask[:, place : place + windows]))
        banned = which_tokens(ids[:, before:], repeated, logits.shape[-1])
        return ops.where(banned, FORBIDDEN, logits)


def which_tokens(ids, mask, num_tokens):
    """Which tokens of the vocabulary (N, V) stand among ids (N, L), where the mask is True: bool.

    Memory is that of the logits: a one-hot of every id would be L times as large.
    """
    rows = ops.broadcast_to(ops.arange(ops.shape(ids)[0], dtype="int32")[:, None], ops.shape(ids))
    mask = ops.logical_and(mask, ops.logical_and(ids >= 0, ids < num_tokens))
    columns = ops.where(mask, ids, num_tokens)  # one more column takes what does not count
    places = ops.reshape(ops.stack([rows, columns], axis=-1), (-1, 2))
    found = ops.zeros((ops.shape(ids)[0], num_tokens + 1))
    # Every update is a 1, so that it does not matter which comes last.
    found = ops.scatter_update(found, places, ops.ones_like(places[:, 0], dtype=found.dtype))
    return found[:, :num_tokens] > 0
