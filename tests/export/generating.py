"""Language models of random weights, and texts that they must put up with."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_seqattn.models import GPT
from keras_seqattn.text import BytePairTokenizer, CharacterTokenizer, TextGeneration
from keras_seqattn.text.byte_pair_tokenizer import byte_characters

CHARACTERS = CharacterTokenizer("abcdé €\n")
# Single bytes and few merges: most characters beyond ASCII take several tokens.
BYTES = BytePairTokenizer([*byte_characters(), "th", "the", "<|endoftext|>"], [("t", "h"), ("th", "e")])
PROMPTS = [b"", b"abc", "é€ a".encode(), b"abcd abcd abcd", b"\xff", b"a"]
P, T = 5, 8


def untrained(seed: int, *shape: Any, kind: Any = GPT, **settings: Any) -> Any:
    """A model whose weights are large, so that what it writes differs from row to row."""
    model, rng = kind(*shape, **settings), np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    return model


def generation(
    tokenizer: Any = CHARACTERS, decoder: Any = None, lengths: Any = (P, T), empty_prompt: Any = "\n", **settings: Any
) -> TextGeneration:
    """`TextGeneration` by a small model."""
    sizes = {"model_dim": 12, "num_layers": 1, "num_heads": 2, "tie_output": False, **settings}
    model = untrained(0, tokenizer.vocabulary_size, P + T - 1, **sizes)
    return TextGeneration(model, tokenizer, *lengths, decoder, empty_prompt)


def arrays(found: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in found.items()}
