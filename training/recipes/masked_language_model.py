"""BERT from the beginning:  seqattn train masked_language_model --data TEXT

A transformer that reads a text in both directions learns to guess words that are hidden from it. Its run is what
`seqattn train finetune_classifier --init RUN` begins with. Data: any text file, plain or .gz; without any, tiny
Shakespeare.

Reference: Devlin et al. 2019, arXiv 1810.04805; without its second task, which Liu et al. 2019 (arXiv 1907.11692)
found to be of no use, and masking each pass anew, as they do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
from rich.console import Console

from keras_seqattn.text import WordPieceTokenizer, load_tokenizer
from keras_seqattn.training.bert import BertSettings
from keras_seqattn.training.bucketing import tokenize
from keras_seqattn.training.callbacks import BitsPerToken
from keras_seqattn.training.data import TextParts, load_text
from keras_seqattn.training.fit import fit, start
from keras_seqattn.training.masking import Masked, Masking, pack
from keras_seqattn.training.run_folder import RunFolder

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_seqattn.models import Bert

# Words that the figures ask for are the same ones whatever the seed of a run is: runs can be compared.
SEEDS = {"validation": 1, "test": 2}


@dataclass(frozen=True)
class Config(BertSettings):
    """BERT by guessing masked words of a text."""

    data: str = ""
    """a text file, plain or .gz, or a folder that holds input.txt; empty: tiny_shakespeare in the folder that
    SEQATTN_DATA names, or else a download"""
    window: int = 128
    """tokens that are read together, [CLS] and [SEP] among them"""
    masked_share: float = 0.15
    """share of the tokens that are to be guessed"""
    epochs: int = 20
    """passes over the training part, with other words masked in each"""
    learning_rate: float = 1e-3
    """highest learning rate, reached after the warm-up"""
    warmup_steps: int = 200
    """steps in which the learning rate rises from zero"""

    recipe: ClassVar[str] = "masked_language_model"
    at_least: ClassVar[dict[str, float]] = {"window": 3}
    xla_on_cpu: ClassVar[bool] = True


@dataclass(frozen=True)
class Windows:
    """A text's parts in windows (N, W), and how their words are masked."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    masking: Masking

    @classmethod
    def of(cls, parts: TextParts, tokenizer: WordPieceTokenizer, config: Config) -> Windows:
        """The windows of all parts.

        Raises: ValueError when a part has no words.
        """
        masking = Masking.of(tokenizer, config.window, config.masked_share)
        found = {}
        for name in ("train", "validation", "test"):
            lines = [line for line in getattr(parts, name).split("\n") if line.strip()]
            found[name] = pack(tokenize(lines, tokenizer), config.window, tokenizer)
            if np.isin(found[name], masking.special_ids).all():
                raise ValueError(f"Each part of a text must have a word that is known. Received: {name} has none.")
        return cls(**found, masking=masking)

    def masked(self, part: str) -> Masked:
        """The part "validation" or "test" with words masked, the same ones each time."""
        return self.masking(getattr(self, part), np.random.default_rng(SEEDS[part]))


