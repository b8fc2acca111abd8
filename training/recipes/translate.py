"""Translation with a recurrent model and attention:  seqattn train translate --data FOLDER_OR_TSV

Subwords by SentencePiece, a bidirectional LSTM, Luong's attention with input feeding. Data: a TSV of pairs, or two
parallel files, plain or .gz; without any, English-Spanish sentence pairs of Tatoeba are downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from rich.console import Console

from keras_seqattn.text import CharacterTokenizer, SentencePieceTokenizer, Tokenizer, WordTokenizer
from keras_seqattn.training import evaluate, text_to_text
from keras_seqattn.training.data import Splits, TranslationData

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "characters": CharacterTokenizer,
    "sentencepiece": SentencePieceTokenizer,
    "words": WordTokenizer,
}


@dataclass(frozen=True)
class Config(text_to_text.TextToTextConfig):
    """Translation of sentences, from a TSV of pairs or two parallel files."""

    data: str = ""
    """a .tsv of two columns, or a folder of train, val and test (.tsv or one file a language), plain or .gz; empty: the
    folder that SEQATTN_DATA names, or else a download"""
    data_set: Literal["spa_eng", "multi30k"] = "spa_eng"
    """which one, where the folder holds several"""
    reverse: bool = False
    """swap source and target"""
    tokenizer: Literal["sentencepiece", "words", "characters"] = "sentencepiece"
    """what a token is"""
    vocabulary_size: int = 6000
    """tokens of source and of target, each"""
    lower: bool = False
    """whether the source is read in lower case"""
    epochs: int = 6
    """passes over the training part"""
    dropout: float = 0.3
    """share of features dropped, on embeddings, between layers and before the logits"""
    label_smoothing: float = 0.1
    """share of each target that is spread over the vocabulary"""
    beam_width: int = 4
    """beams in the evaluation; 1 is greedy"""

    recipe: ClassVar[str] = "translate"
    xla_on_cpu: ClassVar[bool] = True


def load(config: Config) -> Splits:
    """The pairs that the settings name."""
    return TranslationData(config.data or None, config.data_set, is_reversed=config.reverse).load()


def run(config: Config, console: Console) -> dict[str, Any]:
    """Trains, evaluates, and returns the figures, BLEU among them."""
    evaluate.load_sacrebleu()  # a missing library is told now, not after the training
    splits = load(config)

    def learn() -> tuple[Tokenizer, Tokenizer]:
        kind = TOKENIZERS[config.tokenizer]
        sources, targets = zip(*splits.train, strict=True)
        normalization = ("lower",) if config.lower else ()
        return (
            kind.learn(sources, config.vocabulary_size, normalization),
            kind.learn(targets, config.vocabulary_size),
        )

    return text_to_text.train(config, splits, learn, [evaluate.sacrebleu], console)


def test_part(config: Config) -> tuple[Splits, list[text_to_text.Score]]:
    """The data that a finished run is evaluated on, and its figures."""
    return load(config), [evaluate.sacrebleu]
