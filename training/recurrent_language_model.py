"""A recurrent language model of characters, by truncated backpropagation through time.

    hidden_t = cell(embedding(character_t), hidden_{t-1})
    P(character_{t+1} | all before it) = softmax(hidden_t @ kernel + bias)

The text is read in windows, many places side by side; the state is carried from window to window, the gradient is not
(`training/windows.py`).

References: Williams and Peng 1990 (truncated backpropagation through time); Karpathy 2015, The Unreasonable
Effectiveness of Recurrent Neural Networks (the task).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from rich.console import Console

from keras_seqattn.inspection import gates_figure
from keras_seqattn.layers import ElmanCell, GRUCell, JordanCell, LSTMCell, Recurrent
from keras_seqattn.text import CharacterTokenizer, load_tokenizer
from keras_seqattn.training.callbacks import BitsPerToken, Gates, ResetStates, WrittenText
from keras_seqattn.training.callbacks.bits_per_token import bits
from keras_seqattn.training.callbacks.reset_states import reset_states
from keras_seqattn.training.callbacks.summaries import as_png
from keras_seqattn.training.data import TextParts
from keras_seqattn.training.fit import FitSettings, fit, start
from keras_seqattn.training.run_folder import RunFolder
from keras_seqattn.training.windows import cut_windows

CELLS = {"gru": GRUCell, "lstm": LSTMCell, "elman": ElmanCell, "jordan": JordanCell}


@dataclass(frozen=True)
class Config(FitSettings):
    """Language model of a text's characters, read in windows with carried state."""

    model: Literal["rnn"] = "rnn"
    """kind of model; the other settings depend on it"""
    data: str = ""
    """a text file, plain or .gz, or a folder that holds input.txt; empty: tiny_shakespeare in the folder that
    SEQATTN_DATA names, or else a download"""
    cell: Literal["gru", "lstm", "elman", "jordan"] = "gru"
    """recurrent cell"""
    units: int = 256
    """width of each layer's state"""
    embedding_dim: int = 64
    """width of the characters' embeddings"""
    num_layers: int = 1
    """recurrent layers on top of each other"""
    dropout: float = 0.1
    """share of features dropped, on embeddings, between layers and before the logits"""
    window: int = 64
    """characters through which gradients flow back; the state is carried on from further back"""
    batch_size: int = 64
    """places of the text that are read side by side"""
    learning_rate: float = 4e-3
    """highest learning rate, reached after the warm-up; then it falls by a cosine to a fiftieth"""
    warmup_steps: int = 100
    """steps in which the learning rate rises from zero"""
    written_length: int = 200
    """characters that the model writes after each epoch"""
    temperature: float = 0.8
    """by which its logits are divided when it writes; 0 takes the likeliest character"""

    recipe: ClassVar[str] = "language_model"
    at_least: ClassVar[dict[str, float]] = {
        "units": 1,
        "embedding_dim": 1,
        "num_layers": 1,
        "dropout": 0,
        "window": 1,
        "batch_size": 1,
        "written_length": 0,
        "temperature": 0,
    }


def train(config: Config, parts: TextParts, console: Console) -> dict[str, Any]:
    """Trains, evaluates, and returns the figures, bits per character among them."""
    tokenizer = CharacterTokenizer.learn([parts.train])
    # Too short a text is told before anything is written.
    training, validation = (
        cut_windows(ids_of(part, tokenizer), config.batch_size, config.window)
        for part in (parts.train, parts.validation)
    )
    run, figures = start(config, parts.fingerprint, console)
    if figures is not None:
        return figures
    tokenizer.save(run.tokenizer)
    console.print(
        f"train: {len(parts.train):,} characters, {tokenizer.vocabulary_size - 4} different ones, "
        f"{training.steps:,} steps\nvalidation: {len(parts.validation):,} characters",
        highlight=False,
    )
    model = language_model(tokenizer.vocabulary_size, config, config.batch_size)
    console.print(
        f"model: {model.count_params():,} weights; XLA {'on' if config.use_xla() else 'off'}", highlight=False
    )
    reader, sentence = Reader(config, tokenizer), a_sentence(parts.validation)
    figures = fit(
        model,
        lambda first_epoch: training.dataset(config.epochs - first_epoch),
        training.steps,
        validation.dataset(),
        config,
        run,
        callbacks=[
            ResetStates(),
            BitsPerToken(run.tensorboard, "character"),
            WrittenText(lambda epoch: reader.take(model).write(config, epoch), run.tensorboard, console),
            Gates(lambda: reader.take(model).trace(sentence), visible(sentence, tokenizer), run.tensorboard),
        ],
        console=console,
    )
    reset_states(model)
    run.save_model(model, run.model)
    figures = {**measure(reader.take(model), parts), **figures}
    title = f"{CELLS[config.cell].__name__}({config.units}) after {config.epochs} epochs"
    picture = as_png(gates_figure(reader.trace(sentence), visible(sentence, tokenizer), title))
    run.replace(run.path / "pictures" / "gates.png", lambda path: path.write_bytes(picture))
    run.write_json("metrics.json", figures)
    return figures


