"""BERT's tokens: words in pieces, the longest known ones from the left; and the pairs of texts that BERT reads."""

from collections import Counter
from functools import cached_property
from typing import Any, NamedTuple

from .tokenizer import (
    REPLACEMENT,
    Tokenizer,
    around,
    import_tensorflow_text,
    import_tokenizers,
    lower,
    normalized_batches,
)
from .unicode_classes import CHINESE, CONTROLS, MARKS, PUNCTUATION, SPACES, pattern

SUFFIX = "##"  # begins each piece of a word but the first
MAX_PIECE_BYTES = 256  # of tensorflow-text; longer ones stand in no vocabulary that we know of
CUT = b"\xff"  # never a byte of UTF-8, so it cannot be in the text it cuts


class EncodedPair(NamedTuple):
    """Texts or pairs of texts as BERT reads them.

    Attributes:
        ids: (B, T) int32, padded.
        segment_ids: (B, T) int32, 0 for the first text with its [CLS] and [SEP], 1 for the second with its [SEP].
        mask: (B, T) bool, False where there is padding.
    """

    ids: Any
    segment_ids: Any
    mask: Any


class WordPieceTokenizer(Tokenizer):
    """BERT's tokens, the same ids as Hugging Face's `BertTokenizer` gives.

    A text loses its control characters and, when asked, its accents and capitals. Words end at white space; a
    punctuation mark or a Chinese character is a word of its own. A word is cut into the longest pieces that the
    vocabulary has, from the left; all but the first begin with ##. One that cannot be cut so, or of more than
    `max_word_length` characters, is unknown as a whole.

    White space and, with `lowercase`, capitals are lost: `detokenize` gives the words with single spaces between.

    Args:
        vocabulary: list of str, each once; the place of a token is its id.
        lowercase: bool.
        strip_accents: bool; None does as `lowercase` says.
        tokenize_chinese_chars: bool, whether each Chinese character is a word of its own.
        clean_text: bool, whether control characters and U+FFFD are dropped.
        max_word_length: int, characters of a word.
        start_token, end_token, pad_token, unknown_token, mask_token: str, in the vocabulary; `mask_token` may be None.
        special_tokens: further special tokens, in the vocabulary.
        keep_special_tokens: bool, whether a special token that stands in a text is taken for one; otherwise it is cut
            like any text, as is safer where texts come from strangers.
        normalization: names among "NFC", "NFKC", "lower", applied in this order before all this.
    Raises: ValueError when a token stands twice in the vocabulary, or a special one not at all.
    References: Wu et al. 2016, arXiv 1609.08144; Devlin et al. 2019, arXiv 1810.04805.
    Example:
        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##seen", "!"])
        >>> tokenizer.tokenize(["Ünseen! [MASK] seen"]).to_list()
        [[5, 6, 7, 4, 1]]
        >>> tokenizer.encode(["unseen"], ["un"]).ids.numpy()
        array([[2, 5, 6, 3, 5, 3]], dtype=int32)
    """

    special_tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    learn_options = (
        "lowercase",
        "strip_accents",
        "tokenize_chinese_chars",
        "clean_text",
        "max_word_length",
        "keep_special_tokens",
    )

    def __init__(
        self,
        vocabulary,
        lowercase=True,
        strip_accents=None,
        tokenize_chinese_chars=True,
        clean_text=True,
        max_word_length=100,
        start_token="[CLS]",
        end_token="[SEP]",
        pad_token="[PAD]",
        unknown_token="[UNK]",
        mask_token="[MASK]",
        special_tokens=(),
        keep_special_tokens=True,
        normalization=(),
    ):
        super().__init__(normalization)
        if max_word_length < 1:
            raise ValueError(f"`max_word_length` is a number of characters of at least 1. Received: {max_word_length}.")
        self.vocabulary = list(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.clean_text = clean_text
        self.max_word_length = max_word_length
        self.keep_special_tokens = keep_special_tokens
        self._set_special_tokens(
            {"pad": pad_token, "unknown": unknown_token, "start": start_token, "end": end_token, "mask": mask_token},
            special_tokens,
        )

    def get_config(self):
        return {
            "vocabulary": self.vocabulary,
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "clean_text": self.clean_text,
            "max_word_length": self.max_word_length,
            "start_token": self.start_token,
            "end_token": self.end_token,
            "pad_token": self.pad_token,
            "unknown_token": self.unknown_token,
            "mask_token": self.mask_token,
            "special_tokens": list(self.special_tokens),
            "keep_special_tokens": self.keep_special_tokens,
            **super().get_config(),
        }

    @classmethod
    def _learn(cls, texts, vocabulary_size, normalization, **options):
        tokenizers = import_tokenizers()
        vocabulary_size = 8000 if vocabulary_size is None else vocabulary_size
        # Any vocabulary cuts a text into the same words.
        words = cls(cls.special_tokens, normalization=normalization, **options)
        counts = Counter()
        for batch in normalized_batches(texts, normalization):
            counts.update(word.decode("utf-8") for word in words._words(batch).flat_values.numpy())
        # The library gives the pieces of one character their ids in an order that differs from run to run, and with
        # them decides between pairs that are equally frequent. Given by us, they have theirs beforehand.
        inside = sorted({SUFFIX + char for word in counts for char in word[1:]})
        model = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
        model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        trainer = tokenizers.trainers.WordPieceTrainer(
            vocab_size=vocabulary_size, special_tokens=[*cls.special_tokens, *inside], show_progress=False
        )
        model.train_from_iterator((" ".join([word] * times) for word, times in counts.items()), trainer)
        vocabulary = model.get_vocab()
        if len(vocabulary) > vocabulary_size:
            raise ValueError(
                f"`vocabulary_size` must have room for {len(cls.special_tokens)} special tokens and each character "
                f"of the texts, at the start and inside of words. Received: {vocabulary_size=}, where "
                f"{len(vocabulary)} are needed."
            )
        return cls(sorted(vocabulary, key=vocabulary.get), normalization=normalization, **options)

    def encode(self, texts, second_texts=None, max_length=None, pad_to_max_length=False):
        """Texts, or pairs of texts, as BERT reads them: [CLS] text [SEP], or [CLS] text [SEP] second text [SEP].

        What is longer than `max_length` is cut at its end. Of a pair the longer text is cut first, and both to the
        same length (the longer one a token longer where the number is odd) when that is not enough.

        Args:
            texts: (B,) strings.
            second_texts: (B,) strings.
            max_length: int, of tokens with [CLS] and [SEP]; None cuts nothing.
            pad_to_max_length: bool, whether T is `max_length` for any batch, as XLA likes it; otherwise it is the
                length of the longest row.
        Returns: `EncodedPair`.
        Raises: ValueError when `max_length` leaves no room for a token, or is None though it shall be padded to.
        """
        import tensorflow as tf

        num_special = 2 if second_texts is None else 3
        if max_length is not None and max_length <= num_special:
            raise ValueError(
                f"`max_length` counts the {num_special} special tokens too, so it must be at least {num_special + 1}. "
                f"Received: {max_length=}."
            )
        if pad_to_max_length and max_length is None:
            raise ValueError(f"`pad_to_max_length` needs a `max_length`. Received: {max_length=}.")
        parts = [self.tokenize(texts)] if second_texts is None else [self.tokenize(texts), self.tokenize(second_texts)]
        if max_length is not None:
            parts = longest_cut_first(parts, max_length - num_special)
        batch = parts[0].nrows()
        start, end = (tf.RaggedTensor.from_tensor(tf.fill([batch, 1], one)) for one in (self.start_id, self.end_id))
        ids = tf.concat([start, *(piece for part in parts for piece in (part, end))], axis=1)
        in_first = parts[0].row_lengths() + 2  # (B,)
        lengths = ids.row_lengths()
        width = max_length if pad_to_max_length else tf.reduce_max(tf.concat([[0], lengths], axis=0))
        ids = ids.to_tensor(self.pad_id, shape=(None, max_length if pad_to_max_length else None))  # (B, T)
        mask = tf.sequence_mask(lengths, width)
        return EncodedPair(ids, tf.cast(mask & ~tf.sequence_mask(in_first, width), tf.int32), mask)

    def _every_token(self):
        return self.vocabulary

    def _tokenize(self, texts):
        if not self.keep_special_tokens:
            return self._cut(texts)
        return around(texts, self.special_tokens, self.special_ids, self._cut)

    def _cut(self, texts):
        """(P,) strings -> RaggedTensor (P, None) int32, special tokens cut as any text."""
        import tensorflow as tf

        words = self._words(texts)  # (P, None)
        # What is too long comes as a word that no vocabulary has.
        too_long = tf.strings.length(words.flat_values, unit="UTF8_CHAR") > self.max_word_length
        pieces = self._pieces.tokenize(tf.where(too_long, " ", words.flat_values))
        return words.with_flat_values(pieces).merge_dims(1, 2)

    def _words(self, texts):
        """(P,) valid UTF-8 -> RaggedTensor (P, None) of strings."""
        import tensorflow as tf

        if self.clean_text:
            texts = tf.strings.regex_replace(texts, pattern(CONTROLS) + "+", "")
        if self.tokenize_chinese_chars:
            texts = tf.strings.regex_replace(texts, f"({pattern(CHINESE)})", r" \1 ")
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            texts = import_tensorflow_text().normalize_utf8(texts, "NFD")
            texts = tf.strings.regex_replace(texts, pattern(MARKS) + "+", "")
        if self.lowercase:
            texts = lower(tf.strings.regex_replace(texts, "Σ", "σ"))  # else it becomes ς at the end of a word
        texts = tf.strings.regex_replace(texts, f"({pattern(PUNCTUATION)})|{pattern(SPACES)}+", CUT + rb"\1" + CUT)
        words = tf.strings.split(texts, CUT)
        return tf.ragged.boolean_mask(words, words != "")

    def _detokenize(self, ids):
        import tensorflow as tf

        pieces = [REPLACEMENT if i == self.unknown_id else piece for i, piece in enumerate(self.vocabulary)]
        pieces = [piece.removeprefix(SUFFIX) if is_inside(piece) else f" {piece}" for piece in pieces]
        texts = tf.strings.reduce_join(tf.gather(tf.constant(pieces), ids), axis=-1)
        return tf.strings.regex_replace(texts, "^ ", "")

    @cached_property
    def _pieces(self):
        import tensorflow as tf

        # A piece that tensorflow-text refuses keeps its id by a name that no word has.
        vocabulary = [
            piece
            if piece.removeprefix(SUFFIX) and "\0" not in piece and len(piece.encode()) <= MAX_PIECE_BYTES
            else f" {i}"
            for i, piece in enumerate(self.vocabulary)
        ]
        with tf.init_scope():
            return import_tensorflow_text().FastWordpieceTokenizer(
                vocabulary,
                suffix_indicator=SUFFIX,
                max_bytes_per_word=4 * self.max_word_length,
                token_out_type=tf.int32,
                unknown_token=self.vocabulary[self.unknown_id],
                no_pretokenization=True,
                support_detokenization=False,
            )


def is_inside(piece):
    """Whether a piece stands inside a word, or at its end."""
    return piece.startswith(SUFFIX) and piece != SUFFIX


def longest_cut_first(parts, max_length):
    """One or two RaggedTensors (B, None), cut to `max_length` tokens a row together."""
    import tensorflow as tf

    if len(parts) == 1:
        return [parts[0][:, :max_length]]
    first, second = (part.row_lengths() for part in parts)  # (B,)
    shorter = tf.minimum(first, second)
    # The longer one gets what the shorter one leaves, half of all at least.
    rest = tf.maximum(max_length - shorter, max_length - max_length // 2)
    half = tf.cast(max_length // 2, first.dtype)
    first_is_longer = first > second
    keep = (tf.where(first_is_longer, rest, tf.minimum(first, half)), tf.where(first_is_longer, half, rest))
    fits = first + second <= max_length
    return [cut(part, tf.where(fits, part.row_lengths(), kept)) for part, kept in zip(parts, keep, strict=True)]


def cut(ids, lengths):
    """RaggedTensor (B, None) with at most `lengths` (B,) values a row."""
    import tensorflow as tf

    within = tf.ragged.range(ids.row_lengths()).flat_values
    keep = within < tf.gather(lengths, ids.value_rowids())
    return tf.ragged.boolean_mask(ids, ids.with_flat_values(keep))
