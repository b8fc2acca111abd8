"""GPT-2's tokens: words as bytes, and the most frequent pairs of these merged, again and again."""

import json
from functools import cached_property

import numpy as np

from .tokenizer import REPLACEMENT, Tokenizer, around, import_tokenizers, look_up, normalized_batches
from .unicode_classes import LETTERS, NUMBERS, SPACES, boundaries

NUM_BYTES = 256
SPACE = 1  # the class of white space among the classes of `split_words`
CONTRACTIONS = ("s", "t", "re", "ve", "m", "ll", "d")  # after an apostrophe, a word of their own
NEVER = np.iinfo(np.int32).max  # the rank of a pair that is not merged


def byte_characters():
    """How each byte is written in a vocabulary: as itself where it prints in Latin-1, the others from U+0100 on."""
    printed = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    return [chr(byte if byte in printed else next(others)) for byte in range(NUM_BYTES)]


BYTE_CHARACTERS = byte_characters()
BYTES = {char: byte for byte, char in enumerate(BYTE_CHARACTERS)}


class BytePairTokenizer(Tokenizer):
    """GPT-2's tokens, the same ids as Hugging Face's `GPT2Tokenizer` gives; any bytes come back as they were.

    A text is cut into words, each with the one space before it if there is one: runs of letters, of numbers, of other
    characters, and what white space is left; `'s 't 're 've 'm 'll 'd` are words too. A word begins as its bytes. Of
    all pairs of neighbours in it the one that stands first in `merges` becomes one token, wherever it occurs, until
    no pair of neighbours stands there.

    A text need not be UTF-8: broken bytes are symbols that belong to no letter.

    Args:
        vocabulary: list of str, each once, bytes written as GPT-2 does ("Ġ" for a space); the place of a token is its
            id. All 256 bytes must be in it.
        merges: list of pairs of str, first to be merged first; what they make must be in the vocabulary.
        start_token, end_token, unknown_token: str, in the vocabulary.
        pad_token: str, in the vocabulary; GPT-2 has None.
        special_tokens: further special tokens, in the vocabulary.
        keep_special_tokens: bool, whether a special token that stands in a text is taken for one; otherwise it is cut
            like any text, as is safer where texts come from strangers.
        add_prefix_space: bool, whether a text gets a space in front when it has none, so that its first word is
            read as any other; so does what follows a special token that is kept.
        normalization: names among "NFC", "NFKC", "lower", applied in this order before all this; broken bytes become
            U+FFFD then.
    Raises: ValueError when a token stands twice in the vocabulary, or a special token, a byte or a merge not at all.
    References: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", sec. 2.2; Sennrich, Haddow,
        Birch 2016, arXiv 1508.07909.
    Example:
        >>> vocabulary = [*byte_characters(), "th", "the", "Ġthe", "<|endoftext|>"]
        >>> tokenizer = BytePairTokenizer(vocabulary, [("t", "h"), ("th", "e"), ("Ġ", "the")])
        >>> tokenizer.tokens(tokenizer.tokenize(["the the\\n"])).to_list()
        [[b'the', b'\\xe2\\x96\\x81the', b'\\\\n']]
    """

    learn_options = ("keep_special_tokens", "add_prefix_space")

    def __init__(
        self,
        vocabulary,
        merges,
        start_token="<|endoftext|>",
        end_token="<|endoftext|>",
        unknown_token="<|endoftext|>",
        pad_token=None,
        special_tokens=(),
        keep_special_tokens=False,
        add_prefix_space=False,
        normalization=(),
    ):
        super().__init__(normalization)
        self.vocabulary = list(vocabulary)
        self.merges = [tuple(pair) for pair in merges]
        self.keep_special_tokens = keep_special_tokens
        self.add_prefix_space = add_prefix_space
        self._set_special_tokens(
            {"pad": pad_token, "start": start_token, "end": end_token, "unknown": unknown_token}, special_tokens
        )
        ids = {token: i for i, token in enumerate(self.vocabulary)}
        missing = [f"{byte:#04x}" for byte, char in enumerate(BYTE_CHARACTERS) if char not in ids]
        if missing:
            raise ValueError(
                f"`vocabulary` must hold all {NUM_BYTES} bytes, so that any text can be spelled. Received one without "
                f"{', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}."
            )
        for pair in self.merges:
            absent = [token for token in (*pair, "".join(pair)) if token not in ids]
            if len(pair) != 2 or absent:
                raise ValueError(
                    "`merges` must hold pairs of tokens that are in the vocabulary, as must be what they make. "
                    f"Received: {pair}, where the vocabulary lacks {absent}."
                )
        self._byte_ids = np.array([ids[char] for char in BYTE_CHARACTERS], "int32")
        size = len(self.vocabulary)
        # Of a pair that stands there twice, the last place counts.
        ranks = {ids[left] * size + ids[right]: rank for rank, (left, right) in enumerate(self.merges)}
        self._pairs = np.array(sorted(ranks) or [-1], "int64")  # never empty: there is something to search in
        self._ranks = np.array([ranks.get(pair, NEVER) for pair in self._pairs.tolist()], "int32")
        made = [ids["".join(pair)] for pair in self.merges] or [0]
        self._made = np.array([made[min(rank, len(made) - 1)] for rank in self._ranks.tolist()], "int32")

    def get_config(self):
        return {
            "vocabulary": self.vocabulary,
            "merges": [list(pair) for pair in self.merges],
            "start_token": self.start_token,
            "end_token": self.end_token,
            "unknown_token": self.unknown_token,
            "pad_token": self.pad_token,
            "special_tokens": list(self.special_tokens),
            "keep_special_tokens": self.keep_special_tokens,
            "add_prefix_space": self.add_prefix_space,
            **super().get_config(),
        }

    @classmethod
    def _learn(cls, texts, vocabulary_size, normalization, keep_special_tokens=False, add_prefix_space=False):
        tokenizers = import_tokenizers()
        vocabulary_size = 8000 if vocabulary_size is None else vocabulary_size
        special = dict(zip(("pad", "start", "end", "unknown"), Tokenizer.special_tokens, strict=True))
        if vocabulary_size < NUM_BYTES + len(special):
            raise ValueError(
                f"`vocabulary_size` must have room for {len(special)} special tokens and {NUM_BYTES} bytes. "
                f"Received: {vocabulary_size=}."
            )
        model = tokenizers.Tokenizer(tokenizers.models.BPE())
        model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=list(special.values()),
            initial_alphabet=BYTE_CHARACTERS,
            show_progress=False,
        )
        batches = normalized_batches(texts, normalization)
        model.train_from_iterator((text.decode("utf-8") for batch in batches for text in batch.numpy()), trainer)
        learned = json.loads(model.to_str())["model"]
        return cls(
            sorted(learned["vocab"], key=learned["vocab"].get),
            learned["merges"],
            **{f"{role}_token": token for role, token in special.items()},
            keep_special_tokens=keep_special_tokens,
            add_prefix_space=add_prefix_space,
            normalization=normalization,
        )

    def normalize(self, texts):
        return super().normalize(texts) if self.normalization else texts

    def _every_token(self):
        return self._spelled

    def _tokenize(self, texts):
        if not self.keep_special_tokens:
            return self._cut(texts)
        return around(texts, self.special_tokens, self.special_ids, self._cut)

    def _cut(self, texts):
        """(P,) strings -> RaggedTensor (P, None) int32, special tokens cut as any text."""
        import tensorflow as tf

        if self.add_prefix_space:
            texts = tf.strings.regex_replace(texts, "^([^ ])", r" \1", replace_global=False)
        content, word, row = split_words(texts)
        symbols = tf.gather(tf.constant(self._byte_ids), content)
        symbols = merge(symbols, word, self._pairs, self._ranks, self._made, len(self.vocabulary))
        stays = symbols >= 0
        ids, row = tf.boolean_mask(symbols, stays), tf.boolean_mask(row, stays)
        return tf.RaggedTensor.from_value_rowids(ids, row, nrows=tf.size(texts, tf.int64))

    def _detokenize(self, ids):
        import tensorflow as tf

        contents = [REPLACEMENT.encode() if i == self.unknown_id else one for i, one in enumerate(self._contents)]
        return tf.strings.reduce_join(tf.gather(tf.constant(contents), ids), axis=-1)

    def _every_token(self):
        special = set(self.special_ids)
        return [
            self.vocabulary[i] if i in special else content.decode("utf-8", "backslashreplace")
            for i, content in enumerate(self._contents)
        ]

    @property
    def vocabulary_size(self):
        return len(self.vocabulary)

    @cached_property
    def _contents(self):
        """The bytes of each token."""
        return [
            token.encode("utf-8") if set(token) - set(BYTES) else bytes(BYTES[char] for char in token)
            for token in self.vocabulary
        ]


