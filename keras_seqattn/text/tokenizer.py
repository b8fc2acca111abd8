"""What all tokenizers share: the special ids, normalization, the way back to text, and the file they are saved in."""

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

NORMALIZATIONS = ("NFC", "NFKC", "lower")
REPLACEMENT = "\ufffd"  # stands for bytes that are no UTF-8, and for the unknown token in a text
FILE_FORMAT = "keras_seqattn.tokenizer"


def import_tensorflow_text():
    """The module `tensorflow_text`, or an ImportError that says what to install."""
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError(
            "Unicode normalization and SentencePiece run in the graph by tensorflow-text, of the same release as "
            "tensorflow. Install it with: pip install 'tensorflow-text>=2.21,<2.22'."
        ) from error
    return tensorflow_text


def readable(token):
    """`token` as it is drawn on an axis: a space as ▁, what cannot be seen as its escape (`\\n`, `\\u200d`)."""
    return "".join(
        "▁" if char == " " else char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in token
    )


def import_tokenizers():
    """The module `tokenizers`, or an ImportError that says what to install."""
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "This vocabulary is learned with Hugging Face's tokenizers library. "
            "Install it with: pip install 'keras_seqattn[text]'."
        ) from error
    return tokenizers


def lower(texts):
    """(B,) valid UTF-8 in small letters; tf.strings.lower alone drops a text from its first NUL character on (2.21)."""
    import tensorflow as tf

    parts = tf.strings.split(texts, "\0")  # (B, None), one part at least
    small = tf.strings.join([tf.strings.lower(parts.flat_values, encoding="utf-8"), "\0"])
    joined = tf.strings.reduce_join(parts.with_flat_values(small), axis=-1)
    return tf.strings.substr(joined, tf.zeros_like(texts, tf.int32), tf.strings.length(joined) - 1)


def look_up(keys, values):
    """Where each value stands in sorted keys, without a table: nothing to initialize, nothing for an export to hold.

    Args:
        keys: (C,) integers, ascending, at least one.
        values: (N,) of the same dtype.
    Returns: the positions (N,) int32, and (N,) bool: whether the value is really there.
    """
    import tensorflow as tf

    position = tf.minimum(tf.searchsorted(keys, values), keys.shape[0] - 1)
    return position, tf.equal(tf.gather(keys, position), values)


def around(texts, tokens, ids, tokenize):
    """The ids of texts in which some tokens are kept whole, wherever they stand.

    Args:
        texts: (B,) strings.
        tokens: list of str that are cut out of the texts; where one begins with another, the longer counts.
        ids: list of int, those of these tokens.
        tokenize: from (P,) strings, the pieces of texts between these tokens, to a RaggedTensor (P, None) int32.
    Returns: RaggedTensor (B, None) int32.
    """
    import tensorflow as tf

    if not tokens:
        return tokenize(texts)
    pieces, row = texts, tf.range(tf.size(texts, tf.int64))  # of each piece, the text that it is from
    kept = tf.fill(tf.shape(texts), -1)  # the id of a piece that is a token, and -1 for the others
    for token, token_id in sorted(zip(tokens, ids, strict=True), key=lambda pair: -len(pair[0])):
        parts = tf.strings.split(pieces, token)  # (P, None), one part at least
        owner = parts.value_rowids()
        is_first = tf.range(tf.size(owner, tf.int64)) == tf.gather(parts.row_starts(), owner)
        # In front of each part but the first stood the token.
        kept = tf.stack([tf.fill(tf.shape(owner), token_id), tf.gather(kept, owner)], axis=1)
        pieces = tf.stack([tf.zeros_like(parts.flat_values), parts.flat_values], axis=1)
        stays = tf.stack([~is_first, tf.ones_like(is_first)], axis=1)
        row = tf.boolean_mask(tf.stack([tf.gather(row, owner)] * 2, axis=1), stays)
        kept, pieces = tf.boolean_mask(kept, stays), tf.boolean_mask(pieces, stays)
    is_kept = kept >= 0
    kept = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(kept, is_kept), tf.cast(is_kept, tf.int64))
    both = tf.concat([tokenize(pieces), kept], axis=1)  # (P, None); the pieces that are tokens are empty strings
    return tf.RaggedTensor.from_value_rowids(both, row, nrows=tf.size(texts, tf.int64)).merge_dims(1, 2)


