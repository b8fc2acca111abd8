"""Tiny runs, and answering models that need no training: random weights, made large so that answers differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from keras_seqattn.decoding import Beam, Greedy
from keras_seqattn.models import Seq2Seq
from keras_seqattn.serving.export.saved_model import export_text_to_text
from keras_seqattn.text import CharacterTokenizer, SentencePieceTokenizer, TextToText, WordTokenizer
from tests.training.conftest import dates_run, echo, translate_run

__all__ = ["dates_run", "echo", "translate_run"]

TOKENIZERS = {"characters": CharacterTokenizer, "words": WordTokenizer, "sentencepiece": SentencePieceTokenizer}
DECODERS = {"greedy": Greedy(), "beam": Beam(3, length_penalty=0.6)}
SENTENCES = [
    "the small house",
    "a bird on the house",
    "Über den Fluß",
    "五月の風",
    "old stones, long winds!",
    "the wind",
]
# What a model must put up with: empty, unknown, long, broken, strange.
TEXTS = [
    b"the small house",
    "Über den Fluß".encode(),
    b"",
    b" ",
    "привет 你好 🙂".encode(),
    b"the house " * 400,
    b"broken \xff\xc3 bytes \x80",
    b"nul\x00 and\ttab\nline",
    "e\u0301\u200d\ufeff".encode(),
    b"bird",
]


def untrained(tokenizer_name: str, decoder_name: str) -> TextToText:
    """A model of random weights between tokenizers of one kind."""
    kind = TOKENIZERS[tokenizer_name]
    source, target = kind.learn(SENTENCES, 300), kind.learn([text.upper() for text in SENTENCES], 300)
    model = Seq2Seq(source.vocabulary_size, target.vocabulary_size, units=16, embedding_dim=12, cell="gru")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0.0, 1.2, weight.shape))
    bias = np.zeros(target.vocabulary_size)
    bias[target.end_id] = 2.0  # so that some answers end
    model.output_projection.bias.assign(bias)
    return TextToText(model, source, target, 12, 9, DECODERS[decoder_name])


@dataclass(frozen=True)
class Exported:
    """A version, and what the model answered to `TEXTS` before it was exported."""

    version: Path
    answers: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> dict[str, Exported]:
    """An export of each kind of tokenizer with each decoder, by names such as "words_beam"."""
    folder, found = tmp_path_factory.mktemp("saved_models"), {}
    for tokenizer in TOKENIZERS:
        for decoder in DECODERS:
            name, answering = f"{tokenizer}_{decoder}", untrained(tokenizer, decoder)
            answers = {output: value.numpy() for output, value in answering(TEXTS).items()}
            version = export_text_to_text(answering, folder / name, {"recipe": "none"}, [TEXTS[0].decode(), "bird"])
            found[name] = Exported(version, answers)
    return found


@pytest.fixture(scope="session")
def words():
    """`TextToText` of words, with beams."""
    return untrained("words", "beam")
