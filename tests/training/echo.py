"""A model without weights that writes what it reads, so that the right answer and alignment are known."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_seqattn.decoding import Greedy
from keras_seqattn.text import CharacterTokenizer, TextToText


class Echo:
    """Has `generate` as `Seq2Seq` has: step t writes source token t and attends to it alone."""

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size

    def generate(self, source: Any, max_length: int, start_id: int, end_id: int, decoder: Any = None) -> Any:
        def step(ids: Any, state: list[Any], time: Any) -> tuple[Any, list[Any], Any]:
            source, position = state
            here = ops.one_hot(position, ops.shape(source)[1], dtype="int32")  # (B, S), zeros behind the end
            token = ops.sum(here * source, axis=1)  # (B,)
            token = ops.where(ops.equal(token, 0), end_id, token)
            logits = 50.0 * ops.one_hot(token, self.vocabulary_size)  # (B, V)
            return logits, [source, position + 1], ops.cast(here, "float32")

        start_ids = ops.full_like(source[:, 0], start_id)
        state = [source, ops.zeros_like(start_ids)]
        return (decoder or Greedy())(step, state, start_ids, max_length, end_id)


def echoing(characters: str = "abcde ", max_source_length: int = 9, max_target_length: int = 7) -> TextToText:
    """`TextToText` that answers a text with itself, cut to either length."""
    tokenizer = CharacterTokenizer(characters)
    return TextToText(Echo(tokenizer.vocabulary_size), tokenizer, tokenizer, max_source_length, max_target_length)
