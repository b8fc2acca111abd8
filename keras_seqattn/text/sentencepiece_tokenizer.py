"""Subwords: frequent words whole, rare ones in pieces, and bytes for what the vocabulary never saw."""

import base64
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np

from .tokenizer import REPLACEMENT, Tokenizer, import_tensorflow_text, normalized_batches

MODEL_TYPES = ("bpe", "unigram")
NUM_BYTES = 256
# SentencePiece writes a space as ▁, so a ▁ in the text would come back as a space. Here it is written in two
# characters, the first from a private area and doubled up itself where a text really has it.
ESCAPE = "\U000f2581"
ESCAPES = ((ESCAPE, ESCAPE + "0"), ("▁", ESCAPE + "1"))


class SentencePieceTokenizer(Tokenizer):
    """One id a SentencePiece piece, with single bytes for characters that the vocabulary lacks: any text comes back.

    The vocabulary is learned by the library `sentencepiece`; tensorflow-text reads it in the graph.

    Args:
        model: bytes of a SentencePiece model with the special ids of `Tokenizer`, as `learn` makes it.
        normalization: names among "NFC", "NFKC", "lower", applied in this order before tokenizing.
    Raises: ValueError when `model` is no SentencePiece model, or has other special ids.
    References: Kudo 2018, arXiv 1804.10959 (unigram); Sennrich, Haddow, Birch 2016, arXiv 1508.07909 (BPE).
    Example:
        >>> tokenizer = SentencePieceTokenizer.learn(["to be or not to be"] * 10, vocabulary_size=280)
        >>> tokenizer.detokenize(tokenizer.tokenize(["not  to 飲む"])).numpy()[0].decode()
        'not  to 飲む'
    """

    learn_options = ("model_type", "character_coverage")

    def __init__(self, model, normalization=()):
        super().__init__(normalization)
        if not isinstance(model, bytes):
            raise ValueError(f"`model` must be the bytes of a SentencePiece model. Received: {type(model).__name__}.")
        self.model = model
        if self._pieces[: len(self.special_tokens)] != self.special_tokens:
            raise ValueError(
                f"`model` must have the pieces {', '.join(self.special_tokens)} as its first ids. "
                f"Received: {', '.join(self._pieces[: len(self.special_tokens)])}."
            )

    @property
    def trackables(self):
        return [self._processor]

    def get_config(self):
        return {"model": base64.b64encode(self.model).decode("ascii"), **super().get_config()}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "model": base64.b64decode(config["model"], validate=True)})

    @classmethod
    def _learn(cls, texts, vocabulary_size, normalization, model_type="unigram", character_coverage=0.9995):
        if model_type not in MODEL_TYPES:
            raise ValueError(f"`model_type` must be one of {', '.join(MODEL_TYPES)}. Received: {model_type=}.")
        if not 0.98 <= character_coverage <= 1:  # the library's own bounds
            raise ValueError(f"`character_coverage` must be in [0.98, 1]. Received: {character_coverage=}.")
        sentencepiece = import_sentencepiece()
        vocabulary_size = 8000 if vocabulary_size is None else vocabulary_size
        written = written_texts(texts, normalization)
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(written),
                model_writer=model,
                model_type=model_type,
                vocab_size=vocabulary_size,
                hard_vocab_limit=False,  # a small text has no more pieces than it has
                character_coverage=character_coverage,
                byte_fallback=True,
                pad_id=cls.pad_id,
                bos_id=cls.start_id,
                eos_id=cls.end_id,
                unk_id=cls.unknown_id,
                unk_surface=REPLACEMENT,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,  # see write_spaces
                max_sentence_length=2**30,  # by default, texts of more than 4192 bytes are skipped
                num_threads=1,  # sums of floats differ with the number of threads
                minloglevel=2,
            )
        except RuntimeError as error:
            raise ValueError(
                f"`vocabulary_size` must have room for {len(cls.special_tokens)} special tokens, {NUM_BYTES} bytes and "
                f"the characters that make up {character_coverage:.2%} of the texts. "
                f"Received: {vocabulary_size=}, and sentencepiece says: {error}"
            ) from error
        return cls(model.getvalue(), normalization)

    def sample(self, texts, alpha, seed):
        """One of the many ways to cut each text into pieces, drawn by chance: subword regularization in training.

            P(pieces) ~ (product of P(piece))^alpha    over all ways to cut the text, with a unigram model
            each merge is left out with probability alpha    with a BPE model (BPE-dropout)

        Outside the graph, by the library `sentencepiece`, which alone lets a seed decide.

        Args:
            texts: strings.
            alpha: float over 0; the smaller, the more even the chances of a unigram model, and the more pieces.
            seed: int from 0 to 2^32 - 1 that decides what is drawn.
        Returns: list of int32 arrays, the ids of each text.
        Raises: ValueError when `alpha` is not over 0.
        References: Kudo 2018, arXiv 1804.10959, section 3; Provilkov, Emelianenko, Voita 2020, arXiv 1910.13267.
        Example:
            >>> tokenizer = SentencePieceTokenizer.learn(["to be or not to be"] * 10, vocabulary_size=280)
            >>> drawn = tokenizer.sample(["not to be"], alpha=0.1, seed=0)
            >>> tokenizer.detokenize(drawn).numpy()[0].decode()
            'not to be'
        """
        if not alpha > 0:
            raise ValueError(f"`alpha` must be over 0. Received: {alpha=}.")
        sentencepiece = import_sentencepiece()
        processor = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        written = [text.decode("utf-8") for text in written_texts(texts, self.normalization)]
        sentencepiece.set_random_generator_seed(seed)
        with ThreadPoolExecutor(1) as thread:  # the seed is that of threads which have not drawn yet
            drawn = thread.submit(
                processor.encode, written, enable_sampling=True, alpha=alpha, nbest_size=-1, num_threads=1
            ).result()
        return [np.array(ids, "int32") for ids in drawn]

    def _ordinary_tokens(self):
        return self._pieces[len(self.special_tokens) :]

    def _tokenize(self, texts):
        return self._processor.tokenize(write_spaces(texts))

    def _detokenize(self, ids):
        return read_spaces(self._processor.detokenize(ids))

    @cached_property
    def _processor(self):
        import tensorflow as tf

        # Named after its content: a loaded SavedModel takes models of the same name for one, and reads the ids of the
        # target with the pieces of the source (tensorflow/text issue 1304).
        name = f"sentencepiece_{hashlib.sha256(self.model).hexdigest()[:16]}"
        with tf.init_scope():
            return import_tensorflow_text().SentencepieceTokenizer(self.model, out_type=tf.int32, name=name)

    @cached_property
    def _pieces(self):
        import tensorflow as tf

        with tf.init_scope():
            try:
                size = int(self._processor.vocab_size())
            except tf.errors.OpError as error:
                raise ValueError(
                    f"`model` must be the bytes of a SentencePiece model. Received: {len(self.model)} other bytes."
                ) from error
            return tuple(piece.decode("utf-8") for piece in self._processor.id_to_string(tf.range(size)).numpy())


def import_sentencepiece():
    """The library `sentencepiece`, or an ImportError that names the extra."""
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            "Vocabularies are learned and pieces drawn with the sentencepiece library. "
            "Install it with: pip install 'keras_seqattn[text]'."
        ) from error
    return sentencepiece


def written_texts(texts, normalization):
    """List of bytes: each text as the library `sentencepiece` gets it, as the graph would hand it on."""
    return [text for batch in normalized_batches(texts, normalization) for text in write_spaces(batch).numpy()]


def write_spaces(texts):
    """(B,) strings as SentencePiece gets them: escaped, and with a space in front, so that words begin alike.

    SentencePiece can add that space itself, but on the way back tensorflow-text takes away all that lead the text.
    """
    import tensorflow as tf

    for char, escaped in ESCAPES:
        texts = tf.strings.regex_replace(texts, char, escaped)
    return tf.where(texts == "", texts, tf.strings.join([" ", texts]))


def read_spaces(texts):
    """The inverse of `write_spaces`."""
    import tensorflow as tf

    texts = tf.strings.regex_replace(texts, "^ ", "")
    for char, escaped in reversed(ESCAPES):
        texts = tf.strings.regex_replace(texts, escaped, char)
    return texts
