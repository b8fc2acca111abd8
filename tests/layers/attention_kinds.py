"""The attentions that choose where to read or remember where they did, beside their references."""

from dataclasses import dataclass
from typing import Any

from keras_seqattn.layers import (
    BahdanauAttention,
    LocalAttention,
    LocationSensitiveAttention,
    LuongAttention,
    MonotonicAttention,
)
from tests.layers import paper_weights
from tests.reference import attention_in_turn as papers
from tests.reference.arrays import S, U
from tests.reference.attention import bahdanau_logit, general_logit, normalized_bahdanau_logit


def zero(steps):
    return 0


def nothing(steps):
    return papers.np.zeros(steps)


@dataclass(frozen=True)
class Kind:
    """An attention, its reference step, the state that this begins with, and its weights from the layer's."""

    make: Any
    step: Any
    first_state: Any
    weights: Any
    choosing: bool = False  # whether it chooses one step, by which no gradient goes


KINDS = {
    "location": Kind(
        lambda **options: LuongAttention("location", max_steps=S + 2, **options),
        papers.location_step,
        zero,
        paper_weights.luong,
    ),
    "local-m": Kind(
        lambda **options: LocalAttention("general", window=1, **options),
        papers.local_step(general_logit, 1, predictive=False),
        zero,
        paper_weights.local,
    ),
    "local-p": Kind(
        lambda **options: LocalAttention("bahdanau", window=2, alignment="predictive", units=U, **options),
        papers.local_step(bahdanau_logit, 2, predictive=True),
        zero,
        paper_weights.local,
    ),
    "monotonic": Kind(
        lambda **options: MonotonicAttention(units=U, noise=0, **options),
        papers.chosen_monotonic_step(normalized_bahdanau_logit),
        papers.first_read,
        paper_weights.monotonic,
        choosing=True,
    ),
    "monotonic-expected": Kind(
        lambda **options: MonotonicAttention(BahdanauAttention(U, **options), noise=0, hard_inference=False, **options),
        papers.expected_monotonic_step(bahdanau_logit),
        papers.first_read,
        paper_weights.monotonic,
    ),
    "location_sensitive": Kind(
        lambda **options: LocationSensitiveAttention(U, filters=2, kernel_size=3, **options),
        papers.location_sensitive_step(cumulative=False),
        nothing,
        paper_weights.location_sensitive,
    ),
    "location_sensitive-cumulative": Kind(
        lambda **options: LocationSensitiveAttention(U, filters=3, kernel_size=5, cumulative=True, **options),
        papers.location_sensitive_step(cumulative=True),
        nothing,
        paper_weights.location_sensitive,
    ),
}
REMEMBERING = [name for name, kind in KINDS.items() if kind.make().remembers]


def draw(layer, rng):
    """`randomize`, but so that what chooses chooses now early, now late."""
    paper_weights.randomize(layer, rng)
    attention = getattr(layer, "attention", layer)
    if isinstance(attention, MonotonicAttention):
        attention.score_bias.assign(0.1)
        if attention.scorer.normalize:
            attention.scorer.scale.assign(1.0)
    return layer
