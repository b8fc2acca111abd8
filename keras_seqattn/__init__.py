"""Layers that read, remember and attend, for Keras 3."""

from keras_seqattn import checkpoints, decoding, layers, losses, models, ops, schedules

__version__ = "0.1.0"

__all__ = ["checkpoints", "decoding", "layers", "losses", "models", "ops", "schedules"]
