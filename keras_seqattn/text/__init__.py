"""Tokenizers and detokenizers that run in the graph, so that an exported model takes strings and gives strings."""

from .byte_pair_tokenizer import BytePairTokenizer
from .character_tokenizer import CharacterTokenizer
from .loading import load_tokenizer
from .sentencepiece_tokenizer import SentencePieceTokenizer
from .text_generation import TextGeneration
from .text_to_text import TextToText
from .tokenizer import Tokenizer
from .word_tokenizer import WordTokenizer
from .wordpiece_tokenizer import EncodedPair, WordPieceTokenizer

__all__ = [
    "BytePairTokenizer",
    "CharacterTokenizer",
    "EncodedPair",
    "SentencePieceTokenizer",
    "TextGeneration",
    "TextToText",
    "Tokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "load_tokenizer",
]
