"""Strings in, strings out: a model between its tokenizers, in one graph."""


class TextToText:
    """Answers texts with texts: what a run evaluates and what an export contains, so that the two cannot differ.

        answer = detokenize(generate(tokenize(text)))

    Args:
        model: has `generate(source, max_length, start_id, end_id, decoder)`, such as `Seq2Seq`.
        source_tokenizer, target_tokenizer: `Tokenizer`s.
        max_source_length: int, tokens of a text that are read; what is longer is cut, and the answer says so.
        max_target_length: int, tokens of an answer at most, the end token counted.
        decoder: `Greedy()`, `Beam(...)`; greedy when None.
    Call arguments:
        texts: (B,) strings. An empty text is answered as any other.
    Returns: dict of
        `answer` (B,) string, valid UTF-8; `score` (B,) float32, the decoder's (`Decoded.scores`);
        `source_truncated` (B,) bool, whether the text was longer than what was read;
        `answer_truncated` (B,) bool, whether the answer reached its greatest length without an end;
        `source_tokens` (B, S), `answer_tokens` (B, T) string, "" where there is padding;
        `attention` (B, T, S) float32, how much each answer token read of each source token; 0 elsewhere.
    Raises: ValueError when a length is below 1.
    """

    def __init__(self, model, source_tokenizer, target_tokenizer, max_source_length, max_target_length, decoder=None):
        lengths = {"max_source_length": max_source_length, "max_target_length": max_target_length}
        for name, length in lengths.items():
            if length < 1:
                raise ValueError(f"`{name}` is a number of tokens of at least 1. Received: {length}.")
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.max_source_length = max_source_length
        self.max_target_length = max_target_length
        self.decoder = decoder
        self._compiled = None

    def __call__(self, texts):
        import tensorflow as tf

        if self._compiled is None:
            # One trace for all batch sizes and lengths.
            signature = [tf.TensorSpec((None,), tf.string)]
            self._compiled = tf.function(self.answer, input_signature=signature, autograph=False)
        return self._compiled(tf.convert_to_tensor(texts, tf.string))

    def answer(self, texts, use_xla=False):
        """The call itself, to be traced; `use_xla` compiles the model with its decoder, all but the strings."""
        import tensorflow as tf

        source, truncated = self.read(texts)
        generate = self.generate
        if use_xla:
            generate = tf.function(generate, jit_compile=True, autograph=False)
        decoded = generate(source)
        steps = tf.maximum(tf.reduce_max(decoded.lengths), 1)
        answer_ids = decoded.ids[:, :steps]  # (B, T)
        is_answer = tf.sequence_mask(decoded.lengths, steps)[:, :, None]  # the end token has read, and is not shown
        return {
            "answer": self.text(answer_ids, decoded.lengths),
            "score": decoded.scores,
            "source_truncated": truncated,
            "answer_truncated": tf.equal(decoded.lengths, self.max_target_length),
            "source_tokens": visible(self.source_tokenizer, source),
            "answer_tokens": visible(self.target_tokenizer, answer_ids),
            "attention": tf.where(is_answer, tf.cast(decoded.attention[:, :steps], tf.float32), 0.0),
        }

    def generate(self, source):
        """From ids (B, S) to `Decoded`: the part without strings."""
        target = self.target_tokenizer
        return self.model.generate(source, self.max_target_length, target.start_id, target.end_id, self.decoder)

    def read(self, texts):
        """What the model reads of texts (B,): ids (B, S), at least one step, and whether each text was cut (B,)."""
        import tensorflow as tf

        ids = self.source_tokenizer.tokenize(texts)
        source = ids[:, : self.max_source_length].to_tensor(self.source_tokenizer.pad_id)  # (B, S)
        source = tf.pad(source, [[0, 0], [0, tf.cast(tf.equal(tf.shape(source)[1], 0), tf.int32)]])  # S >= 1
        return source, ids.row_lengths() > self.max_source_length

    def text(self, ids, lengths):
        """What ids (B, T) spell, of each row the first `lengths` (B,): valid UTF-8."""
        import tensorflow as tf

        return valid(self.target_tokenizer.detokenize(tf.RaggedTensor.from_tensor(ids, lengths=lengths)))


def visible(tokenizer, ids):
    """The tokens of ids (B, T), "" where there is padding."""
    import tensorflow as tf

    return tf.where(tf.equal(ids, tokenizer.pad_id), "", tokenizer.tokens(ids))


def valid(texts):
    """Texts (B,) as valid UTF-8: bytes that are none, such as half a character of byte pairs, become U+FFFD."""
    import tensorflow as tf

    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
