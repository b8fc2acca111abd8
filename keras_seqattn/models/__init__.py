"""Whole models, one file a paper."""

from keras_seqattn.models.bert import Bert
from keras_seqattn.models.gpt import GPT
from keras_seqattn.models.seq2seq import Seq2Seq
from keras_seqattn.models.transformer import Transformer

__all__ = ["Bert", "GPT", "Seq2Seq", "Transformer"]