class Tokenizer:
    """Text to ids and back, in the graph; the base of all kinds.

    Each has a `start_id`, `end_id` and `unknown_id`, and but for GPT-2's a `pad_id`, None there. Where the vocabulary
    is our own, these are the ids 0 to 3 in the order of `special_tokens`, and ordinary tokens follow from 4. Where it
    is that of a checkpoint, they lie anywhere, and may be one and the same.

    Args:
        normalization: names among "NFC", "NFKC", "lower", applied in this order before tokenizing. Without any,
            `detokenize(tokenize(texts))` is exactly `texts` as long as every token is known.
    Raises: ValueError for an unknown name.
    """

    # A kind whose vocabulary comes from elsewhere sets these for each of its instances.
    pad_id, start_id, end_id, unknown_id = 0, 1, 2, 3
    special_tokens = ("<pad>", "<s>", "</s>", "<unk>")
    special_ids = (0, 1, 2, 3)  # of the special tokens, in the same order
    learn_options = ()  # what a subclass's `learn` takes beyond the common arguments

    def __init__(self, normalization=()):
        normalization = (normalization,) if isinstance(normalization, str) else tuple(normalization)
        unknown = [name for name in normalization if name not in NORMALIZATIONS]
        if unknown:
            raise ValueError(
                f"`normalization` takes names among {', '.join(NORMALIZATIONS)}, applied in order. Received: {unknown}."
            )
        self.normalization = normalization

    @classmethod
    def learn(cls, texts, vocabulary_size=None, normalization=(), **options):
        """A tokenizer whose vocabulary comes from `texts`; the same texts always give the same one.

        Args:
            texts: iterable of str.
            vocabulary_size: int, how many ids at most, the special ones counted; None takes all that occur (8000 where
                tokens are parts of words).
            normalization: as for the constructor; the vocabulary is learned from normalized text.
            **options: what the class names in `learn_options`.
        Raises: ValueError when there is nothing to learn from, or for an option that the class does not have.
        """
        unknown = sorted(set(options) - set(cls.learn_options))
        if unknown:
            known = ", ".join(("vocabulary_size", "normalization", *cls.learn_options))
            raise ValueError(f"`{cls.__name__}.learn` takes the options {known}. Received: {', '.join(unknown)}.")
        if vocabulary_size is not None and (
            not isinstance(vocabulary_size, int) or vocabulary_size <= len(cls.special_tokens)
        ):
            raise ValueError(
                f"`vocabulary_size` counts the {len(cls.special_tokens)} special tokens too, so it must be an int of "
                f"at least {len(cls.special_tokens) + 1}. Received: {vocabulary_size=}."
            )
        if isinstance(texts, str | bytes):
            raise ValueError(f"`texts` must be an iterable of strings, not one string. Received: {texts[:40]!r}.")
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"`texts` must hold str only. Received: {type(text).__name__} {text!r:.40}.")
        if not any(texts):
            raise ValueError(f"`texts` must hold at least one character to learn from. Received: {len(texts)} texts.")
        return cls._learn(texts, vocabulary_size, Tokenizer(normalization).normalization, **options)

    @property
    def vocabulary_size(self):
        """How many ids there are, special ones included."""
        return len(self._every_token())

    @property
    def trackables(self):
        """TensorFlow resources that an exported tf.Module must hold as an attribute."""
        return []

    def normalize(self, texts):
        """`texts` as the tokenizer reads them: valid UTF-8 (broken bytes become U+FFFD), then `normalization`."""
        import tensorflow as tf

        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        for name in self.normalization:
            if name == "lower":
                texts = lower(texts)
            else:
                texts = import_tensorflow_text().normalize_utf8(texts, name)
        return texts

    def tokenize(self, texts):
        """Ids of each text, without start and end.

        Args:
            texts: (B,) string tensor, or a list of strings.
        Returns: RaggedTensor (B, None) int32; `.to_tensor(tokenizer.pad_id)` pads.
        Raises: ValueError when `texts` has another rank.
        """
        import tensorflow as tf

        texts = tf.convert_to_tensor(texts, tf.string)
        if texts.shape.rank not in (1, None):
            raise ValueError(f"`texts` must be a batch of strings of shape (B,). Received: shape {texts.shape}.")
        return self._tokenize(self.normalize(texts))

    def detokenize(self, ids):
        """The texts that `ids` spell: up to the first `end_id`, without `pad_id` and `start_id`.

        An unknown token, or an id outside the vocabulary, reads as U+FFFD.

        Args:
            ids: (..., T) integers, or a RaggedTensor (B, None).
        Returns: (...) string tensor; (B,) for a RaggedTensor.
        """
        import tensorflow as tf

        ids = as_int64(ids)
        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor(self.end_id)  # (B, T)
        batch = tf.shape(ids)[:-1]
        ids = tf.reshape(ids, (tf.reduce_prod(batch), tf.shape(ids)[-1]))  # (B, T)
        ended = tf.cumsum(tf.cast(ids == self.end_id, tf.int32), axis=1) > 0
        is_read = ~ended & (ids != self.start_id)
        if self.pad_id is not None:
            is_read &= ids != self.pad_id
        return tf.reshape(self._detokenize(self._known(tf.ragged.boolean_mask(ids, is_read))), batch)

    def tokens(self, ids):
        """One readable string for each id, for the axes of a picture: `<pad>`, `<s>`, `</s>`, `<unk>`, `▁word`.

        Args:
            ids: integer tensor or RaggedTensor of any shape.
        Returns: strings of the same shape.
        """
        import tensorflow as tf

        # Not cached: a tensor made inside one tf.function must not be met in another.
        special = set(self.special_ids)
        names = [token if i in special else readable(token) for i, token in enumerate(self._every_token())]
        names = tf.constant(names)
        return tf.ragged.map_flat_values(lambda flat: tf.gather(names, flat), self._known(as_int64(ids)))

    def get_config(self):
        return {"normalization": list(self.normalization)}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def save(self, path):
        """Writes the tokenizer as one JSON file, which `load_tokenizer` reads.

        The file is complete or not there at all: it is written beside its place and then renamed.
        """
        path = Path(path)
        content = {"format": FILE_FORMAT, "class_name": type(self).__name__, "config": self.get_config()}
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, ensure_ascii=False, indent=1)
            # mkstemp lets only the owner read; a tokenizer is as public as the model beside it.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    @classmethod
    def _learn(cls, texts, vocabulary_size, normalization, **options):
        raise NotImplementedError

    def _set_special_tokens(self, roles, others):
        """Looks the special tokens up in `self.vocabulary`, and sets all attributes that tell of them.

        Args:
            roles: dict from a role, such as "start", to a token or None; makes `start_token` and `start_id`.
            others: special tokens without a role.
        """
        ids = {token: i for i, token in enumerate(self.vocabulary)}
        if len(ids) < len(self.vocabulary):
            twice = sorted(token for token, times in Counter(self.vocabulary).items() if times > 1)
            raise ValueError(f"`vocabulary` must hold each token once. Received several times: {twice[:5]}.")
        self.special_tokens = tuple(dict.fromkeys(one for one in (*roles.values(), *others) if one is not None))
        missing = [token for token in self.special_tokens if token not in ids]
        if missing:
            raise ValueError(
                f"`vocabulary` must hold the special tokens too. Received: {len(ids)} tokens without "
                f"{', '.join(missing)}."
            )
        self.special_ids = tuple(ids[token] for token in self.special_tokens)
        for role, token in roles.items():
            setattr(self, f"{role}_token", token)
            setattr(self, f"{role}_id", None if token is None else ids[token])

    def _every_token(self):
        """The token of each id, as str."""
        return [*self.special_tokens, *self._ordinary_tokens()]

    def _ordinary_tokens(self):
        """The token of each id from 4 on, as str, where the special ids are 0 to 3."""
        raise NotImplementedError

    def _tokenize(self, texts):
        """(B,) normalized strings -> RaggedTensor (B, None) int32."""
        raise NotImplementedError

    def _detokenize(self, ids):
        """RaggedTensor (B, None) int32 of ordinary and unknown ids -> (B,) strings."""
        raise NotImplementedError

    def _known(self, ids):
        """`ids` (int64, of any shape) as int32, with `unknown_id` for all that the vocabulary lacks."""
        import tensorflow as tf

        def known(ids):
            is_known = (ids >= 0) & (ids < self.vocabulary_size)
            return tf.where(is_known, tf.cast(ids, tf.int32), self.unknown_id)

        return tf.ragged.map_flat_values(known, ids)


def as_int64(ids):
    """Integers of any type, as tensor or RaggedTensor of int64; what does not fit turns negative."""
    import tensorflow as tf

    return tf.cast(ids if isinstance(ids, tf.RaggedTensor) else tf.convert_to_tensor(ids), tf.int64)


def normalized_batches(texts, normalization, batch_size=4096):
    """(N,) string tensors of the normalized texts, in order; the very ops that normalize in the graph later on."""
    tokenizer = Tokenizer(normalization)
    for start in range(0, len(texts), batch_size):
        # A lone surrogate, which only Python strings know, becomes broken UTF-8 and then U+FFFD.
        yield tokenizer.normalize([text.encode("utf-8", "surrogatepass") for text in texts[start : start + batch_size]])


def most_frequent(counts, vocabulary_size):
    """The tokens that fit beside the special ones: most frequent first, ties by code point."""
    tokens = sorted(counts, key=lambda token: (-counts[token], token))
    return tokens if vocabulary_size is None else tokens[: vocabulary_size - len(Tokenizer.special_tokens)]
