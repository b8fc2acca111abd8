"""Weights from elsewhere."""

from keras_seqattn.checkpoints.tfa import load_tfa, read_tfa

__all__ = ["load_tfa", "read_tfa"]
