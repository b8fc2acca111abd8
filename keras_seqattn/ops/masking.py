"""Masks: True = may be read. A row that may read nothing gets zeros, never NaN and never a share of the padding."""

import keras
from keras import ops


def widen(x):
    """float16 -> float32, in which logits past 65504 stay finite; every other dtype as it is."""
    return ops.cast(x, "float32") if keras.backend.standardize_dtype(x.dtype) == "float16" else x


def masked_softmax(logits, mask=None):
    """Softmax over the last axis among the entries that may be read.

        scores = exp(logits) * mask / sum of exp(logits) * mask        zeros where the whole row is masked

    Computed in float32 or float64, as half precision loses the small scores of long rows.

    Args:
        logits: (..., S) float.
        mask: bool, broadcast against `logits`, True = may be read; None reads everything.
    Returns: (..., S) float32, or float64 where the logits are.
    Example:
        >>> [round(float(s), 3) for s in masked_softmax(ops.zeros((3,)), ops.array([True, False, True]))]
        [0.5, 0.0, 0.5]
    """
    logits = ops.convert_to_tensor(logits)
    if keras.backend.standardize_dtype(logits.dtype) != "float64":
        logits = ops.cast(logits, "float32")
    # Of a single entry Keras warns that it always gets 1, which is right where a source has a single step.
    softmax = ops.ones_like if logits.shape[-1] == 1 else ops.softmax
    if mask is None:
        return softmax(logits)
    mask = ops.cast(mask, "bool")
    # Finite, so that a fully masked row has a finite softmax and a finite gradient before it is set to zero.
    scores = softmax(ops.where(mask, logits, ops.full_like(logits, -1e30)))
    return ops.where(mask, scores, ops.zeros_like(scores))


def keep_rows(keep, new, old):
    """`new` where `keep`, else `old`, for every tensor of a nested structure.

    Args:
        keep: (B,) bool.
        new, old: structures of tensors (B, ...), of the same shapes.
    """

    def select(new, old):
        rows = ops.reshape(keep, (-1,) + (1,) * (len(new.shape) - 1))
        return ops.where(rows, new, old)

    return keras.tree.map_structure(select, new, old)
