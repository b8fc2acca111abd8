"""Whole models, one file a paper."""

from keras_seqattn.models.seq2seq import Seq2Seq

__all__ = ["Seq2Seq"]
