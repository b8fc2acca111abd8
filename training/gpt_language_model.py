"""A language model by GPT, of characters or byte pairs.

    P(token_{t+1} | the tokens before it in the window) = softmax(GPT(tokens)_t)

Trains on windows that begin anywhere in the text. What it is worth is measured on windows side by side: each token of
the part counts once, the first of a window with nothing before them.

References: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np
from rich.console import Console

from keras_seqattn.decoding import Greedy, Sampling, SuppressTokens
from keras_seqattn.models import GPT
from keras_seqattn.text import BytePairTokenizer, CharacterTokenizer, load_tokenizer
from keras_seqattn.training.callbacks import BitsPerToken, WrittenText
from keras_seqattn.training.callbacks.bits_per_token import bits
from keras_seqattn.training.data import TextParts
from keras_seqattn.training.fit import FitSettings, fit, start
from keras_seqattn.training.run_folder import RunFolder
from keras_seqattn.training.windows import Windows, cut_windows

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_seqattn.text import Tokenizer

TOKENIZERS: dict[str, type[Tokenizer]] = {"characters": CharacterTokenizer, "byte_pairs": BytePairTokenizer}


@dataclass(frozen=True)
class Config(FitSettings):
    """Language model of a text by a transformer that only decodes."""

    model: Literal["gpt"] = "gpt"
    """kind of model; the other settings depend on it"""
    data: str = ""
    """a text file, plain or .gz, or a folder that holds input.txt; empty: tiny_shakespeare in the folder that
    SEQATTN_DATA names, or else a download"""
    tokens: Literal["characters", "byte_pairs"] = "characters"
    """what a token is"""
    vocabulary_size: int = 2000
    """byte pairs at most; characters take all that occur"""
    model_dim: int = 256
    """width of each step"""
    num_layers: int = 6
    """blocks"""
    num_heads: int = 8
    """heads of each attention, which share the width"""
    positions: Literal["learned", "sinusoidal", "rotary", "alibi", "relative"] = "rotary"
    """how a token knows where it stands"""
    window: int = 128
    """tokens that are read together"""
    batch_size: int = 32
    """windows in a batch"""
    epochs: int = 10
    """passes over as many tokens as the training part has"""
    dropout: float = 0.1
    """share of features dropped, on embeddings and on what each part adds"""
    attention_dropout: float = 0.0
    """share of attention scores dropped"""
    learning_rate: float = 2e-3
    """highest learning rate, reached after the warm-up"""
    warmup_steps: int = 100
    """steps in which the learning rate rises from zero"""
    weight_decay: float = 0.1
    """share of each kernel that a step takes away, times the learning rate"""
    adam_beta_2: float = 0.99
    """share that Adam keeps of its mean of squared gradients at each step"""
    written_length: int = 120
    """tokens that the model writes after each epoch; less than `window`"""
    temperature: float = 0.8
    """by which its logits are divided when it writes; 0 takes the likeliest token"""

    recipe: ClassVar[str] = "language_model"
    at_least: ClassVar[dict[str, float]] = {
        "vocabulary_size": 1,
        "model_dim": 1,
        "num_layers": 1,
        "num_heads": 1,
        "window": 2,
        "batch_size": 1,
        "dropout": 0,
        "attention_dropout": 0,
        "written_length": 0,
        "temperature": 0,
    }

    def __post_init__(self) -> None:
        """Refuses a text to write that is longer than what is read."""
        super().__post_init__()
        if self.written_length >= self.window:
            raise ValueError(
                "`written_length` must be below `window`, as the model knows no longer texts. "
                f"Received: written_length={self.written_length}, window={self.window}."
            )


def train(config: Config, parts: TextParts, console: Console) -> dict[str, Any]:
    """Trains, evaluates, and returns the figures, bits per character among them."""
    kind = TOKENIZERS[config.tokens]
    tokenizer = kind.learn([parts.train], config.vocabulary_size if config.tokens == "byte_pairs" else None)
    ids, validation = ids_of(parts.train, tokenizer), side_by_side(ids_of(parts.validation, tokenizer), config)
    if len(ids) <= config.window:  # told before anything is written
        raise ValueError(
            f"A text must be longer than `window`. Received: {len(ids)} tokens to train on, window={config.window}."
        )
    run, figures = start(config, parts.fingerprint, console)
    if figures is not None:
        return figures
    tokenizer.save(run.tokenizer)
    model = GPT(
        tokenizer.vocabulary_size,
        config.window,
        model_dim=config.model_dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        positions=config.positions,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        dtype=config.precision,
    )
    steps = max(1, len(ids) // (config.window * config.batch_size))
    name = "character" if config.tokens == "characters" else "token"
    console.print(
        f"train: {len(parts.train):,} characters, {len(ids):,} tokens of {tokenizer.vocabulary_size:,} kinds, "
        f"{steps:,} steps\nvalidation: {len(parts.validation):,} characters\n"
        f"model: {model.count_params():,} weights; XLA {'on' if config.use_xla() else 'off'}",
        highlight=False,
    )
    figures = fit(
        model,
        lambda first_epoch: anywhere(ids, config, steps, first_epoch),
        steps,
        validation.dataset(),
        config,
        run,
        callbacks=[
            BitsPerToken(run.tensorboard, name),
            WrittenText(writer(model, tokenizer, config), run.tensorboard, console),
        ],
        console=console,
    )
    run.save_model(model, run.model)
    figures = {**measure(model, tokenizer, config, parts), **figures}
    run.write_json("metrics.json", figures)
    return figures


def evaluate(run: RunFolder, config: Config, parts: TextParts) -> dict[str, Any]:
    """The figures of a finished run."""
    model = keras.saving.load_model(run.model, compile=False)
    return measure(model, load_tokenizer(run.tokenizer), config, parts)


def anywhere(ids: np.ndarray, config: Config, steps: int, first_epoch: int) -> tf.data.Dataset:
    """Batches of windows that begin anywhere; where depends on the seed and the epoch alone."""
    import tensorflow as tf

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for epoch in range(first_epoch, config.epochs):
            rng = np.random.default_rng((config.seed, epoch))
            for _ in range(steps):
                places = rng.integers(len(ids) - config.window, size=(config.batch_size, 1))
                windows = ids[places + np.arange(config.window + 1)]  # (B, W + 1)
                yield windows[:, :-1], windows[:, 1:]

    spec = tf.TensorSpec((config.batch_size, config.window), tf.int32)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=(spec, spec))
    known = tf.data.experimental.assert_cardinality(steps * (config.epochs - first_epoch))
    return dataset.apply(known).prefetch(tf.data.AUTOTUNE)


def side_by_side(ids: np.ndarray, config: Config) -> Windows:
    """A part in windows, each of its tokens once; a short part in fewer rows, or in a shorter window."""
    window = min(config.window, len(ids) - 1)
    return cut_windows(ids, min(config.batch_size, (len(ids) - 1) // window), window)


def measure(model: GPT, tokenizer: Tokenizer, config: Config, parts: TextParts) -> dict[str, Any]:
    """The figures of the two parts that were not trained on."""
    import tensorflow as tf

    read = tf.function(model, input_signature=[tf.TensorSpec((None, None), tf.int32)], autograph=False)
    figures: dict[str, Any] = {"test_characters": len(parts.test)}
    for name, text in (("test", parts.test), ("validation", parts.validation)):
        ids, nats = ids_of(text, tokenizer), 0.0
        for inputs, targets, weights in side_by_side(ids, config).dataset():
            loss = keras.ops.sparse_categorical_crossentropy(targets, read(inputs), from_logits=True)  # (B, W)
            nats += float(keras.ops.sum(weights * loss))
        if config.tokens != "characters":
            figures[f"{name}_nats_per_token"] = round(nats / (len(ids) - 1), 4)
        figures[f"{name}_nats_per_character"] = round(nats / (len(text) - 1), 4)
        figures[f"{name}_bits_per_character"] = round(bits(nats / (len(text) - 1)), 4)
    return figures


def writer(model: GPT, tokenizer: Tokenizer, config: Config) -> Callable[[int], str]:
    """A function that has the model write a text after an end of line; with the same noise after each epoch."""
    import tensorflow as tf

    options = {"constraints": [SuppressTokens(tokenizer.special_ids)]}  # none of them stands in a text
    decoder: Greedy | Sampling = Greedy(**options)
    if config.temperature > 0:
        decoder = Sampling(temperature=config.temperature, seed=config.seed, **options)
    prompt = tf.constant(ids_of("\n", tokenizer)[None])

    @tf.function(autograph=False)
    def written() -> tf.Tensor:
        return model.generate(prompt, config.written_length, decoder=decoder).ids

    def write(epoch: int) -> str:
        if config.written_length == 0:
            return ""
        return tokenizer.detokenize(written()).numpy()[0].decode("utf-8", "replace")

    return write


def ids_of(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """The ids (N,) of a text."""
    return tokenizer.tokenize([text]).flat_values.numpy()