def split_words(texts):
    """GPT-2's words: `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+`.

    Where one ends depends on no more than the characters around, so all ends are found at once. (The regular
    expressions of TensorFlow cannot look ahead, and stop at broken UTF-8.)

    Args:
        texts: (P,) strings of any bytes.
    Returns: of all texts' bytes, one after the other, N together: the bytes (N,) int32, the number of the word (N,)
        int32, ascending from 0, and the number of the text (N,) int64.
    """
    import tensorflow as tf

    points, classes = (tf.constant(one) for one in boundaries(SPACES, LETTERS, NUMBERS))
    content = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8), tf.int32)  # (N,)
    lengths = tf.strings.length(texts)  # (P,)
    # A run of broken bytes counts as one U+FFFD.
    chars, offsets = tf.strings.unicode_decode_with_offsets(texts, "UTF-8", errors="replace")  # (P, None)
    place = tf.cast(offsets + tf.cast(tf.cumsum(lengths, exclusive=True), tf.int64)[:, None], tf.int32).flat_values
    text, char = chars.value_rowids(), chars.flat_values  # (C,), one for each character, as all that follows
    kind = tf.gather(classes, tf.searchsorted(points, char, side="right") - 1)

    def later(values, steps, fill):
        """Of each character's successor in its text, or `fill` where there is none."""
        padded = tf.concat([values, tf.fill([steps], tf.cast(fill, values.dtype))], axis=0)[steps:]
        same_text = tf.concat([text, tf.fill([steps], tf.constant(-1, text.dtype))], axis=0)[steps:] == text
        return tf.where(same_text, padded, tf.cast(fill, values.dtype))

    def earlier(values, steps, fill):
        padded = tf.concat([tf.fill([steps], tf.cast(fill, values.dtype)), values], axis=0)[: tf.size(values)]
        same_text = tf.concat([tf.fill([steps], tf.constant(-1, text.dtype)), text], axis=0)[: tf.size(text)] == text
        return tf.where(same_text, padded, tf.cast(fill, values.dtype))

    is_blank = char == ord(" ")
    next_kind = later(kind, 1, SPACE)
    is_last_space = (kind == SPACE) & (next_kind != SPACE)  # of several; it is cut off, or joins what follows
    follows_blank = (kind != SPACE) & earlier(is_blank, 1, False)
    starts = ((kind != earlier(kind, 1, -1)) | is_last_space) & ~follows_blank
    is_mark = starts & (char == ord("'"))
    for contraction in CONTRACTIONS:
        size = len(contraction)
        found = is_mark
        for step, letter in enumerate(contraction, start=1):
            found &= later(char, step, 0) == ord(letter)
        starts &= ~earlier(found, 1, False)
        starts |= earlier(found, size + 1, False)
    is_start = tf.scatter_nd(
        tf.boolean_mask(place, starts)[:, None], tf.ones_like(tf.boolean_mask(place, starts)), tf.shape(content)
    )
    row = tf.repeat(tf.range(tf.size(texts, tf.int64)), lengths)
    return content, tf.cumsum(is_start) - 1, row


