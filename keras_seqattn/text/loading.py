"""Reads back what `Tokenizer.save` wrote."""

import json
from pathlib import Path

from .byte_pair_tokenizer import BytePairTokenizer
from .character_tokenizer import CharacterTokenizer
from .sentencepiece_tokenizer import SentencePieceTokenizer
from .tokenizer import FILE_FORMAT
from .word_tokenizer import WordTokenizer
from .wordpiece_tokenizer import WordPieceTokenizer

KINDS = {
    kind.__name__: kind
    for kind in (BytePairTokenizer, CharacterTokenizer, SentencePieceTokenizer, WordPieceTokenizer, WordTokenizer)
}


def load_tokenizer(path):
    """The tokenizer that was saved at `path`, of whichever kind it is.

    Raises: ValueError that names the path when the file is no tokenizer file, or a damaged one.
    Example:
        >>> WordTokenizer(["to", " be"]).save("/tmp/words.json")
        >>> load_tokenizer("/tmp/words.json").words
        ['to', ' be']
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except ValueError as error:  # not JSON, or not even UTF-8
        raise ValueError(
            f"A tokenizer file is JSON, as `Tokenizer.save` writes it. Received: {path}: {error}."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FILE_FORMAT:
        raise ValueError(
            f'A tokenizer file holds an object with "format": "{FILE_FORMAT}", as `Tokenizer.save` writes it. '
            f"Received: {path}, which does not."
        )
    kind = KINDS.get(content.get("class_name"))
    if kind is None:
        raise ValueError(
            f"The tokenizers are {', '.join(KINDS)}. Received: {path} with class_name {content.get('class_name')!r}."
        )
    try:
        return kind.from_config(content["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The config in a tokenizer file must be one of {kind.__name__}. Received: {path}: {error}"
        ) from error
