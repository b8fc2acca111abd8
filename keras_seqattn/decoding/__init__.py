"""From a step function to sequences, in graph."""

from keras_seqattn.decoding.beam import Beam
from keras_seqattn.decoding.decoded import Decoded
from keras_seqattn.decoding.greedy import Greedy

__all__ = ["Beam", "Decoded", "Greedy"]
