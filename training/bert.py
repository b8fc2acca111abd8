"""What the recipes with `Bert` share: the settings of its sizes, and how one takes the encoder of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from keras_seqattn.models import Bert, presets
from keras_seqattn.training.fit import FitSettings

SMALLEST = "bert-tiny"
SIZES = ("model_dim", "num_layers", "num_heads", "feed_forward_dim")
NEW = ("classes", "words_dense", "words_norm", "words_bias")  # layers of a head, which learn a task of their own
OF_SOME = ("pooler",)  # taken over where the other model has it


@dataclass(frozen=True)
class BertSettings(FitSettings):
    """Settings of a `Bert`."""

    preset: Literal["bert-tiny", "bert-mini", "bert-small", "bert-medium", "bert-base", "bert-large", "none"] = "none"
    """published sizes; none: bert-tiny's, 2 blocks of width 128"""
    model_dim: int = 0
    """width of each step; 0: the preset's"""
    num_layers: int = 0
    """blocks; 0: the preset's"""
    num_heads: int = 0
    """heads of each attention, which share the width; 0: the preset's"""
    feed_forward_dim: int = 0
    """width inside the feed-forward networks; 0: four times `model_dim`"""
    dropout: float = 0.1
    """share of features dropped, on embeddings, on what each part adds and before the classes"""
    attention_dropout: float = 0.1
    """share of attention scores dropped"""
    vocabulary_size: int = 8000
    """word pieces at most"""
    lowercase: bool = True
    """whether texts are read in small letters, without accents"""
    batch_size: int = 32
    """rows in a batch"""
    weight_decay: float = 0.01
    """share of each kernel that a step takes away, times the learning rate"""

    at_least: ClassVar[dict[str, float]] = {
        **dict.fromkeys(SIZES, 0),
        "dropout": 0,
        "attention_dropout": 0,
        "vocabulary_size": 1,
        "batch_size": 1,
    }

    def sizes(self) -> dict[str, int]:
        """The sizes that are told, by the constructor's names; none where nothing is told."""
        preset = {} if self.preset == "none" else presets.sizes(presets.BERT, self.preset)
        return {**preset, **{name: getattr(self, name) for name in SIZES if getattr(self, name)}}

    def build(self, base: dict[str, Any] | None = None, **settings: Any) -> Bert:
        """A new model.

        Args:
            base: arguments of a model whose sizes hold where none are told; None is bert-tiny.
            **settings: what the settings here do not tell, such as the head.
        """
        base = presets.sizes(presets.BERT, SMALLEST) if base is None else base
        rates = {"dropout": self.dropout, "attention_dropout": self.attention_dropout}
        return Bert(**{**base, **self.sizes(), **rates, "dtype": self.precision, **settings})


def take_encoder(model: Bert, source: Bert) -> None:
    """Gives `model` the weights of `source`, layer by layer by their names, except those of the head.

    Raises: ValueError that names the layers, and both shapes, where the two differ.
    """
    theirs = {variable.path: variable for variable in source.weights if layer_of(variable) not in NEW}
    mine = {variable.path: variable for variable in model.weights if layer_of(variable) not in NEW}
    wrong = []
    for path in [*mine, *(path for path in theirs if path not in mine)]:
        one, other = (tuple(found[path].shape) if path in found else None for found in (mine, theirs))
        if one != other and path.split("/")[0] not in OF_SOME:
            wrong.append(f"{path} {other or 'nowhere'} there, {one or 'nowhere'} here")
    if wrong:
        more = f", and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(
            "A model takes over an encoder of its own sizes: leave out the settings of sizes, or choose those of "
            f"the other. Received: {', '.join(wrong[:4])}{more}."
        )
    for path, variable in mine.items():
        if path in theirs:
            variable.assign(theirs[path])


def layer_of(variable: Any) -> str:
    """The layer of the model that a variable belongs to."""
    return variable.path.split("/")[0]
