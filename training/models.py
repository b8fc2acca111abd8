"""The models that a recipe can train: their settings, and how each is built from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import keras

from keras_seqattn.models import Seq2Seq, Transformer
from keras_seqattn.training.fit import FitSettings
from keras_seqattn.training.teacher_forcing import TeacherForcing, teacher_forcing


@dataclass(frozen=True)
class Seq2SeqSettings(FitSettings):
    """A recurrent encoder and decoder with attention."""

    model: Literal["seq2seq"] = "seq2seq"
    """kind of model; the other settings depend on it"""
    cell: Literal["lstm", "gru", "elman"] = "lstm"
    """recurrent cell of encoder and decoder"""
    attention: Literal[
        "general",
        "dot",
        "concat",
        "location",
        "local-m",
        "local-p",
        "bahdanau",
        "normalized_bahdanau",
        "monotonic",
        "location_sensitive",
    ] = "general"
    """how the decoder compares itself with the source, or chooses what to read of it"""
    window: int = 10
    """steps that local-m and local-p read on each side of their position"""
    score_noise: float = 1.0
    """standard deviation of the noise by which monotonic learns to choose"""
    initial_score_bias: float = -1.0
    """how far monotonic looks at first: the lower, the further"""
    location_filters: int = 32
    """filters by which location_sensitive sees where it has read"""
    location_kernel_size: int = 31
    """steps that each of these filters sees, an odd number"""
    attend: Literal["after", "before"] = "after"
    """whether the decoder reads the source after its cell has run (Luong) or before (Bahdanau)"""
    input_feeding: bool = True
    """whether the decoder's cell also reads its last attention vector"""
    units: int = 256
    """width of the decoder's state, and of each direction of the encoder"""
    embedding_dim: int = 256
    """width of the embeddings"""
    num_layers: int = 1
    """cells on top of each other, in encoder and decoder"""
    dropout: float = 0.0
    """share of features dropped, on embeddings, between layers and before the logits"""
    teacher_forcing: TeacherForcing = "always"
    """how the share of right words falls that the decoder reads in training; the others are its own"""
    final_teacher_forcing: float = 0.5
    """that share at the end of the training"""

    at_least: ClassVar[dict[str, float]] = {
        "units": 1,
        "embedding_dim": 1,
        "num_layers": 1,
        "window": 1,
        "score_noise": 0,
        "location_filters": 1,
        "location_kernel_size": 1,
        "dropout": 0,
    }

    def build(self, source_size: int, target_size: int, max_source_length: int, steps: int) -> keras.Model:
        """A new model between vocabularies of these sizes.

        Args:
            max_source_length: int, tokens of a source at most.
            steps: int, of the whole training.
        """
        return Seq2Seq(
            source_size,
            target_size,
            units=self.units,
            embedding_dim=self.embedding_dim,
            num_layers=self.num_layers,
            cell=self.cell,
            attention=self.attention,
            attend=self.attend,
            input_feeding=self.input_feeding,
            dropout=self.dropout,
            teacher_forcing=teacher_forcing(self.teacher_forcing, self.final_teacher_forcing, steps),
            window=self.window,
            max_source_length=max_source_length,
            score_noise=self.score_noise,
            initial_score_bias=self.initial_score_bias,
            location_filters=self.location_filters,
            location_kernel_size=self.location_kernel_size,
            dtype=self.precision,
        )


@dataclass(frozen=True)
class TransformerSettings(FitSettings):
    """A transformer's encoder and decoder."""

    model: Literal["transformer"] = "transformer"
    """kind of model; the other settings depend on it"""
    model_dim: int = 256
    """width of each step"""
    num_heads: int = 4
    """heads of each attention, which share the width"""
    num_layers: int = 4
    """blocks of the encoder, and of the decoder"""
    feed_forward_dim: int = 1024
    """width inside the feed-forward networks"""
    positions: Literal["sinusoidal", "learned", "rotary", "alibi", "relative"] = "sinusoidal"
    """how a step knows where it stands"""
    normalize_first: bool = True
    """whether a part reads what is already normalized, which trains more steadily, or the sum is normalized after it"""
    activation: str = "relu"
    """of the feed-forward networks, by Keras's name"""
    dropout: float = 0.1
    """share of features dropped, on embeddings and on what each part adds"""
    attention_dropout: float = 0.0
    """share of attention scores dropped"""
    activation_dropout: float = 0.0
    """share of features dropped inside the feed-forward networks"""
    schedule: Literal["cosine", "inverse_sqrt"] = "inverse_sqrt"
    """how the learning rate falls after the warm-up"""
    adam_beta_2: float = 0.98
    """share that Adam keeps of its mean of squared gradients at each step"""

    at_least: ClassVar[dict[str, float]] = {
        "model_dim": 1,
        "num_heads": 1,
        "num_layers": 1,
        "feed_forward_dim": 1,
        "dropout": 0,
        "attention_dropout": 0,
        "activation_dropout": 0,
    }

    def build(self, source_size: int, target_size: int, max_source_length: int, steps: int) -> keras.Model:
        """A new model between vocabularies of these sizes; vocabularies of one size are taken for one and the same."""
        return Transformer(
            source_size,
            target_size,
            model_dim=self.model_dim,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            feed_forward_dim=self.feed_forward_dim,
            positions=self.positions,
            max_length=2 * max_source_length,
            activation=self.activation,
            normalize_first=self.normalize_first,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            share_embeddings=getattr(self, "shared_vocabulary", False),
            dtype=self.precision,
        )