def run(config: Config, console: Console) -> dict[str, Any]:
    """Trains, evaluates, and returns the figures, accuracy and perplexity of the masked words among them."""
    parts = load_text(config.data or None)
    tokenizer = WordPieceTokenizer.learn(
        [line for line in parts.train.split("\n") if line.strip()] or [parts.train],
        config.vocabulary_size,
        lowercase=config.lowercase,
        keep_special_tokens=False,  # a text that spells [MASK] means the letters
    )
    windows = Windows.of(parts, tokenizer, config)
    # Built before the run begins: what does not fit is told before anything is written.
    keras.utils.set_random_seed(config.seed)
    model = config.build(
        vocabulary_size=tokenizer.vocabulary_size, max_length=config.window, num_segments=2, head="masked_words"
    )
    folder, figures = start(config, parts.fingerprint, console)
    if figures is not None:
        return figures
    tokenizer.save(folder.tokenizer)
    steps = -(-len(windows.train) // config.batch_size)
    console.print(
        f"train: {len(parts.train):,} characters, {len(windows.train):,} windows, {tokenizer.vocabulary_size:,} word "
        f"pieces, {steps:,} steps\nvalidation: {len(parts.validation):,} characters\n"
        f"model: {model.count_params():,} weights; XLA {'on' if config.use_xla() else 'off'}",
        highlight=False,
    )
    figures = fit(
        model,
        lambda first_epoch: masked_anew(windows, config, first_epoch),
        steps,
        in_batches(windows.masked("validation"), config.batch_size),
        config,
        folder,
        callbacks=[BitsPerToken(folder.tensorboard, "masked_word")],
        console=console,
        accuracy="masked_accuracy",
    )
    folder.save_model(model, folder.model)
    figures = {**measure(model, windows, config), **figures}
    folder.write_json("metrics.json", figures)
    return figures


def evaluate(run: RunFolder, config: Config) -> dict[str, Any]:
    """The figures of a finished run.

    Raises: RunError when the text is no longer the one that the run was trained on.
    """
    parts = load_text(config.data or None)
    run.check_data(parts.fingerprint)
    windows = Windows.of(parts, load_tokenizer(run.tokenizer), config)
    return measure(keras.saving.load_model(run.model, compile=False), windows, config)


def masked_anew(windows: Windows, config: Config, first_epoch: int) -> tf.data.Dataset:
    """Batches of the training part; their order and what is masked depend on the seed and the epoch alone."""
    rows = windows.train

    def generate() -> Iterator[Any]:
        for epoch in range(first_epoch, config.epochs):
            rng = np.random.default_rng((config.seed, epoch))
            order = rng.permutation(len(rows))
            for begin in range(0, len(order), config.batch_size):
                masked = windows.masking(rows[order[begin : begin + config.batch_size]], rng)
                yield batch_of(masked.rows(0, config.batch_size))

    steps = -(-len(rows) // config.batch_size)
    return dataset(generate, steps * (config.epochs - first_epoch), config.batch_size, windows.masking.slots)


def in_batches(masked: Masked, batch_size: int) -> tf.data.Dataset:
    """Batches of what is masked, in order; the last one is filled up with rows that weigh nothing."""
    begins = range(0, len(masked.ids), batch_size)

    def generate() -> Iterator[Any]:
        for begin in begins:
            yield batch_of(masked.rows(begin, batch_size))

    return dataset(generate, len(begins), batch_size, masked.steps.shape[1])


def batch_of(masked: Masked) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Inputs, targets and weights for `model.fit`."""
    return {"ids": masked.ids, "masked_steps": masked.steps}, masked.targets, masked.weights


def dataset(generate: Any, steps: int, batch_size: int, slots: int) -> tf.data.Dataset:
    """A data set of so many batches, of static shapes but for the window's length."""
    import tensorflow as tf

    per_slot = tf.TensorSpec((batch_size, slots), tf.int32)
    inputs = {"ids": tf.TensorSpec((batch_size, None), tf.int32), "masked_steps": per_slot}
    signature = (inputs, per_slot, tf.TensorSpec((batch_size, slots), tf.float32))
    found = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return found.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)


def measure(model: Bert, windows: Windows, config: Config) -> dict[str, Any]:
    """The figures of the two parts that were not trained on, over masked words that are the same each time."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def count(inputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        logits = model(inputs, training=False)  # (B, M, V)
        loss = keras.ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)  # (B, M)
        hits = keras.ops.cast(keras.ops.argmax(logits, axis=-1) == targets, "float32")
        return keras.ops.sum(weights * loss), keras.ops.sum(weights * hits)

    figures: dict[str, Any] = {}
    for part in ("test", "validation"):
        masked = windows.masked(part)
        sums = [count(*batch) for batch in in_batches(masked, config.batch_size)]
        words = int(masked.weights.sum())
        nats, hits = (sum(float(one) for one in column) / words for column in zip(*sums, strict=True))
        figures[f"{part}_masked_words"] = words
        figures[f"{part}_masked_accuracy"] = round(hits, 5)
        figures[f"{part}_nats_per_masked_word"] = round(nats, 4)
        figures[f"{part}_perplexity"] = round(math.exp(nats), 4)
    return figures
