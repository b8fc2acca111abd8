"""Layers that read, remember and attend, for Keras 3."""

from keras_seqattn import decoding, layers, losses, models, ops

__version__ = "0.1.0"

__all__ = ["decoding", "layers", "losses", "models", "ops"]
