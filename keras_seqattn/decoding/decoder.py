"""What the decoders have in common."""

from keras import ops

from keras_seqattn.decoding.constraints import Constraint


class Decoder:
    """From a step function to sequences: the loop that `Greedy`, `Sampling` and `Beam` run.

        progress = start(step, state, start_ids, max_length, end_id)
        progress = advance(step, progress, end_id)    until finished(progress)
        decoded  = result(progress)

    A call does just that in one graph. Whoever streams takes the steps one by one: `progress` is a dict of tensors, the
    batch first in all but `time` and `seed`, and goes through a SavedModel's signatures or over a network as it is.
    After each step `chosen` is the token that came, `ended` tells which rows are done, and `result` gives what stands
    so far. To advance once more than needed changes no result, where `step` can take that.

    Args:
        constraints: sequence of `Constraint`s, or of functions (logits, so_far) -> logits, in the order in which they
            act; () costs nothing.
    Call arguments:
        step: (ids (N,), state, time) -> logits (N, V), state, attention scores (N, S) or None.
        state: structure of tensors (B, ...).
        start_ids: (B,) int, what the first step reads.
        max_length: int, steps at most, the end token's included.
        end_id: int, the token that ends a sequence.
        prompt_ids: (B, P) int, what stands before the answer and counts for constraints that look back. The state has
            read it already; the decoder does not.
        prompt_mask: (B, P) bool, True where a prompt has a token, padded on either side; None where each is P long.
        source_mask: (B, S) bool, True where the source that the attention reads has no padding; for the coverage
            penalty of `Beam` alone.
    Returns: `Decoded`.
    """

    def __init__(self, constraints=()):
        if not isinstance(constraints, list | tuple) or not all(callable(constraint) for constraint in constraints):
            raise ValueError(
                "`constraints` is a sequence of constraints, such as `[MinLength(3)]`. "
                f"Received: constraints={constraints!r}."
            )
        self.constraints = tuple(constraints)

    def __call__(self, step, state, start_ids, max_length, end_id, prompt_ids=None, prompt_mask=None, source_mask=None):
        progress = self.start(step, state, start_ids, max_length, end_id, prompt_ids, prompt_mask, source_mask)

        def unfinished(progress):
            return ops.logical_not(self.finished(progress))

        def body(progress):
            return (self.advance(step, progress, end_id),)

        (progress,) = ops.while_loop(unfinished, body, (progress,))
        return self.result(progress)

    def start(self, step, state, start_ids, max_length, end_id, prompt_ids=None, prompt_mask=None, source_mask=None):
        """Takes the first step; arguments as in a call. Returns: the progress, a dict of tensors."""
        raise NotImplementedError("A decoder takes the first step.")

    def advance(self, step, progress, end_id):
        """Takes one step more. Returns: the progress, of the same structure and shapes."""
        raise NotImplementedError("A decoder takes one step more.")

    def finished(self, progress):
        """Whether no further step changes the result: () bool."""
        raise NotImplementedError("A decoder tells whether it is done.")

    def result(self, progress):
        """`Decoded`, what stands so far."""
        raise NotImplementedError("A decoder gives its answers.")

    def get_config(self):
        """The settings as plain JSON."""
        config = {name: value for name, value in vars(self).items() if name != "constraints"}
        return {**config, "constraints": [described(constraint) for constraint in self.constraints]}

    def constrained(self, logits, so_far):
        """The logits (N, V) that the constraints leave."""
        for constraint in self.constraints:
            logits = constraint(logits, so_far)
        return logits

    def check_constraints(self, max_length):
        """Raises ValueError where a constraint does not fit in `max_length`."""
        for constraint in self.constraints:
            if isinstance(constraint, Constraint):
                constraint.check(max_length)

    def prompt(self, prompt_ids, prompt_mask):
        """The prompt's ids and mask (B, P), its tokens flush right; {} where there is none, or nothing looks at it."""
        if prompt_ids is None:
            if prompt_mask is not None:
                raise ValueError("`prompt_mask` tells of `prompt_ids` which are tokens. Received: prompt_ids=None.")
            return {}
        ids = ops.cast(prompt_ids, "int32")
        mask = ops.ones_like(ids, dtype="bool") if prompt_mask is None else ops.cast(prompt_mask, "bool")
        if len(ids.shape) != 2 or len(mask.shape) != 2:
            raise ValueError(
                "`prompt_ids` and `prompt_mask` are what stands before each answer, (B, P). "
                f"Received: prompt_ids of shape {tuple(ids.shape)}, prompt_mask of shape {tuple(mask.shape)}."
            )
        if not self.constraints:
            return {}
        if prompt_mask is not None:
            places = ops.arange(ops.shape(ids)[1], dtype="int32")  # (P,)
            order = ops.argsort(ops.where(mask, places + ops.shape(ids)[1], places), axis=1)  # (B, P)
            ids, mask = (ops.take_along_axis(x, ops.cast(order, "int32"), axis=1) for x in (ids, mask))
        return {"prompt": {"ids": ids, "mask": mask}}


def described(constraint):
    """A constraint as plain JSON: its name and settings."""
    if isinstance(constraint, Constraint):
        return {"name": type(constraint).__name__, **constraint.get_config()}
    return {"name": getattr(constraint, "__name__", type(constraint).__name__)}