def merge(symbols, word, pairs, ranks, made, size):
    """Merges neighbours in words, the pair of the lowest rank first, in all words at once.

    Args:
        symbols: (N,) int32 ids.
        word: (N,) int32, ascending: of each symbol, the word that it is in.
        pairs: (R,) int64, ascending: left * `size` + right of the pairs that are merged.
        ranks, made: (R,) int32, their ranks and the ids that they make.
        size: int, above all ids.
    Returns: (N,) int32, the ids that are left, each at the place of its first symbol; -1 elsewhere.
    """
    import tensorflow as tf

    pairs, ranks, made = (tf.constant(one) for one in (pairs, ranks, made))

    def step(place, symbol, word, result):  # (A,): what is left of the words that still change
        same_word = word[1:] == word[:-1]
        at, is_there = look_up(pairs, tf.cast(symbol[:-1], tf.int64) * size + tf.cast(symbol[1:], tf.int64))
        rank = tf.concat([tf.where(same_word & is_there, tf.gather(ranks, at), NEVER), [NEVER]], axis=0)
        new_symbol = tf.concat([tf.gather(made, at), [-1]], axis=0)
        number = tf.cumsum(tf.concat([[0], tf.cast(~same_word, tf.int32)], axis=0))
        best = tf.gather(tf.math.segment_min(rank, number), number)
        changes = best < NEVER
        is_best = changes & (rank == best)
        # In aaaa, every other pair: counted from where their row begins.
        others = tf.concat([[-1], tf.cast(tf.where(~is_best)[:, 0], tf.int32)], axis=0)
        before = tf.gather(others, tf.cumsum(tf.cast(~is_best, tf.int32)))
        merges = is_best & ((tf.range(tf.size(rank)) - before) % 2 == 1)
        goes = tf.concat([[False], merges[:-1]], axis=0)
        symbol = tf.where(merges, new_symbol, tf.where(goes, -1, symbol))
        changed = tf.where(merges | goes)
        result = tf.tensor_scatter_nd_update(result, tf.gather(place, changed), tf.gather_nd(symbol, changed))
        stays = tf.where(changes & ~goes)[:, 0]
        return tf.gather(place, stays), tf.gather(symbol, stays), tf.gather(word, stays), result

    start = (tf.range(tf.size(symbols)), symbols, word, symbols)
    shapes = (*[tf.TensorShape([None])] * 3, symbols.shape)
    return tf.while_loop(lambda place, *_: tf.size(place) > 0, step, start, shape_invariants=shapes)[-1]
