"""Dates as people write them, in many languages, to ISO 8601:  seqattn train dates

A character-level sequence-to-sequence model with attention. Needs no data: the dates come from Babel's CLDR patterns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.console import Console

from keras_seqattn.text import CharacterTokenizer
from keras_seqattn.training import text_to_text
from keras_seqattn.training.data.dates import DateSplits, date_splits
from keras_seqattn.training.models import Seq2SeqSettings


@dataclass(frozen=True)
class Config(Seq2SeqSettings, text_to_text.TextToTextSettings):
    """Dates in many languages to ISO 8601, character by character."""

    epochs: int = 2
    """passes over the training part"""
    bucket_boundaries: tuple[int, ...] = (16, 24, 40)
    """greatest length of each bucket, in characters; longer pairs are left out, and counted"""
    warmup_steps: int = 100
    """steps in which the learning rate rises from zero"""
    learning_rate: float = 3e-3
    """highest learning rate, reached after the warm-up; then it falls by a cosine to a fiftieth"""
    units: int = 128
    """width of the decoder's state, and of each direction of the encoder"""
    embedding_dim: int = 64
    """width of the embeddings"""
    num_train: int = 60_000
    """dates to train on"""
    num_validation: int = 500
    """dates to watch the training by, of days that are in no other part"""
    num_test: int = 2_000
    """dates to report on, of days that are in no other part"""

    recipe: ClassVar[str] = "dates"
    at_least: ClassVar[dict[str, float]] = {
        "num_train": 1,
        "num_validation": 1,
        "num_test": 1,
    }
    xla_on_cpu: ClassVar[bool] = True


def run(config: Config, console: Console) -> dict[str, Any]:
    """Trains, evaluates, and returns the figures, among them the exact match of each locale."""
    splits = date_splits(config.seed, config.num_train, config.num_validation, config.num_test)

    def learn() -> tuple[CharacterTokenizer, CharacterTokenizer]:
        sources, targets = zip(*splits.train, strict=True)
        return CharacterTokenizer.learn(sources), CharacterTokenizer.learn(targets)

    return text_to_text.train(config, splits, learn, scores(splits), console)


def scores(splits: DateSplits) -> list[text_to_text.Score]:
    """Figures beside the exact match: that of each locale."""

    def by_locale(found: Sequence[str], wanted: Sequence[str]) -> dict[str, Any]:
        figures = {}
        for locale in sorted(set(splits.test_locales)):
            hits = [a == b for a, b, name in zip(found, wanted, splits.test_locales, strict=True) if name == locale]
            figures[f"exact_match_{locale}"] = round(sum(hits) / len(hits), 4)
        return figures

    return [by_locale]


def test_part(config: Config) -> tuple[DateSplits, list[text_to_text.Score]]:
    """The data that a finished run is evaluated on, and its figures."""
    splits = date_splits(config.seed, 0, config.num_validation, config.num_test)
    return splits, scores(splits)
