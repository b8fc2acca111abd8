"""One token a word, with the space before it, so that the tokens laid end to end are the text again."""

from collections import Counter

from .tokenizer import REPLACEMENT, Tokenizer, look_up, most_frequent, normalized_batches

WORD = r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*"  # letters, marks and digits; an apostrophe inside: don't
MARK = r"[^\p{L}\p{M}\p{N}\s]"  # punctuation, symbols, emoji, control characters
TOKEN = rf"( ?{WORD}| ?{MARK}|\s)"  # every character is in one, so nothing is lost between them
CUT = b"\xff"  # never a byte of UTF-8, so it cannot be in the text it cuts


class WordTokenizer(Tokenizer):
    """One id a word or a punctuation mark, each with the one space before it if there is one.

    "No,  it isn't." is read as `No` `,` ` ` ` it` ` isn't` `.`; joined without anything between, they are the text.
    A script written without spaces comes out in long runs: take characters or SentencePiece for it.

    Args:
        words: the known words as list of str, each once; the first has id 4.
        normalization: names among "NFC", "NFKC", "lower", applied in this order before tokenizing.
    Raises: ValueError when a word stands twice or is empty, or when there is none.
    Example:
        >>> tokenizer = WordTokenizer.learn(["to be or not to be"])
        >>> tokenizer.tokens(tokenizer.tokenize(["not to see"])).to_list()
        [[b'<unk>', b'\\xe2\\x96\\x81to', b'<unk>']]
    """

    def __init__(self, words, normalization=()):
        super().__init__(normalization)
        words = [words] if isinstance(words, str) else list(words)
        if not words:
            raise ValueError("`words` must hold at least one word. Received none.")
        wrong = sorted(word for word, times in Counter(words).items() if times > 1 or not word)
        if wrong:
            raise ValueError(f"`words` must hold each word once, and no empty one. Received: {wrong[:5]}.")
        self.words = words

    def get_config(self):
        return {"words": self.words, **super().get_config()}

    @classmethod
    def _learn(cls, texts, vocabulary_size, normalization):
        counts = Counter()
        for batch in normalized_batches(texts, normalization):
            counts.update(split_words(batch).flat_values.numpy())
        counts = {word.decode("utf-8"): times for word, times in counts.items()}
        return cls(most_frequent(counts, vocabulary_size), normalization)

    def _ordinary_tokens(self):
        return self.words

    def _tokenize(self, texts):
        import tensorflow as tf

        vocabulary = tf.constant(self.words)
        fingerprints = fingerprint(vocabulary)
        order = tf.argsort(fingerprints)
        words = split_words(texts)  # (B, None)
        position, is_there = look_up(tf.gather(fingerprints, order), fingerprint(words.flat_values))
        position = tf.gather(order, position)
        # Two words may share a fingerprint, so the words themselves decide.
        is_known = is_there & tf.equal(tf.gather(vocabulary, position), words.flat_values)
        return words.with_flat_values(tf.where(is_known, position + len(self.special_tokens), self.unknown_id))

    def _detokenize(self, ids):
        import tensorflow as tf

        words = tf.constant([REPLACEMENT] * len(self.special_tokens) + self.words)
        return tf.strings.reduce_join(tf.gather(words, ids), axis=-1)


def split_words(texts):
    """(B,) valid UTF-8 -> RaggedTensor (B, None) of strings that give the text back when joined.

    Not by tensorflow_text.regex_split, which drops a text from its first NUL character on (2.21.1).
    """
    import tensorflow as tf

    pieces = tf.strings.split(tf.strings.regex_replace(texts, TOKEN, rb"\1" + CUT), CUT)
    return tf.ragged.boolean_mask(pieces, pieces != "")  # after the last cut stands an empty piece


def fingerprint(words):
    """(N,) strings -> (N,) int64 that is the same on every machine and in every process."""
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(words, 2**63 - 1)
