"""What transformers do with ids before their first block, and what their constructors check alike."""

from dataclasses import dataclass
from typing import Any

from keras_seqattn.layers import LearnedPositions, SinusoidalPositions
from keras_seqattn.ops.arguments import check_count

ADDED = {  # positions that are added to the embeddings, from the longest length and options
    "sinusoidal": lambda max_length, **options: SinusoidalPositions(**options),
    "learned": lambda max_length, **options: LearnedPositions(max_length, **options),
}
COMPARED = ("rotary", "alibi", "relative")  # positions that attention compares


@dataclass(frozen=True)
class Reader:
    """From ids to the inputs of the first block:

    x = dropout(norm(positions(embedding(ids))))        without positions or norm where there are none
    """

    embedding: Any
    positions: Any
    dropout: Any
    norm: Any = None

    def __call__(self, ids, positions=None, add=None, training=None):
        """Reads ids (B, T) int that stand at `positions` (T,) or (B, T); `add` is a further layer's call on x."""
        x = self.embedding(ids)
        if self.positions is not None:
            x = self.positions(x, positions)
        if add is not None:
            x = add(x)
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(x, training=training)


def check_sizes(positions, max_length, **counts):
    """Raises ValueError unless counts are counts, and learned positions know how many they are."""
    for name, count in counts.items():
        check_count(count, name)
    known = (*ADDED, *COMPARED, None)
    if positions not in known:
        raise ValueError(f"`positions` must be one of {', '.join(map(repr, known))}. Received: {positions=}.")
    if positions == "learned":
        check_count(max_length, "max_length")


def check_heads(model_dim, num_heads):
    """Raises ValueError unless the heads can share the width."""
    if model_dim % num_heads:
        raise ValueError(
            "The heads share the width evenly, so `num_heads` must divide `model_dim`. "
            f"Received: {model_dim=}, {num_heads=}."
        )
