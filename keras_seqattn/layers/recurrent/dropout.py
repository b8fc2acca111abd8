"""What is random in a cell: masks that stay for a sequence, and masks of each step."""

import keras
from keras import ops


def seed_generator(seed, *rates):
    """What the masks are drawn with, or None where there is nothing to draw."""
    return keras.random.SeedGenerator(seed) if any(rates) else None


def dropout_mask(rate, shape, dtype, seed):
    """What to multiply with to drop a share `rate` and keep the mean, 0 or 1 / (1 - rate); None for a rate of 0."""
    return keras.random.dropout(ops.ones(shape, dtype=dtype), rate, seed=seed) if rate else None


def masked(x, mask, start=0):
    """`x` (..., B, D) times the part of `mask` (B, W) that begins at feature `start`; as it is without a mask."""
    if mask is None:
        return x
    width = x.shape[-1]
    if width != mask.shape[-1]:
        mask = mask[:, start : start + width]
    return x * ops.cast(mask, x.dtype)


def zoned(new, old, rate, keep=None):
    """The state after zoneout: where a unit is kept it has its last value.

    Args:
        keep: (B, U) bool, what was drawn; None takes the mean of all draws.
    """
    if not rate:
        return new
    return new + rate * (old - new) if keep is None else ops.where(keep, old, new)
