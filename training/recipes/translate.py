"""Translation:  seqattn train translate --data FOLDER_OR_TSV

Subwords by SentencePiece, and a bidirectional LSTM with Luong's attention and input feeding; with `--model transformer`
a transformer (Vaswani et al. 2017, arXiv 1706.03762). Data: a TSV of pairs, or two parallel files, plain or .gz;
without any, English-Spanish sentence pairs of Tatoeba are downloaded.

Measured: `--model transformer --data-set multi30k --epochs 45 --model-dim 128 --feed-forward-dim 256 --dropout 0.3
--learning-rate 4e-3 --schedule cosine --warmup-steps 1000 --precision mixed_bfloat16 --xla off`, English to German,
test_2016_flickr: 38.94 sacreBLEU, 39.28 BLEU of lower-cased words; with 5 beams and a length penalty of 1.4, the best
on the validation part, 39.13 and 39.47. 111 min on 2 cores of an Intel Xeon with AMX, other work on the machine; seed
0, 2026-11-21. With `--subword-sampling 0.3 --vocabulary-size 6000 --feed-forward-dim 512 --epochs 42 --beam-width 5`,
38.18 and 38.47 after 116 min: beside a dropout of 0.3 the model had not learned enough by then (training loss 2.69).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from rich.console import Console

from keras_seqattn.text import CharacterTokenizer, SentencePieceTokenizer, Tokenizer, WordTokenizer
from keras_seqattn.training import evaluate, text_to_text
from keras_seqattn.training.data import Splits, TranslationData
from keras_seqattn.training.models import Seq2SeqSettings, TransformerSettings

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "characters": CharacterTokenizer,
    "sentencepiece": SentencePieceTokenizer,
    "words": WordTokenizer,
}


@dataclass(frozen=True)
class PairSettings(text_to_text.TextToTextSettings):
    """Which sentences, and how they are read."""

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
    shared_vocabulary: bool = False
    """whether source and target have one vocabulary, learned from both; a transformer then has one matrix for both"""
    lower: bool = False
    """whether the source is read in lower case; with a shared vocabulary, the target too"""
    subword_sampling: float = 0.0
    """alpha by which the pieces of each training text are drawn anew each epoch (subword regularization; 0.1 to 0.5 in
    Kudo 2018, arXiv 1804.10959), for tokenizer sentencepiece; 0 reads the most probable pieces"""
    label_smoothing: float = 0.1
    """share of each target that is spread over the vocabulary"""
    beam_width: int = 4
    """beams in the evaluation; 1 is greedy"""

    recipe: ClassVar[str] = "translate"
    at_least: ClassVar[dict[str, float]] = {"subword_sampling": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subword_sampling and self.tokenizer != "sentencepiece":
            raise ValueError(
                f"`subword_sampling` draws pieces of SentencePiece, so `tokenizer` must be sentencepiece. Received: "
                f"subword_sampling={self.subword_sampling}, tokenizer={self.tokenizer!r}."
            )


@dataclass(frozen=True)
class Config(Seq2SeqSettings, PairSettings):
    """Translation of sentences, from a TSV of pairs or two parallel files."""

    epochs: int = 6
    """passes over the training part"""
    dropout: float = 0.3
    """share of features dropped, on embeddings, between layers and before the logits"""

    xla_on_cpu: ClassVar[bool] = True


@dataclass(frozen=True)
class TransformerConfig(TransformerSettings, PairSettings):
    """Translation of sentences by a transformer."""

    epochs: int = 20
    """passes over the training part"""
    batch_tokens: int = 4096
    """steps in a batch, padding counted; a bucket of length n has about batch_tokens / n pairs a batch"""
    learning_rate: float = 1e-3
    """highest learning rate, reached after the warm-up"""
    warmup_steps: int = 2000
    """steps in which the learning rate rises from zero"""
    shared_vocabulary: bool = True
    """whether source and target have one vocabulary, learned from both, and one matrix"""
    vocabulary_size: int = 8000
    """tokens of the vocabulary"""
    average_checkpoints: int = 5
    """epochs at the end whose weights' mean is the trained model; 1 takes the last ones as they are"""


MODELS = {"seq2seq": Config, "transformer": TransformerConfig}


def load(config: PairSettings) -> Splits:
    """The pairs that the settings name."""
    return TranslationData(config.data or None, config.data_set, is_reversed=config.reverse).load()


def scores(config: PairSettings) -> list[text_to_text.Score]:
    """Figures beside the exact match: BLEU by sacreBLEU, and as the literature has counted it."""
    languages = {"spa_eng": ("en", "es"), "multi30k": ("en", "de")}[config.data_set]
    # Of other data Moses has no special rules to know, but those for abbreviations.
    return [evaluate.sacrebleu, partial(evaluate.tokenized_bleu, language=languages[not config.reverse])]


def run(config: PairSettings, console: Console) -> dict[str, Any]:
    """Trains, evaluates, and returns the figures, BLEU among them."""
    evaluate.load_sacrebleu()  # a missing library is told now, not after the training
    splits = load(config)

    def learn() -> tuple[Tokenizer, Tokenizer]:
        kind = TOKENIZERS[config.tokenizer]
        sources, targets = zip(*splits.train, strict=True)
        normalization = ("lower",) if config.lower else ()
        if config.shared_vocabulary:
            both = kind.learn([*sources, *targets], config.vocabulary_size, normalization)
            return both, both
        return (
            kind.learn(sources, config.vocabulary_size, normalization),
            kind.learn(targets, config.vocabulary_size),
        )

    return text_to_text.train(config, splits, learn, scores(config), console, config.subword_sampling)


def test_part(config: PairSettings) -> tuple[Splits, list[text_to_text.Score]]:
    """The data that a finished run is evaluated on, and its figures."""
    return load(config), scores(config)
