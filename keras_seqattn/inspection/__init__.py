"""What a model attended to, as pictures and as plain text."""

from keras_seqattn.inspection.alignment import alignment_figure, alignment_text

__all__ = ["alignment_figure", "alignment_text"]
