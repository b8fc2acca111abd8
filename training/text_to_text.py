"""An experiment from texts to texts: what the recipes `dates` and `translate` share.

Data to tokenizers, tokenizers to a model, the fit loop, and the figures on the test part, all in one run folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras

from keras_seqattn.decoding import Beam, Greedy
from keras_seqattn.models import Seq2Seq
from keras_seqattn.text import TextToText, load_tokenizer
from keras_seqattn.training import evaluate as evaluation
from keras_seqattn.training.bucketing import tokenize_pairs
from keras_seqattn.training.callbacks import Alignments, SampleAnswers
from keras_seqattn.training.data.splits import Splits
from keras_seqattn.training.fit import FitSettings, fit
from keras_seqattn.training.run_folder import DONE, RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from keras_seqattn.text import Tokenizer

Score = Callable[[Sequence[str], Sequence[str]], dict[str, Any]]


@dataclass(frozen=True)
class TextToTextConfig(FitSettings):
    """Settings of the model, of decoding and of the run, beside those of the training."""

    cell: Literal["lstm", "gru", "elman"] = "lstm"
    """recurrent cell of encoder and decoder"""
    attention: Literal["general", "dot", "concat", "bahdanau"] = "general"
    """how the decoder compares itself with the source"""
    attend: Literal["after", "before"] = "after"
    """whether the decoder reads the source after its cell has run (Luong) or before (Bahdanau)"""
    input_feeding: bool = True
    """whether the decoder's cell also reads its last attention vector"""
    units: int = 256
    """width of the decoder's state, and of each direction of the encoder"""
    embedding_dim: int = 256
    """width of the embeddings"""
    num_layers: int = 1
    """cells on top of each other, in encoder and decoder"""
    dropout: float = 0.0
    """share of features dropped, on embeddings, between layers and before the logits"""
    beam_width: int = 1
    """beams in the evaluation; 1 is greedy"""
    length_penalty: float = 1.0
    """exponent by which a beam's longer answers are favoured"""
    num_samples: int = 4
    """validation texts whose answers and alignments TensorBoard shows"""
    run_dir: str = ""
    """folder of the run; empty: runs/RECIPE"""
    resume: bool = False
    """whether to go on with the run in that folder"""

    recipe: ClassVar[str] = ""
    at_least: ClassVar[dict[str, int]] = {
        **FitSettings.at_least,
        "units": 1,
        "embedding_dim": 1,
        "num_layers": 1,
        "dropout": 0,
        "beam_width": 1,
        "length_penalty": 0,
        "num_samples": 0,
    }

    def recorded(self) -> dict[str, Any]:
        """What config.json holds: the recipe and every setting that shapes its result."""
        settings = dataclasses.asdict(self)
        return {
            "recipe": self.recipe,
            **{name: settings[name] for name in settings if name not in ("run_dir", "resume")},
        }


def train(
    config: TextToTextConfig,
    splits: Splits,
    learn: Callable[[], tuple[Tokenizer, Tokenizer]],
    scores: Sequence[Score],
    console: Console,
) -> dict[str, Any]:
    """Trains, evaluates, and leaves a finished run folder.

    Args:
        learn: makes the tokenizers of source and target from the training part; a resumed run loads its own instead.
        scores: figures beside the exact match, from answers and right answers.
    Returns: the figures, as written to metrics.json; a finished run keeps its own.
    Raises: RunError, ValueError.
    """
    keras.utils.set_random_seed(config.seed)
    run = RunFolder.start(
        config.run_dir or f"runs/{config.recipe}",
        {**config.recorded(), "data_fingerprint": splits.fingerprint},
        config.resume,
    )
    if run.is_done:
        console.print(f"The run in {run.path} has finished; these are its figures.", highlight=False, soft_wrap=True)
        return run.read_json(DONE)
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

    model = Seq2Seq(
        source_tokenizer.vocabulary_size,
        target_tokenizer.vocabulary_size,
        units=config.units,
        embedding_dim=config.embedding_dim,
        num_layers=config.num_layers,
        cell=config.cell,
        attention=config.attention,
        attend=config.attend,
        input_feeding=config.input_feeding,
        dropout=config.dropout,
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
    figures = fit(
        model,
        parts["train"],
        parts["validation"],
        {"start_id": target_tokenizer.start_id, "end_id": target_tokenizer.end_id},
        config,
        run,
        callbacks=[
            SampleAnswers(watched, samples, run.tensorboard, console),
            Alignments(watched, [source for source, _ in samples], run.tensorboard),
        ],
        console=console,
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
