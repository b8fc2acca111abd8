"""Rows of different lengths as TensorFlow's ragged tensors: padded, with the mask that they mean."""

import keras
from keras import ops


def is_ragged(x):
    """Whether `x` is a `tf.RaggedTensor`."""
    return keras.backend.backend() == "tensorflow" and hasattr(x, "row_lengths")


def padded(x, mask=None):
    """A ragged tensor (B, T, ...) padded with zeros, and its mask (B, T); any other, and its mask, as they are.

    Args:
        mask: True where a step counts; the steps that a ragged tensor does not have never count.
    """
    if not is_ragged(x):
        return x, mask
    lengths, dense = x.row_lengths(), x.to_tensor()
    there = ops.arange(ops.shape(dense)[1], dtype=lengths.dtype)[None, :] < lengths[:, None]  # (B, T)
    if mask is None:
        return dense, there
    mask = mask.to_tensor() if is_ragged(mask) else mask
    return dense, ops.logical_and(there, ops.cast(mask, "bool"))
