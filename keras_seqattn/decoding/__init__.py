"""From a step function to sequences, in graph."""

from keras_seqattn.decoding.beam import Beam
from keras_seqattn.decoding.constraints import (
    Constraint,
    MinLength,
    NoRepeatNgrams,
    Prefix,
    RepetitionPenalty,
    SoFar,
    SuppressTokens,
)
from keras_seqattn.decoding.decoded import Decoded
from keras_seqattn.decoding.decoder import Decoder
from keras_seqattn.decoding.greedy import Greedy
from keras_seqattn.decoding.sampling import Sampling

__all__ = [
    "Beam",
    "Constraint",
    "Decoded",
    "Decoder",
    "Greedy",
    "MinLength",
    "NoRepeatNgrams",
    "Prefix",
    "RepetitionPenalty",
    "Sampling",
    "SoFar",
    "SuppressTokens",
]
