"""What watches a training: each callback works alone with any Keras model that has what it looks at."""

from keras_seqattn.training.callbacks.alignments import Alignments
from keras_seqattn.training.callbacks.bits_per_token import BitsPerToken
from keras_seqattn.training.callbacks.checkpoints import Checkpoints
from keras_seqattn.training.callbacks.gates import Gates
from keras_seqattn.training.callbacks.progress import Progress
from keras_seqattn.training.callbacks.reset_states import ResetStates
from keras_seqattn.training.callbacks.sample_answers import SampleAnswers
from keras_seqattn.training.callbacks.scalars import Scalars
from keras_seqattn.training.callbacks.seed_each_epoch import SeedEachEpoch
from keras_seqattn.training.callbacks.written_text import WrittenText

__all__ = [
    "Alignments",
    "BitsPerToken",
    "Checkpoints",
    "Gates",
    "Progress",
    "ResetStates",
    "SampleAnswers",
    "Scalars",
    "SeedEachEpoch",
    "WrittenText",
]
