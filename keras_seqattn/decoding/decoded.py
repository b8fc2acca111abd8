"""What a decoder gives back."""

from typing import Any, NamedTuple


class Decoded(NamedTuple):
    """Decoded sequences.

    Attributes:
        ids: (B, T) int32, the answers; the end token and what follows it are padding, 0.
        lengths: (B,) int32, ids before the end token, or T where none came.
        scores: (B,) float32, natural logarithm of the answer's probability, its end token included: the model's own,
            whatever constraints, temperature and filters did to the choice. `Beam` applies its penalties of length and
            coverage. At most -1e30 where the constraints left no answer.
        attention: (B, T, S) float, what each step read, zero past the end; None where the step gives none.

    With `Beam(num_return=R)` each has a further axis: (B, R, T), (B, R), (B, R), (B, R, T, S), best first.
    """

    ids: Any
    lengths: Any
    scores: Any
    attention: Any
