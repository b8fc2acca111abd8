"""Weights from elsewhere."""

from keras_seqattn.checkpoints.huggingface import load_huggingface, load_huggingface_tokenizer
from keras_seqattn.checkpoints.tfa import load_tfa, read_tfa

__all__ = ["load_huggingface", "load_huggingface_tokenizer", "load_tfa", "read_tfa"]
