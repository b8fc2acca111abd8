"""Functions that own no weights."""

from keras_seqattn.ops.masking import keep_rows, masked_softmax, widen
from keras_seqattn.ops.recurrence import scan, scan_unrolled

__all__ = ["keep_rows", "masked_softmax", "scan", "scan_unrolled", "widen"]
