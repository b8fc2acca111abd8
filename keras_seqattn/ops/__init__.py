"""Functions that own no weights."""

from keras_seqattn.ops.linear_recurrence import linear_recurrence, linear_recurrence_in_turn
from keras_seqattn.ops.masking import keep_rows, masked_softmax, widen
from keras_seqattn.ops.products import product
from keras_seqattn.ops.recurrence import scan, scan_unrolled

__all__ = [
    "keep_rows",
    "linear_recurrence",
    "linear_recurrence_in_turn",
    "masked_softmax",
    "product",
    "scan",
    "scan_unrolled",
    "widen",
]
