"""Strings in, their continuations out: a model that goes on from a prompt, with its tokenizer, in one graph."""

from keras_seqattn.text.text_to_text import valid


class TextGeneration:
    """Goes on from texts: what a language model writes after a prompt; `TextToText` is its counterpart for answers.

        text = detokenize(generate(the last tokens of tokenize(prompt)))

    Args:
        model: has `generate(prompt, max_length, end_id, decoder, prompt_mask)`, such as `GPT`.
        tokenizer: `Tokenizer`.
        max_prompt_length: int, tokens of a prompt that are read; of a longer one the last, and the answer says so.
        max_length: int, new tokens at most, the end token counted.
        decoder: `Greedy()`, `Sampling(...)`, `Beam(...)`; greedy when None.
        empty_prompt: str, what is read in the place of an empty prompt, as a model reads one token at least. None: the
            tokenizer's start token, such as GPT-2's <|endoftext|>. A model that was trained on running text without
            such a token, as those of characters mostly are, wants a text that a beginning follows, such as "\\n".
    Call arguments:
        prompts: (B,) strings, tokenized in the graph.
    Returns: dict of
        `text` (B,) string, the continuation alone, valid UTF-8;
        `score` (B,) float32, the decoder's (`Decoded.scores`);
        `tokens` (B, T) string, the new tokens, "" where there is none;
        `prompt_truncated` (B,) bool, whether the prompt was longer than what was read;
        `ended` (B,) bool, whether the model ended the text; otherwise it stops at its greatest length.
    Raises: ValueError when a length is below 1, both are more than the model's learned positions, or `empty_prompt` is
        empty.
    Example:
        >>> tokenizer = keras_seqattn.text.CharacterTokenizer("ab \\n")
        >>> model = keras_seqattn.models.GPT(tokenizer.vocabulary_size, 9, model_dim=8, num_layers=1, num_heads=2)
        >>> generation = TextGeneration(model, tokenizer, max_prompt_length=4, max_length=6, empty_prompt="\\n")
        >>> generation(["", "ab", "a baa"])["prompt_truncated"].numpy().tolist()
        [False, False, True]
    """

    def __init__(self, model, tokenizer, max_prompt_length, max_length, decoder=None, empty_prompt=None):
        lengths = {"max_prompt_length": max_prompt_length, "max_length": max_length}
        for name, length in lengths.items():
            if length < 1:
                raise ValueError(f"`{name}` is a number of tokens of at least 1. Received: {length}.")
        known = getattr(model, "max_length", None) if getattr(model, "positions", None) == "learned" else None
        if known is not None and max_prompt_length + max_length > known + 1:
            raise ValueError(
                "The last token that is read must have a position, so `max_prompt_length` + `max_length` - 1 must not "
                f"exceed the model's {known}. Received: {max_prompt_length=}, {max_length=}."
            )
        if empty_prompt is not None and not empty_prompt:
            raise ValueError(
                "`empty_prompt` is what a model reads instead of nothing: a text, or None for the start token. "
                f"Received: {empty_prompt=}."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.max_prompt_length = max_prompt_length
        self.max_length = max_length
        self.decoder = decoder
        self.empty_prompt = empty_prompt
        self._compiled = None

    def __call__(self, prompts):
        import tensorflow as tf

        if self._compiled is None:
            # One trace for all batch sizes and lengths.
            signature = [tf.TensorSpec((None,), tf.string)]
            self._compiled = tf.function(self.answer, input_signature=signature, autograph=False)
        return self._compiled(tf.convert_to_tensor(prompts, tf.string))

    def answer(self, prompts, use_xla=False):
        """The call itself, to be traced; `use_xla` compiles the model with its decoder, all but the strings."""
        import tensorflow as tf

        ids, mask, truncated = self.read(prompts, use_xla)
        generate = self.generate
        if use_xla:
            generate = tf.function(generate, jit_compile=True, autograph=False)
        decoded = generate(ids, mask)
        steps = tf.maximum(tf.reduce_max(decoded.lengths), 1)
        is_token = tf.sequence_mask(decoded.lengths, steps)
        return {
            "text": self.text(decoded.ids, decoded.lengths),
            "score": decoded.scores,
            "tokens": tf.where(is_token, self.tokenizer.tokens(decoded.ids[:, :steps]), ""),
            "prompt_truncated": truncated,
            "ended": decoded.lengths < self.max_length,
        }

    def generate(self, prompt, mask):
        """From ids and mask (B, P) to `Decoded`: the part without strings."""
        end_id = self.tokenizer.end_id
        return self.model.generate(prompt, self.max_length, end_id, self.decoder, prompt_mask=mask)

    def read(self, prompts, to_full_length=False):
        """What the model reads of prompts (B,): ids (B, P), their mask (B, P), and whether each was cut (B,).

        Args:
            to_full_length: bool, whether P is always `max_prompt_length`; else that of the longest prompt.
        """
        import tensorflow as tf

        prompts = tf.convert_to_tensor(prompts, tf.string)
        ids = self.tokenizer.tokenize(prompts)
        lengths = ids.row_lengths()
        if self.empty_prompt is None:
            instead = tf.constant([self.tokenizer.start_id], tf.int32)
        else:
            instead = self.tokenizer.tokenize(tf.constant([self.empty_prompt])).flat_values  # (E,)
        # Rows with `instead` in front where there is nothing else.
        repeats = tf.cast(tf.equal(lengths, 0), tf.int64)
        instead = tf.RaggedTensor.from_row_lengths(
            tf.tile(instead, [tf.reduce_sum(repeats)]), repeats * tf.size(instead, tf.int64)
        )
        ids = tf.concat([instead, ids], axis=1)[:, -self.max_prompt_length :]
        kept = tf.cast(ids.row_lengths(), tf.int32)  # (B,)
        # An empty batch has a step too.
        length = self.max_prompt_length if to_full_length else tf.reduce_max(tf.concat([kept, [1]], axis=0))
        ids = ids.to_tensor(0)
        ids = tf.pad(ids, [[0, 0], [0, length - tf.shape(ids)[1]]])
        ids = tf.ensure_shape(ids, (None, self.max_prompt_length if to_full_length else None))  # (B, P)
        return ids, tf.sequence_mask(kept, length), lengths > self.max_prompt_length

    def text(self, ids, lengths):
        """What ids (B, T) spell, of each row the first `lengths` (B,): valid UTF-8."""
        import tensorflow as tf

        return valid(self.tokenizer.detokenize(tf.RaggedTensor.from_tensor(ids, lengths=lengths)))
