"""Functions that own no weights."""

from keras_seqattn.ops.attention import attention, attention_scores
from keras_seqattn.ops.linear_recurrence import linear_recurrence, linear_recurrence_in_turn
from keras_seqattn.ops.masking import keep_rows, masked_softmax, widen
from keras_seqattn.ops.positions import alibi_bias, alibi_slopes, relative_buckets, rotary, sinusoids
from keras_seqattn.ops.products import product
from keras_seqattn.ops.recurrence import scan, scan_unrolled

__all__ = [
    "alibi_bias",
    "alibi_slopes",
    "attention",
    "attention_scores",
    "keep_rows",
    "linear_recurrence",
    "linear_recurrence_in_turn",
    "masked_softmax",
    "product",
    "relative_buckets",
    "rotary",
    "scan",
    "scan_unrolled",
    "sinusoids",
    "widen",
]
