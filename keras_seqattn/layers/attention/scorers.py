"""The attention within an attention: what compares query and value, for those that only choose where to read."""

from functools import partial

from keras_seqattn.layers.attention.bahdanau_attention import BahdanauAttention
from keras_seqattn.layers.attention.luong_attention import LuongAttention
from keras_seqattn.layers.attention.memory_attention import MemoryAttention

SCORERS = {
    "bahdanau": BahdanauAttention,
    "concat": partial(LuongAttention, "concat"),
    "dot": partial(LuongAttention, "dot"),
    "general": partial(LuongAttention, "general"),
    "normalized_bahdanau": partial(BahdanauAttention, normalize=True),
}
WITH_UNITS = ("bahdanau", "concat", "normalized_bahdanau")


def make_scorer(score, units, **options):
    """The attention that a name or an attention stands for.

    Args:
        score: a name of `SCORERS`, or a `MemoryAttention` that remembers nothing.
        units: int, width U of the comparison of the scores in `WITH_UNITS`.
        options: further arguments of a layer that is made here.
    Raises: ValueError when the score is none of these.
    """
    if isinstance(score, MemoryAttention):
        if score.remembers:
            raise ValueError(
                "`score` compares each step with each other step alone, so it must be an attention that does not "
                f"remember the steps before. Received: score={score!r}."
            )
        return score
    if not isinstance(score, str) or score not in SCORERS:
        raise ValueError(
            f"`score` must be one of {', '.join(map(repr, SCORERS))}, or an attention such as "
            f"`BahdanauAttention(units)`. Received: score={score!r}."
        )
    return SCORERS[score](units=units, **options) if score in WITH_UNITS else SCORERS[score](**options)


def needs_units(score):
    """Whether a score is made here with a width U."""
    return isinstance(score, str) and score in WITH_UNITS
