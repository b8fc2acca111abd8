"""A batch of 64 sentences with a beam of 4 in one graph call, against 64 calls of one sentence each.

A model of the size of the recipe `translate` with random weights whose end token is as likely as a trained model makes
it: answers have the lengths of their sources. What is timed is the whole way from strings to strings.
"""

import keras
import tensorflow as tf

from benchmarks.timing import interleaved, table
from keras_seqattn.decoding import Beam
from keras_seqattn.models import Seq2Seq
from keras_seqattn.text import TextToText, WordTokenizer

SENTENCES, WORDS, VOCABULARY = 64, 8, 6000


class EndsWithItsSource:
    """A model whose end token comes when the answer is as long as the source, whatever its weights say."""

    def __init__(self, model, end_id):
        self.model = model
        self.end_id = end_id

    def generate(self, source, max_length, start_id, end_id, decoder):
        lengths = tf.reduce_sum(tf.cast(tf.not_equal(source, 0), tf.int32), axis=1)  # (B,)

        def timed(step, state, start_ids, max_length, end_id):
            def ending(ids, state, time):
                logits, state, attention = step(ids, state, time)
                beams = tf.shape(ids)[0] // tf.shape(lengths)[0]
                over = tf.repeat(tf.cast(time >= lengths, logits.dtype), beams)  # (B * G,)
                end = tf.one_hot(end_id, logits.shape[-1], dtype=logits.dtype)
                return logits + 100.0 * (2.0 * over[:, None] - 1.0) * end, state, attention

            return decoder(ending, state, start_ids, max_length, end_id)

        return self.model.generate(source, max_length, start_id, end_id, timed)


def main():
    keras.utils.set_random_seed(0)
    words = [f"w{index}" for index in range(VOCABULARY - 4)]
    tokenizer = WordTokenizer([f" {word}" for word in words])
    model = Seq2Seq(tokenizer.vocabulary_size, tokenizer.vocabulary_size, units=256, embedding_dim=256)
    texts = [
        "".join(f" {words[(row * 97 + column * 31) % len(words)]}" for column in range(WORDS - 3 + row % 7))
        for row in range(SENTENCES)
    ]
    answering = TextToText(EndsWithItsSource(model, tokenizer.end_id), tokenizer, tokenizer, 40, 40, Beam(4, 1.0))
    batch, alone = tf.constant(texts), [tf.constant([text]) for text in texts]
    seconds = interleaved(
        {
            f"one call of {SENTENCES} sentences": lambda: answering(batch)["answer"].numpy(),
            f"{SENTENCES} calls of one sentence": lambda: [answering(text)["answer"].numpy() for text in alone],
        }
    )
    table(f"Beam of 4, {SENTENCES} sentences, strings to strings", seconds)


if __name__ == "__main__":
    main()
