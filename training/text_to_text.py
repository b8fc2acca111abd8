"""An experiment from texts to texts: what the recipes `dates` and `translate` share.

Data to tokenizers, tokenizers to a model, the fit loop, and the figures on the test part, all in one run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras

from keras_seqattn.decoding import Beam, Greedy
from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.text import TextToText, load_tokenizer
from keras_seqattn.training import evaluate as evaluation
from keras_seqattn.training.bucketing import batches, sample_pairs, tokenize_pairs
from keras_seqattn.training.callbacks import Alignments, SampleAnswers
from keras_seqattn.training.data.splits import Splits
from keras_seqattn.training.fit import FitSettings, fit, start
from keras_seqattn.training.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from keras_seqattn.text import Tokenizer

Score = Callable[[Sequence[str], Sequence[str]], dict[str, Any]]


@dataclass(frozen=True)
class TextToTextSettings(FitSettings):
    """Settings of the pairs and of decoding, beside those of the training; those of the model come from `models`."""

    batch_tokens: int = 1536
    """steps in a batch, padding counted; a bucket of length n has about batch_tokens / n pairs a batch"""
    bucket_boundaries: tuple[int, ...] = (8, 12, 16, 24, 40)
    """greatest length of each bucket, in tokens; longer pairs are left out, and counted"""
    label_smoothing: float = 0.0
    """share of each target that is spread over the vocabulary"""
    beam_width: int = 1
    """beams in the evaluation; 1 is greedy"""
    length_penalty: float = 1.0
    """exponent by which a beam's longer answers are favoured"""
    num_samples: int = 4
    """validation texts whose answers and alignments TensorBoard shows"""

    at_least: ClassVar[dict[str, float]] = {
        "batch_tokens": 1,
        "label_smoothing": 0,
        "beam_width": 1,
        "length_penalty": 0,
        "num_samples": 0,
    }

    def build(self, source_size: int, target_size: int, max_source_length: int, steps: int) -> keras.Model:
        """A new model; each of `training.models` says how."""
        raise NotImplementedError


def train(
    config: TextToTextSettings,
    splits: Splits,
    learn: Callable[[], tuple[Tokenizer, Tokenizer]],
    scores: Sequence[Score],
    console: Console,
    subword_sampling: float = 0.0,
) -> dict[str, Any]:
    """Trains, evaluates, and leaves a finished run folder.

    Args:
        learn: makes the tokenizers of source and target from the training part; a resumed run loads its own instead.
        scores: figures beside the exact match, from answers and right answers.
        subword_sampling: alpha of `SentencePieceTokenizer.sample`, by which the pieces of each training text are drawn
            anew each epoch; 0 reads the most probable ones.
    Returns: the figures, as written to metrics.json; a finished run keeps its own.
    Raises: RunError, ValueError.
    """
    run, finished = start(config, splits.fingerprint, console)
    if finished is not None:
        return finished
    if run.source_tokenizer.exists() and run.target_tokenizer.exists():
        source_tokenizer, target_tokenizer = load_tokenizer(run.source_tokenizer), load_tokenizer(run.target_tokenizer)
    else:
        source_tokenizer, target_tokenizer = learn()
        source_tokenizer.save(run.source_tokenizer)
        target_tokenizer.save(run.target_tokenizer)

    parts = {}
    for name, pairs in (("train", splits.train), ("validation", splits.validation)):
        parts[name] = tokenize_pairs(
            pairs, source_tokenizer, target_tokenizer, config.bucket_boundaries, config.batch_tokens
        )
        left_out = f", {parts[name].left_out} left out as too long" if parts[name].left_out else ""
        console.print(f"{name}: {len(pairs):,} pairs{left_out}", highlight=False)

    model = config.build(
        source_tokenizer.vocabulary_size,
        target_tokenizer.vocabulary_size,
        config.bucket_boundaries[-1],
        parts["train"].steps * config.epochs,
    )
    console.print(
        f"model: {model.count_params():,} weights; XLA {'on' if config.use_xla() else 'off'}", highlight=False
    )
    lengths = {
        "max_source_length": config.bucket_boundaries[-1],
        "max_target_length": max(bucket.target_length for bucket in parts["train"].buckets),
    }
    run.write_json("lengths.json", lengths)
    samples = splits.validation[: config.num_samples]
    # An export wants a text to warm up with, whatever TensorBoard shows.
    run.write_json("samples.json", {"texts": [source for source, _ in samples or splits.validation[:1]]})
    watched = TextToText(model, source_tokenizer, target_tokenizer, **lengths)
    sample = None
    if subword_sampling:
        sample = sample_pairs(
            parts["train"], splits.train, source_tokenizer, target_tokenizer, subword_sampling, config.seed
        )
    ids = {"start_id": target_tokenizer.start_id, "end_id": target_tokenizer.end_id}
    figures = fit(
        model,
        lambda first_epoch: batches(
            parts["train"], **ids, seed=config.seed, first_epoch=first_epoch, epochs=config.epochs, sample=sample
        ),
        parts["train"].steps,
        batches(parts["validation"], **ids),
        config,
        run,
        callbacks=[
            SampleAnswers(watched, samples, run.tensorboard, console),
            Alignments(watched, [source for source, _ in samples], run.tensorboard),
        ],
        console=console,
        loss=SequenceCrossentropy(label_smoothing=config.label_smoothing),
    )
    run.save_model(model, run.model)
    answering = load(run, decoder(config.beam_width, config.length_penalty), model)
    figures = {**evaluation.evaluate(answering, splits.test, scores), **figures}
    run.write_json("metrics.json", figures)
    return figures


def decoder(beam_width: int, length_penalty: float) -> Greedy | Beam:
    """Greedy search for one beam, else beam search."""
    return Greedy() if beam_width == 1 else Beam(beam_width, length_penalty)


def load(run: RunFolder, decoder: Greedy | Beam, model: keras.Model | None = None) -> TextToText:
    """The model of a run between its tokenizers, as it answers texts."""
    return TextToText(
        model or keras.saving.load_model(run.model, compile=False),
        load_tokenizer(run.source_tokenizer),
        load_tokenizer(run.target_tokenizer),
        decoder=decoder,
        **run.read_json("lengths.json"),
    )
