"""64 sentences with a beam of 4 in one graph call, against 64 calls of one sentence each, from strings to strings.

`python -m benchmarks.decoding runs/translate` takes the model and test sentences of that run. Without a run, a
model of the size of the recipe `translate` with random weights whose answers are made to end with their sources.
"""

import sys

import keras
import tensorflow as tf

from benchmarks.timing import interleaved, table
from keras_seqattn.decoding import Beam
from keras_seqattn.models import Seq2Seq
from keras_seqattn.text import TextToText, WordTokenizer

SENTENCES, VOCABULARY = 64, 6000


class EndsWithItsSource:
    """A model whose end token comes when the answer is as long as the source, whatever its weights say."""

    def __init__(self, model):
        self.model = model

    def generate(self, source, max_length, start_id, end_id, decoder):
        lengths = tf.reduce_sum(tf.cast(tf.not_equal(source, 0), tf.int32), axis=1)  # (B,)

        def timed(step, state, start_ids, max_length, end_id, **options):
            def ending(ids, state, time):
                logits, state, attention = step(ids, state, time)
                beams = tf.shape(ids)[0] // tf.shape(lengths)[0]
                over = tf.repeat(tf.where(time >= lengths, 100.0, -100.0), beams)[:, None]  # (B * G, 1)
                return tf.concat([logits[:, :end_id], over, logits[:, end_id + 1 :]], axis=1), state, attention

            return decoder(ending, state, start_ids, max_length, end_id, **options)

        return self.model.generate(source, max_length, start_id, end_id, timed)


def random_model():
    """A model with random weights, and sentences of 5 to 11 words."""
    keras.utils.set_random_seed(0)
    words = [f"w{index}" for index in range(VOCABULARY - 4)]
    tokenizer = WordTokenizer([f" {word}" for word in words])
    model = Seq2Seq(tokenizer.vocabulary_size, tokenizer.vocabulary_size, units=256, embedding_dim=256)
    texts = [
        "".join(f" {words[(row * 97 + column * 31) % len(words)]}" for column in range(5 + row % 7))
        for row in range(SENTENCES)
    ]
    return TextToText(EndsWithItsSource(model), tokenizer, tokenizer, 40, 40, Beam(4, 1.0)), texts


def trained_model(folder):
    """The model of a run, and sentences of its test part, taken evenly."""
    from keras_seqattn.cli import open_run
    from keras_seqattn.training.text_to_text import load

    run, recipe, config = open_run(folder)
    pairs = recipe.test_part(config)[0].test
    return load(run, Beam(4, 1.0)), [source for source, _ in pairs[:: len(pairs) // SENTENCES][:SENTENCES]]


def main(folder=None):
    answering, texts = trained_model(folder) if folder else random_model()
    batch, alone = tf.constant(texts), [tf.constant([text]) for text in texts]
    seconds = interleaved(
        {
            f"one call of {SENTENCES} sentences": lambda: answering(batch)["answer"].numpy(),
            f"{SENTENCES} calls of one sentence": lambda: [answering(text)["answer"].numpy() for text in alone],
        }
    )
    table(f"Beam of 4, {SENTENCES} sentences, strings to strings, {folder or 'random weights'}", seconds)


if __name__ == "__main__":
    main(*sys.argv[1:2])
