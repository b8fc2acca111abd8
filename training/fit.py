"""The one fit loop: what every recipe sets, how a model is compiled for it, and how a run goes on after a stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras

from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.training.callbacks.checkpoints import Checkpoints, saved
from keras_seqattn.training.callbacks.progress import Progress
from keras_seqattn.training.callbacks.scalars import Scalars
from keras_seqattn.training.callbacks.seed_each_epoch import SeedEachEpoch
from keras_seqattn.training.computation import ComputationSettings
from keras_seqattn.training.optimization import OptimizationSettings, optimizer
from keras_seqattn.training.run_folder import DONE, RunFolder

if TYPE_CHECKING:
    import tensorflow as tf


KEPT = ("loss", "val_loss", "val_{accuracy}", "averaged_val_loss")  # of the curves, in the final figures


@dataclass(frozen=True)
class FitSettings(OptimizationSettings, ComputationSettings):
    """What every recipe sets about its training and its run."""

    epochs: int = 10
    """passes over the training part"""
    average_checkpoints: int = 1
    """epochs at the end whose weights' mean is the trained model; 1 takes the last ones as they are"""
    seed: int = 0
    """of weights, dropout, and the order of the data"""
    run_dir: str = ""
    """folder of the run; empty: runs/RECIPE"""
    resume: bool = False
    """whether to go on with the run in that folder"""

    recipe: ClassVar[str] = ""
    at_least: ClassVar[dict[str, float]] = {"epochs": 1, "average_checkpoints": 1, "seed": 0}

    def recorded(self) -> dict[str, Any]:
        """What config.json holds: the recipe and every setting that shapes its result."""
        settings = {name: value for name, value in self.as_dict().items() if name not in ("run_dir", "resume")}
        return {"recipe": self.recipe, **settings}


def start(settings: FitSettings, data_fingerprint: str, console: Any) -> tuple[RunFolder, dict[str, Any] | None]:
    """The folder of a run that begins or goes on, all that is random seeded; and of a finished one also its figures.

    Raises: RunError.
    """
    keras.utils.set_random_seed(settings.seed)
    run = RunFolder.start(
        settings.run_dir or f"runs/{settings.recipe}",
        {**settings.recorded(), "data_fingerprint": data_fingerprint},
        settings.resume,
    )
    if not run.is_done:
        return run, None
    console.print(f"The run in {run.path} has finished; these are its figures.", highlight=False, soft_wrap=True)
    return run, run.read_json(DONE)


def compile_model(
    model: keras.Model,
    settings: FitSettings,
    steps: int,
    loss: keras.losses.Loss | None = None,
    accuracy: str = "token_accuracy",
) -> None:
    """Compiles a sequence model: Adam, warm-up and decay, clipped gradients, cross-entropy over tokens.

    Args:
        steps: of the whole training.
        loss: in place of the mean cross-entropy of the tokens.
        accuracy: name of the share of targets that are the likeliest by the logits.
    """
    model.compile(
        optimizer=optimizer(settings, model, steps),
        loss=loss or SequenceCrossentropy(),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name=accuracy)],
        jit_compile=settings.use_xla(),
    )


def fit(
    model: keras.Model,
    train: Callable[[int], tf.data.Dataset],
    steps: int,
    validation: tf.data.Dataset,
    settings: FitSettings,
    run: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    console: Any = None,
    loss: keras.losses.Loss | None = None,
    accuracy: str = "token_accuracy",
) -> dict[str, float]:
    """Trains `model`, or goes on from the run's newest checkpoint, and saves it in the run's folder.

    Args:
        train: gives the batches of all epochs from this one on, in an order that the seed and the epoch alone decide.
        steps: batches an epoch.
        validation: batches to watch the training by.
        callbacks: beside the progress bar, TensorBoard's scalars and the checkpoints.
        loss, accuracy: as for `compile_model`.
    Returns: figures of the training: `train_seconds` of this call, compilation included, `epochs`, `val_loss`, ...;
        after a resumption also `resumed_after_epochs`.
    """
    compile_model(model, settings, steps * settings.epochs, loss, accuracy)
    first_epoch = 0
    checkpoints = saved(run)
    if checkpoints:
        path, first_epoch = checkpoints[-1]
        take_over(model, path)
    began = time.monotonic()
    logs: dict[str, float] = {}
    if first_epoch < settings.epochs:
        history = model.fit(
            train(first_epoch),
            validation_data=validation,
            initial_epoch=first_epoch,
            epochs=settings.epochs,
            steps_per_epoch=steps,
            shuffle=False,  # the data set has an order of its own
            verbose=0,
            callbacks=[
                SeedEachEpoch(settings.seed),
                Progress(steps, console),
                Scalars(run.tensorboard, write_graph=False, update_freq=20),
                *callbacks,
                Checkpoints(run, keep=settings.average_checkpoints),
            ],
        )
        logs = {name: values[-1] for name, values in history.history.items()}
    if settings.average_checkpoints > 1:
        average(model, [path for path, _ in saved(run)])
        logs["averaged_val_loss"] = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
    kept = [name.format(accuracy=accuracy) for name in KEPT]
    return {
        "train_seconds": round(time.monotonic() - began, 1),
        "epochs": settings.epochs,
        **({"resumed_after_epochs": first_epoch} if first_epoch else {}),
        **{name: round(float(logs[name]), 5) for name in kept if name in logs},
    }


def average(model: keras.Model, paths: Sequence[Any]) -> None:
    """Gives `model` the mean of the weights of checkpoints, as Vaswani et al. 2017 (sec. 6.1) did."""
    sums: list[Any] = []
    for path in paths:
        model.load_weights(path)
        values = [variable.numpy().astype("float64") for variable in model.trainable_variables]
        sums = values if not sums else [a + b for a, b in zip(sums, values, strict=True)]
    for variable, total in zip(model.trainable_variables, sums, strict=True):
        variable.assign((total / len(paths)).astype(variable.dtype))


def take_over(model: keras.Model, path: Any) -> None:
    """Weights and optimizer of the checkpoint at `path`, for `model`, which is compiled alike."""
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
