"""What a model attended to and what its gates did, as pictures and as plain text."""

from keras_seqattn.inspection.alignment import alignment_figure, alignment_text
from keras_seqattn.inspection.gates import gates_figure, gates_text

__all__ = ["alignment_figure", "alignment_text", "gates_figure", "gates_text"]
