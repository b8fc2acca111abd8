"""What watches a training: each callback works alone with any Keras model that has what it looks at."""

from keras_seqattn.training.callbacks.alignments import Alignments
from keras_seqattn.training.callbacks.checkpoints import Checkpoints
from keras_seqattn.training.callbacks.progress import Progress
from keras_seqattn.training.callbacks.sample_answers import SampleAnswers
from keras_seqattn.training.callbacks.scalars import Scalars
from keras_seqattn.training.callbacks.seed_each_epoch import SeedEachEpoch

__all__ = ["Alignments", "Checkpoints", "Progress", "SampleAnswers", "Scalars", "SeedEachEpoch"]