def evaluate(run: RunFolder, config: Config, parts: TextParts) -> dict[str, Any]:
    """The figures of a finished run."""
    reader = Reader(config, load_tokenizer(run.tokenizer)).take(keras.saving.load_model(run.model, compile=False))
    return measure(reader, parts)


def language_model(vocabulary_size: int, config: Config, batch_size: int, return_trace: bool = False) -> keras.Model:
    """Ids (B, T) to logits (B, T, vocabulary_size) of the next ones; each call goes on where the last one ended.

    Args:
        return_trace: gives a dict of the logits and of the `trace`, what happened inside the cells; with several layers
            the names in it begin with the layer's number and a slash.
    """
    ids = keras.Input(batch_shape=(batch_size, None), dtype="int32", name="ids")
    x, traces = keras.layers.Embedding(vocabulary_size, config.embedding_dim)(ids), {}
    for index in range(config.num_layers):
        layer = Recurrent(
            CELLS[config.cell](config.units), return_sequences=True, return_trace=return_trace, stateful=True
        )
        x = layer(keras.layers.Dropout(config.dropout)(x))
        if return_trace:
            x, trace = x
            prefix = f"{index}/" if config.num_layers > 1 else ""
            traces.update({prefix + name: value for name, value in trace.items()})
    logits = keras.layers.Dense(vocabulary_size)(keras.layers.Dropout(config.dropout)(x))
    return keras.Model(ids, {"logits": logits, "trace": traces} if return_trace else logits)


class Reader:
    """The model as it reads one text from its beginning to its end, and as it writes one.

    Args:
        config: of the model.
        tokenizer: of the text.
    """

    def __init__(self, config: Config, tokenizer: CharacterTokenizer) -> None:
        import tensorflow as tf

        self.tokenizer = tokenizer
        self.model = language_model(tokenizer.vocabulary_size, config, batch_size=1, return_trace=True)
        signature = [tf.TensorSpec((1, None), tf.int32)]  # one trace for all lengths
        self.go_on = tf.function(self.model, input_signature=signature, autograph=False)

    def take(self, model: keras.Model) -> Reader:
        """The reader itself, with the weights of a model of any batch size."""
        for mine, theirs in zip(self.model.trainable_variables, model.trainable_variables, strict=True):
            mine.assign(theirs)
        return self

    def bits_per_character(self, text: str) -> float:
        """Mean of -log2 P(character | all before it), from the second one on."""
        ids = ids_of(text, self.tokenizer)
        windows = cut_windows(ids, batch_size=1, window=min(512, len(ids) - 1))
        reset_states(self.model)
        nats = 0.0
        for inputs, targets, weights in windows.dataset():
            logits = self.go_on(inputs)["logits"]
            loss = keras.ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)  # (1, W)
            nats += float(keras.ops.sum(weights * loss))
        return bits(nats / (len(ids) - 1))

    def trace(self, text: str) -> Mapping[str, Any]:
        """What happens inside the cells while they read `text` from zero states: arrays (1, T, U) by name."""
        reset_states(self.model)
        return self.go_on(ids_of(text, self.tokenizer)[None])["trace"]

    def write(self, config: Config, epoch: int) -> str:
        """A text that the model writes after an end of line; the same each time for a seed and an epoch."""
        rng, tokenizer = np.random.default_rng((config.seed, epoch)), self.tokenizer
        reset_states(self.model)
        read, written = ids_of("\n", tokenizer)[None], []  # (1, 1)
        for _ in range(config.written_length):
            logits = self.go_on(read)["logits"][0, -1].numpy().astype("float64")
            logits[list(tokenizer.special_ids)] = -np.inf  # none of them stands in a text
            if config.temperature == 0:
                chosen = int(logits.argmax())
            else:
                scores = np.exp((logits - logits.max()) / config.temperature)
                chosen = int(rng.choice(len(scores), p=scores / scores.sum()))
            written.append(chosen)
            read = np.array([[chosen]], "int32")
        return tokenizer.detokenize(np.array([written], "int32")).numpy()[0].decode("utf-8") if written else ""


def measure(reader: Reader, parts: TextParts) -> dict[str, Any]:
    """The figures of the two parts that were not trained on, each read as one text."""
    validation, test = reader.bits_per_character(parts.validation), reader.bits_per_character(parts.test)
    return {
        "test_characters": len(parts.test),
        "test_bits_per_character": round(test, 4),
        "test_perplexity": round(2**test, 4),
        "validation_bits_per_character": round(validation, 4),
        "validation_perplexity": round(2**validation, 4),
    }


def ids_of(text: str, tokenizer: CharacterTokenizer) -> np.ndarray:
    """The ids (N,) of a text."""
    return tokenizer.tokenize([text]).flat_values.numpy()


def visible(text: str, tokenizer: CharacterTokenizer) -> list[str]:
    """The characters of a text as they are drawn on an axis."""
    return [token.decode("utf-8") for token in tokenizer.tokens(ids_of(text, tokenizer)).numpy()]


def a_sentence(text: str, shortest: int = 20, longest: int = 60) -> str:
    """The first line that begins in the text and is long enough, cut to what a picture holds."""
    lines = (line for line in text.split("\n")[1:] if len(line.strip()) >= shortest)
    return next(lines, text)[:longest]
