"""One token a Unicode code point: no text is too foreign, and every sequence is long."""

from collections import Counter

from .tokenizer import REPLACEMENT, Tokenizer, look_up, most_frequent, normalized_batches


class CharacterTokenizer(Tokenizer):
    """One id a Unicode code point.

    Args:
        characters: str, the known characters, each once; the first has id 4.
        normalization: names among "NFC", "NFKC", "lower", applied in this order before tokenizing.
    Raises: ValueError when a character stands twice, is a lone surrogate, or when there is none.
    Example:
        >>> tokenizer = CharacterTokenizer.learn(["abba", "añb"])
        >>> tokenizer.tokenize(["ñ?b"]).to_list()
        [[6, 3, 5]]
        >>> tokenizer.detokenize([[4, 5, 2, 4]]).numpy()
        array([b'ab'], dtype=object)
    """

    def __init__(self, characters, normalization=()):
        super().__init__(normalization)
        characters = "".join(characters)
        if not characters:
            raise ValueError("`characters` must hold at least one character. Received none.")
        wrong = sorted(char for char, times in Counter(characters).items() if times > 1 or "\ud800" <= char <= "\udfff")
        if wrong:
            raise ValueError(f"`characters` must hold each character once, and no lone surrogate. Received: {wrong}.")
        self.characters = characters

    def get_config(self):
        return {"characters": self.characters, **super().get_config()}

    @classmethod
    def _learn(cls, texts, vocabulary_size, normalization):
        counts = Counter()
        for batch in normalized_batches(texts, normalization):
            for text in batch.numpy():
                counts.update(text.decode("utf-8"))
        return cls("".join(most_frequent(counts, vocabulary_size)), normalization)

    def _ordinary_tokens(self):
        return self.characters

    def _tokenize(self, texts):
        import tensorflow as tf

        order = sorted(range(len(self.characters)), key=self.characters.__getitem__)
        code_points = tf.constant([ord(self.characters[i]) for i in order])
        ids = tf.constant([len(self.special_tokens) + i for i in order])
        characters = tf.strings.unicode_decode(texts, "UTF-8")  # (B, None)
        position, is_known = look_up(code_points, characters.flat_values)
        return characters.with_flat_values(tf.where(is_known, tf.gather(ids, position), self.unknown_id))

    def _detokenize(self, ids):
        import tensorflow as tf

        # Pad, start and end are gone by now; the places of all four special ids hold the unknown's character.
        code_points = tf.constant([ord(REPLACEMENT)] * len(self.special_tokens) + [ord(c) for c in self.characters])
        return tf.strings.unicode_encode(tf.gather(code_points, ids), "UTF-8")
