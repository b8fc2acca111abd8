"""The one fit loop: what every recipe sets, how a model is compiled for it, and how a run goes on after a stop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import keras

from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.training.bucketing import TokenizedPairs, batches
from keras_seqattn.training.callbacks.checkpoints import Checkpoints, saved
from keras_seqattn.training.callbacks.progress import Progress
from keras_seqattn.training.callbacks.scalars import Scalars
from keras_seqattn.training.callbacks.seed_each_epoch import SeedEachEpoch
from keras_seqattn.training.run_folder import RunFolder


@dataclass(frozen=True)
class FitSettings:
    """What every recipe sets about its training."""

    epochs: int = 10
    """passes over the training part"""
    batch_tokens: int = 1536
    """steps in a batch, padding counted; a bucket of length n has about batch_tokens / n pairs a batch"""
    bucket_boundaries: tuple[int, ...] = (8, 12, 16, 24, 40)
    """greatest length of each bucket, in tokens; longer pairs are left out, and counted"""
    learning_rate: float = 2e-3
    """highest learning rate, reached after the warm-up; then it falls by a cosine to a fiftieth"""
    warmup_steps: int = 400
    """steps in which the learning rate rises from zero"""
    clip_norm: float = 1.0
    """greatest norm of all gradients together; larger ones are scaled down to it"""
    label_smoothing: float = 0.0
    """share of each target that is spread over the vocabulary"""
    xla: Literal["auto", "on", "off"] = "auto"
    """whether the training step is compiled by XLA; auto: on a GPU or TPU, and on a CPU where this recipe measured
    faster"""
    seed: int = 0
    """of weights, dropout, and the order of the data"""

    at_least: ClassVar[dict[str, int]] = {
        "epochs": 1,
        "batch_tokens": 1,
        "warmup_steps": 0,
        "label_smoothing": 0,
        "seed": 0,
    }
    xla_on_cpu: ClassVar[bool] = False  # what "auto" means on a CPU; a recipe that measured faster with XLA says True

    def __post_init__(self) -> None:
        """Refuses numbers out of range before anything is written."""
        for name, bound in self.at_least.items():
            value = getattr(self, name)
            if value < bound:
                raise ValueError(f"`{name}` must be at least {bound}. Received: {name}={value}.")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"`{name}` must be above 0. Received: {name}={value}.")

    def use_xla(self) -> bool:
        """Whether the training step is compiled by XLA on this machine."""
        if self.xla != "auto":
            return self.xla == "on"
        import tensorflow as tf

        return self.xla_on_cpu or bool(tf.config.list_physical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def compile_model(model: keras.Model, settings: FitSettings, steps: int) -> None:
    """Compiles a sequence model: Adam, warm-up and cosine decay, clipped gradients, cross-entropy over tokens.

    Args:
        steps: of the whole training.
    """
    warmup = min(settings.warmup_steps, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.02, warmup_target=settings.learning_rate, warmup_steps=warmup
    )
    model.compile(
        optimizer=keras.optimizers.Adam(rate, global_clipnorm=settings.clip_norm),
        loss=SequenceCrossentropy(label_smoothing=settings.label_smoothing),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")],
        jit_compile=settings.use_xla(),
    )


def fit(
    model: keras.Model,
    train: TokenizedPairs,
    validation: TokenizedPairs,
    ids: dict[str, int],
    settings: FitSettings,
    run: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    console: Any = None,
) -> dict[str, float]:
    """Trains `model`, or goes on from the run's newest checkpoint, and saves it in the run's folder.

    Args:
        ids: `start_id` and `end_id` of the target.
        callbacks: beside the progress bar, TensorBoard's scalars and the checkpoints.
    Returns: figures of the training: `train_seconds` of this call, compilation included, `epochs`, `val_loss`, ...;
        after a resumption also `resumed_after_epochs`.
    """
    compile_model(model, settings, steps=train.steps * settings.epochs)
    first_epoch = 0
    checkpoints = saved(run)
    if checkpoints:
        path, first_epoch = checkpoints[-1]
        take_over(model, path)
    began = time.monotonic()
    logs: dict[str, float] = {}
    if first_epoch < settings.epochs:
        history = model.fit(
            batches(train, **ids, seed=settings.seed, first_epoch=first_epoch, epochs=settings.epochs),
            validation_data=batches(validation, **ids),
            initial_epoch=first_epoch,
            epochs=settings.epochs,
            steps_per_epoch=train.steps,
            shuffle=False,  # the data set is shuffled by seed and epoch
            verbose=0,
            callbacks=[
                SeedEachEpoch(settings.seed),
                Progress(train.steps, console),
                Scalars(run.tensorboard, write_graph=False, update_freq=20),
                *callbacks,
                Checkpoints(run),
            ],
        )
        logs = {name: values[-1] for name, values in history.history.items()}
    return {
        "train_seconds": round(time.monotonic() - began, 1),
        "epochs": settings.epochs,
        **({"resumed_after_epochs": first_epoch} if first_epoch else {}),
        **{name: round(float(logs[name]), 5) for name in ("loss", "val_loss", "val_token_accuracy") if name in logs},
    }


def take_over(model: keras.Model, path: Any) -> None:
    """Weights and optimizer of the checkpoint at `path`, for `model`, which is compiled alike."""
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
